"""An HTTP client that writes raw bytes and reads one response at a time."""

from __future__ import annotations

import asyncio
import re


def get(url: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {url} HTTP/{version}", "Host: x", *headers, "", ""]).encode()


async def head_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return int(head[9:12]), head


async def response(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """One response with a Content-Length."""
    status, head = await head_of(reader)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None, head
    return status, head, await reader.readexactly(int(length[1]))
