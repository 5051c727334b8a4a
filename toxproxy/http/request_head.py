"""The head of an HTTP request as clients really send it, where that can be mended without a guess.

Only one thing is: bytes that are no ASCII in the target, which curl and others send as they were
typed. Everything else in a request has to keep to the rules, or two servers might read it differently.
"""

from __future__ import annotations

import re

_NO_ASCII = re.compile(rb"[\x80-\xff]")


def encode_target(head: bytes) -> bytes:
    """The same head, with the bytes of its target that are no ASCII percent-encoded (RFC 3986, section 2.1).

    Never raises.
    """
    line, newline, rest = head.partition(b"\n")
    if line.isascii():
        return head
    method, space, target = line.partition(b" ")
    target, second, version = target.rpartition(b" ")
    encoded = _NO_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), target)
    return method + space + encoded + second + version + newline + rest
