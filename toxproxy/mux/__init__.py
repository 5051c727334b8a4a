"""The multiplexer: many streams in one session. Pure: no sockets, no asyncio, no clock.

`Multiplexer` fills packets and takes what they brought, and reports events; its owner does the I/O. SPEC.md
is the specification of the protocol.
"""
