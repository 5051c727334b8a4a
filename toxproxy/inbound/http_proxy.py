"""An HTTP/1.1 proxy for one client: CONNECT, and requests in absolute form (RFC 9110, RFC 9112).

h11 keeps the rules of each connection; this module forwards events between the two. Bodies are
forwarded piece by piece, in both directions at once. The far end looks names up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import h11

from toxproxy import relay
from toxproxy.address import Target
from toxproxy.errors import StreamRefused, ToxproxyError
from toxproxy.http.reader import HttpReader, Role
from toxproxy.inbound import http_message
from toxproxy.inbound.guard import LONGEST_WAIT, Guard
from toxproxy.inbound.http_message import Destination, Reply, RequestError
from toxproxy.relay.stream import ByteStream, cancelled_when

IDLE_SECONDS = 120.0  # from an answer until the next request has arrived

# If an upload is answered before its end, the rest is read and dropped, so that the client gets the
# answer. These bound that, in seconds, as nginx's lingering_time and lingering_timeout do.
UPLOAD_SECONDS = 30.0  # in all
UPLOAD_SILENCE = 5.0  # without a byte

_TOO_SLOW = Reply(408, "The request did not arrive in time.", ((b"Connection", b"close"),))

_UNFINISHED = frozenset({h11.SEND_RESPONSE, h11.SEND_BODY, h11.ERROR})

Opener = Callable[[Target], Awaitable[ByteStream]]


class UpstreamError(ToxproxyError):
    """The server's side of an exchange failed."""


class Peer:
    """One HTTP connection: h11's rules over a `ByteStream`."""

    def __init__(self, connection: ByteStream, role: Role) -> None:
        self.connection = connection
        self.reader = HttpReader(role)
        self.last = False  # the connection has to end after this exchange

    @property
    def http(self) -> h11.Connection:
        """h11's connection for the present exchange."""
        return self.reader.http

    async def receive(self) -> h11.Event:
        """The next event. Raises `ConnectionError` and `h11.RemoteProtocolError`."""
        while (event := self.reader.next_event()) is h11.NEED_DATA:
            self.reader.receive(await self.connection.read())
        assert isinstance(event, h11.Event), "h11 pauses only between exchanges"
        return event

    async def send(self, event: h11.Event) -> None:
        """Send an event, and wait while the peer reads too slowly.

        Raises `ConnectionError` and `h11.LocalProtocolError`.
        """
        if data := self.http.send(event):
            await self.connection.write(data)

    @property
    def idle(self) -> bool:
        """Whether the connection is open and no unread bytes are there."""
        return self.connection.idle and not self.reader.rest

    def close(self) -> None:
        """Close in order after a complete exchange, else reset."""
        transport = self.connection.transport
        if transport is None or _UNFINISHED & {self.http.our_state, self.http.their_state}:
            self.connection.reset()
        else:
            transport.close()

    def leave_http(self) -> ByteStream:
        """The connection itself, with the bytes of the next protocol that were read already."""
        self.connection.unread(self.reader.rest)
        return self.connection


class HttpProxy:
    """Serves the requests of one client. `open_to(target)` opens a connection."""

    def __init__(self, client: ByteStream, open_to: Opener, guard: Guard | None) -> None:
        self._client = Peer(client, h11.SERVER)
        self._open_to = open_to
        self._guard = guard
        self._known = False  # this connection has sent the right password
        self._upstream: Peer | None = None  # kept for the next request to the same target
        self._upstream_target: Target | None = None

    async def run(self, deadline: float) -> None:
        """Answer requests in order until the connection ends or becomes a tunnel.

        The first one has to be complete at `deadline`, by the loop's clock. Raises `TimeoutError` after
        answering 408 to a request that was begun and not finished in time.
        """
        try:
            while (request := await self._next_request(deadline)) is not None:
                await self._answer(request)
                if not self._client.reader.next_cycle():
                    break
                deadline = asyncio.get_running_loop().time() + IDLE_SECONDS
            if self._uploading:
                await self._client.connection.discard(UPLOAD_SECONDS, UPLOAD_SILENCE)
            await self._client.connection.finish()
        finally:
            self._drop_upstream()

    async def _next_request(self, deadline: float) -> h11.Request | None:
        try:
            async with asyncio.timeout_at(deadline):
                event = await self._client.receive()
        except TimeoutError:
            if not self._client.reader.rest:
                return None
            await self._say(_TOO_SLOW)
            await self._client.connection.finish()
            raise
        except h11.RemoteProtocolError as error:
            await self._say(Reply(error.error_status_hint, f"The request cannot be understood: {error}."))
            return None
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: h11.Request) -> None:
        """Answer one request. If it opens a tunnel, return at the tunnel's end."""
        self._client.last = http_message.framed_twice(request)
        if self._guard is not None and (denial := await self._check(request, self._guard)) is not None:
            await self._say(denial, request)
            return
        try:
            to = http_message.destination(request)
            if (answer := http_message.final_recipient(request)) is not None:
                await self._say(answer, request)
            elif request.method == b"CONNECT":
                await self._connect(request, to.target)
            elif await self._forward(request, to):
                await self._switch_protocols()
        except RequestError as error:
            await self._say(error.reply, request)
        except StreamRefused as refusal:
            await self._say(http_message.refused(to.target, refusal), request)

    async def _check(self, request: h11.Request, guard: Guard) -> Reply | None:
        """The answer to a client that may not use the proxy. A request without a login is no wrong login."""
        if not http_message.offers_login(request):
            return http_message.login_needed()
        if not self._known and not await guard.turn(self._client.connection):
            return http_message.too_many_guesses(int(LONGEST_WAIT))
        if http_message.authorized(request, guard.credentials):
            self._known = True
            return None
        self._known = False
        guard.wrong(self._client.connection)
        return http_message.login_needed()

    async def _connect(self, request: h11.Request, target: Target) -> None:
        if http_message.has_body(request) or not self._request_ended():
            raise RequestError(400, "A CONNECT request has no body.")
        far = await self._open_to(target)
        try:
            granted = h11.Response(status_code=200, reason=b"Connection established", headers=[])
            await self._client.send(granted)
            await relay.run(self._client.leave_http(), far)
        finally:
            far.reset()

    async def _switch_protocols(self) -> None:
        if self._upstream is not None:
            await relay.run(self._client.leave_http(), self._upstream.leave_http())

    async def _forward(self, request: h11.Request, to: Destination) -> bool:
        """Forward one request and its response. True if both sides switch protocols then."""
        with cancelled_when(self._client.connection.lost):
            reused = self._take_upstream(to.target)
            upstream = reused or Peer(await self._open_to(to.target), h11.CLIENT)
            self._upstream, self._upstream_target = upstream, to.target
            try:
                with relay.Watch(self._client.connection, upstream.connection):
                    switched = await self._exchange(upstream, http_message.outgoing_request(request, to))
            except UpstreamError as error:
                # A kept connection may close just as it is used again. The client's connection is closed
                # too: the client knows whether it may send the request again (RFC 9112, section 9.3.1).
                if self._client.http.our_state is not h11.SEND_RESPONSE or reused is not None:
                    raise ConnectionAbortedError(f"{to.target}: {error}") from error
                if self._client.http.their_state is h11.ERROR:
                    raise RequestError(400, "The request's body cannot be understood.") from error
                await self._say(http_message.incomplete_answer(to.target, str(error)), request)
                switched = False
        if not switched and (upstream.last or not upstream.reader.next_cycle()):
            self._drop_upstream()
        return switched

    async def _exchange(self, upstream: Peer, request: h11.Request) -> bool:
        """Forward a request and its response, both bodies at once. True if both sides switch protocols."""
        try:
            await upstream.send(request)
        except ConnectionError as error:
            raise UpstreamError(str(error)) from error
        body = asyncio.create_task(self._send_body(upstream))
        try:
            return await self._send_response(upstream)
        finally:
            body.cancel()
            await asyncio.wait((body,))

    async def _send_body(self, upstream: Peer) -> None:
        """Forward the request's body. A failure resets the server's connection, and so ends the exchange."""
        try:
            while not isinstance(event := await self._client.receive(), h11.EndOfMessage):
                await upstream.send(event)
            await upstream.send(http_message.outgoing_end(event))
        except (ConnectionError, h11.RemoteProtocolError):
            upstream.connection.reset()

    @property
    def _uploading(self) -> bool:
        """Whether the client has not finished its request's body."""
        return self._client.http.their_state is h11.SEND_BODY

    async def _send_response(self, upstream: Peer) -> bool:
        old_client = (self._client.http.their_http_version or b"") < b"1.1"
        while True:
            try:
                event = await upstream.receive()
            except (ConnectionError, h11.RemoteProtocolError) as error:
                raise UpstreamError(str(error)) from error
            if isinstance(event, h11.InformationalResponse):
                if not old_client:
                    await self._client.send(http_message.outgoing_information(event))
                if event.status_code == 101:
                    return True
            elif isinstance(event, h11.Response):
                upstream.last = http_message.framed_twice(event)
                last = self._client.last or self._uploading
                await self._client.send(http_message.outgoing_response(event, last=last))
            elif isinstance(event, h11.EndOfMessage):
                end = h11.EndOfMessage() if old_client else http_message.outgoing_end(event)
                await self._client.send(end)
                return False
            else:
                await self._client.send(event)

    async def _say(self, reply: Reply, request: h11.Request | None = None) -> None:
        """Send the proxy's own answer. The connection closes after it if the request has not ended."""
        content, media_type = reply.content
        headers = [
            (b"Content-Type", media_type),
            (b"Content-Length", b"%d" % len(content)),
            *reply.headers,
        ]
        if self._client.last or not self._request_ended():
            headers.append((b"Connection", b"close"))
        reason = HTTPStatus(reply.status).phrase.encode()
        await self._client.send(h11.Response(status_code=reply.status, reason=reason, headers=headers))
        if request is None or request.method != b"HEAD":
            await self._client.send(h11.Data(data=content))
        await self._client.send(h11.EndOfMessage())

    def _request_ended(self) -> bool:
        """Whether the whole request has arrived. The part of its body that is here is dropped."""
        with suppress(h11.RemoteProtocolError):
            while self._uploading and self._client.reader.next_event() is not h11.NEED_DATA:
                pass
        return self._client.http.their_state not in (h11.SEND_BODY, h11.ERROR)

    def _take_upstream(self, target: Target) -> Peer | None:
        """The server connection of the request before, if it goes to `target` and is still usable."""
        upstream = self._upstream
        if upstream is not None and self._upstream_target == target and upstream.idle:
            return upstream
        self._drop_upstream()
        return None

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        self._upstream = None
