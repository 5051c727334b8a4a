"""The head of an HTTP response as servers really send it, made into one that the rules allow.

For responses only: a request that breaks the rules is refused. h11 takes no head that is wrong
anywhere, and devices and old programs send many that are. What is mended here is what a
proxy must mend (RFC 9112, sections 2.2, 5.1 and 5.2) and what browsers pass over. What tells where a
message ends is never guessed: a line that may have been meant to say that stays, and h11 refuses it.
"""

from __future__ import annotations

import re

_STATUS_LINE = re.compile(rb"(?:HTTP/([0-9]\.[0-9])|ICY)[ \t]+([0-9]{3})(?:[ \t]+(.*))?", re.DOTALL)
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_TO_SPACE = bytes.maketrans(b"\x00\x0b\x0c\r", b"    ")
_LENGTH, _CODING = b"content-length", b"transfer-encoding"


def clean_head(head: bytes, *, connect: bool = False) -> bytes:
    """A whole response head, up to and with its empty line, as h11 can read it where that is possible.

    - White space before a field's colon is taken out, a folded line is joined to the one before.
    - A line that is no field is dropped, also what is folded before the first field.
    - NUL, VT, FF and a bare CR in a value or a reason become spaces (RFC 9110, section 5.5).
    - The transfer coding `identity`, which HTTP no longer has, is taken out.
    - `ICY 200 OK` (SHOUTcast) is HTTP/1.0.

    With `connect` it answers a CONNECT: where it grants that, Content-Length and Transfer-Encoding
    are ignored (RFC 9110, section 9.3.6). Never raises.
    """
    status_line, *lines = _lines(head)
    if match := _STATUS_LINE.fullmatch(status_line):
        version, status, reason = match.groups(default=b"")
        status_line = b"HTTP/%s %s %s" % (version or b"1.0", status, _text(reason))
        connect = connect and status.startswith(b"2")
    else:
        connect = False
    return b"\r\n".join([status_line, *_fields(lines, framed=not connect), b"", b""])


def clean_trailer(trailer: bytes) -> bytes:
    """The lines behind the last chunk, with their empty line. What frames a message is dropped."""
    return b"\r\n".join([*_fields(_lines(trailer), framed=False), b"", b""])


def _lines(text: bytes) -> list[bytes]:
    """The lines before the empty one, at least one, divided where h11 divides them."""
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    end = lines.index(b"", 1) if b"" in lines[1:] else len(lines)
    return lines[:end]


def _fields(lines: list[bytes], *, framed: bool) -> list[bytes]:
    """The field lines; `framed` says whether they may tell the length of a message."""
    unfolded: list[bytearray] = []
    for line in lines:
        if line[:1] not in (b" ", b"\t"):
            unfolded.append(bytearray(line))
        elif unfolded:
            unfolded[-1] += b" " + line.strip(b" \t")
    fields = [_field(bytes(line), framed) for line in unfolded]
    return [field for field in fields if field is not None]


def _field(line: bytes, framed: bool) -> bytes | None:
    name, colon, value = line.partition(b":")
    name, value = name.rstrip(b" \t"), value.strip(b" \t")
    kind = name.lower()
    if not framed and (_LENGTH in kind or _CODING in kind):
        return None
    if not colon or not _TOKEN.fullmatch(name):
        return line if _LENGTH in kind or _CODING in kind else None
    if kind == _LENGTH:
        return name + b": " + value
    if kind == _CODING:
        return _without_identity(name, value)
    return name + b": " + _text(value)


def _without_identity(name: bytes, value: bytes) -> bytes | None:
    codings = [coding.strip(b" \t") for coding in value.split(b",")]
    left = [coding for coding in codings if coding.lower() != b"identity"]
    if not left:
        return None
    return name + b": " + (value if left == codings else b", ".join(left))


def _text(text: bytes) -> bytes:
    return text.translate(_TO_SPACE).strip(b" \t")
