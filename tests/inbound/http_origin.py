"""A small HTTP/1.1 server. The path of a request chooses what it does."""

from __future__ import annotations

import asyncio
import hashlib

import h11

from tests.inbound.peers import Origin, reset

BIG = bytes(range(256)) * 8192  # 2 MiB


class HttpOrigin(Origin):
    """Counts its connections and keeps the heads of the requests that it gets."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.requests: list[h11.Request] = []
        self.events: list[str] = []
        self.gate = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        while True:
            event = await self._next(http, reader)
            if not isinstance(event, h11.Request):
                return
            self.requests.append(event)
            action = getattr(
                self, "do_" + event.target.decode().strip("/").partition("?")[0].replace("-", "_")
            )
            await action(http, reader, writer, event)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _next(self, http, reader):
        while (event := http.next_event()) is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                self.events.append("continue")
            http.receive_data(await reader.read(65536))
        return event

    async def _body(self, http, reader) -> bytes:
        body = b""
        while isinstance(event := await self._next(http, reader), h11.Data):
            body += event.data
        return body

    async def _respond(self, http, writer, body: bytes, *headers, status: int = 200) -> None:
        all_headers = [("Content-Length", str(len(body))), *headers]
        writer.write(http.send(h11.Response(status_code=status, reason=b"Fine", headers=all_headers)))
        if body and http.their_state is not None:
            writer.write(http.send(h11.Data(data=body)))
        writer.write(http.send(h11.EndOfMessage()))
        await writer.drain()

    async def do_(self, http, reader, writer, request) -> None:
        await self.do_hello(http, reader, writer, request)

    async def do_hello(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        if request.method == b"HEAD":
            writer.write(http.send(h11.Response(status_code=200, headers=[("Content-Length", "5")])))
            writer.write(http.send(h11.EndOfMessage()))
            return
        await self._respond(http, writer, b"hello", ("X-Mine", "1"), ("Keep-Alive", "timeout=5"))

    async def do_digest(self, http, reader, writer, request) -> None:
        if http.they_are_waiting_for_100_continue:
            self.events.append("100")
            writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])))
        body = await self._body(http, reader)
        await self._respond(http, writer, hashlib.sha256(body).hexdigest().encode())

    async def do_big(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        await self._respond(http, writer, BIG)

    async def do_chunked(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        writer.write(http.send(h11.Response(status_code=200, headers=[("Trailer", "X-Sum")])))
        for piece in (b"one ", b"two ", b"three"):
            writer.write(http.send(h11.Data(data=piece)))
            await writer.drain()
        trailers = [("X-Sum", "3")] if http.their_http_version == b"1.1" else []
        writer.write(http.send(h11.EndOfMessage(headers=trailers)))

    async def do_not_modified(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        writer.write(http.send(h11.Response(status_code=304, headers=[("ETag", '"x"')])))
        writer.write(http.send(h11.EndOfMessage()))

    async def do_no_content(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        writer.write(http.send(h11.Response(status_code=204, headers=[])))
        writer.write(http.send(h11.EndOfMessage()))

    async def do_until_close(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nold style")

    async def do_hints(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        writer.write(http.send(h11.InformationalResponse(status_code=103, headers=[("Link", "</x>")])))
        await self._respond(http, writer, b"hinted")

    async def do_cut(self, http, reader, writer, request) -> None:
        """Send less than the Content-Length."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")

    async def do_cut_chunk(self, http, reader, writer, request) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")

    async def do_cut_reset(self, http, reader, writer, request) -> None:
        """Reset the connection during a body that ends with the connection."""
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart")
        await writer.drain()
        await self.gate.wait()
        reset(writer)

    async def do_vanish(self, http, reader, writer, request) -> None:
        """Close without an answer."""

    async def do_garbage(self, http, reader, writer, request) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async def do_smuggle(self, http, reader, writer, request) -> None:
        """Send a whole answer, and another one that nobody asked for."""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        writer.write(answer + b"ok" + answer + b"no")
        await writer.drain()
        await asyncio.sleep(5)

    async def do_too_large(self, http, reader, writer, request) -> None:
        """Answer before the body has come, and close."""
        await self._respond(http, writer, b"too large", ("Connection", "close"), status=413)

    async def do_slow(self, http, reader, writer, request) -> None:
        self.events.append("slow")
        await self.gate.wait()
        await self._respond(http, writer, b"at last")

    async def do_flood(self, http, reader, writer, request) -> None:
        """Send until the connection is lost."""
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self.sent = 0
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            self.sent += 65536

    async def do_upgrade(self, http, reader, writer, request) -> None:
        await self._body(http, reader)
        if not any(name == b"upgrade" for name, _ in request.headers):
            await self._respond(http, writer, b"no upgrade asked")
            return
        head = http.send(
            h11.InformationalResponse(
                status_code=101,
                reason=b"Switching Protocols",
                headers=[("Connection", "Upgrade"), ("Upgrade", "echo")],
            )
        )
        writer.write(head + b"welcome ")
        early = http.trailing_data[0]
        writer.write(early)
        while data := await reader.read(65536):
            writer.write(data)
        writer.write(b" bye")
