"""Mends one mistake in the head of an HTTP request: non-ASCII bytes in the target.

curl and others send them as they were typed. No other mistake in a request is mended, since two servers
might then read it differently (request smuggling).
"""

from __future__ import annotations

import re

_NOT_ASCII = re.compile(rb"[\x80-\xff]")


def encode_target(head: bytes) -> bytes:
    """The head with the non-ASCII bytes of its target percent-encoded (RFC 3986, section 2.1).

    Never raises.
    """
    line, newline, rest = head.partition(b"\n")
    if line.isascii():
        return head
    method, space, target = line.partition(b" ")
    target, second, version = target.rpartition(b" ")
    encoded = _NOT_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), target)
    return method + space + encoded + second + version + newline + rest
