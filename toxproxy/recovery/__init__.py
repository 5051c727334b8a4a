"""Recovery: numbered packets over a link that loses them. Pure: no sockets, no asyncio, no clock.

It acknowledges, finds what was lost, paces, and governs how much is in flight (RFC 9002, RFC 8985).
"""
