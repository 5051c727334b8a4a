"""Mends the head of an HTTP response, as servers really send it, for h11.

h11 refuses a head with any mistake, and devices and old programs make many. Mended is what a proxy must
mend (RFC 9112, sections 2.2, 5.1 and 5.2) and what browsers ignore. The length of a message is never
guessed: a wrong line that may be about the length stays, and h11 refuses it. Requests are not mended
here: one that breaks the rules is refused.
"""

from __future__ import annotations

import re

_STATUS_LINE = re.compile(rb"(?:HTTP/([0-9]\.[0-9])|ICY)[ \t]+([0-9]{3})(?:[ \t]+(.*))?", re.DOTALL)
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_TO_SPACE = bytes.maketrans(b"\x00\x0b\x0c\r", b"    ")
_LENGTH, _CODING = b"content-length", b"transfer-encoding"


def clean_head(head: bytes, *, connect: bool = False) -> bytes:
    """A whole response head, with its empty line, mended as far as possible. Never raises.

    - White space before a field's colon is removed. A folded line is joined to the one before.
    - A line that is no field is dropped, and so is a folded line before the first field.
    - NUL, VT, FF and a bare CR in a value or a reason become spaces (RFC 9110, section 5.5).
    - The transfer coding `identity`, which HTTP no longer has, is removed.
    - `ICY 200 OK` (SHOUTcast) becomes HTTP/1.0.
    - `connect`: this answers a CONNECT. Content-Length and Transfer-Encoding of a 2xx answer are dropped
      (RFC 9110, section 9.3.6).
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
    """The trailer, with its empty line, mended. Content-Length and Transfer-Encoding are dropped."""
    return b"\r\n".join([*_fields(_lines(trailer), framed=False), b"", b""])


def _lines(text: bytes) -> list[bytes]:
    """The lines before the empty one, at least one. They are divided as h11 divides them."""
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    end = lines.index(b"", 1) if b"" in lines[1:] else len(lines)
    return lines[:end]


def _fields(lines: list[bytes], *, framed: bool) -> list[bytes]:
    """The field lines, mended. `framed`: they may give the length of the message."""
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
