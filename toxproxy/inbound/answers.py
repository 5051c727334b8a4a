"""The answers to a proxy's client whose connection was not opened, for SOCKS5, SOCKS4 and HTTP.

One table for all three, so that they stay consistent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toxproxy.errors import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """The answers for one refusal.

    `socks5`: a reply code (RFC 1928, section 6). `socks4`: a result code of the SOCKS4 specification.
    `status`: an HTTP status (RFC 9110, section 15). `error`: a proxy error type (RFC 9209, section 2.3).
    `advice`: a sentence for the person who reads the HTTP page.
    """

    socks5: int
    socks4: int
    status: int
    error: str
    advice: str


# SOCKS4 has one code for a failure, 0x5B: 0x5C and 0x5D are about identd. SOCKS5 has no code for four
# refusals. NAME_NOT_FOUND is answered as host unreachable (as Tor and OpenSSH do), OFFLINE as network
# unreachable, TOO_MANY_STREAMS as a general failure, QUOTA_USED as not allowed. Its HTTP status is 429
# (RFC 6585): it passes with time.
_ROWS: Mapping[Refusal, tuple[int, int, int, str, str]] = {
    Refusal.FAILED: (0x01, 0x5B, 502, "destination_unavailable", "Look at the server's log."),
    Refusal.NOT_PERMITTED: (
        0x02,
        0x5B,
        403,
        "http_request_denied",
        "Ask whoever runs the server to permit it.",
    ),
    Refusal.NETWORK_UNREACHABLE: (
        0x03,
        0x5B,
        502,
        "destination_ip_unroutable",
        "Check the server's network.",
    ),
    Refusal.HOST_UNREACHABLE: (0x04, 0x5B, 502, "destination_ip_unroutable", "Check that the host is up."),
    Refusal.CONNECTION_REFUSED: (
        0x05,
        0x5B,
        502,
        "connection_refused",
        "Check that the service runs on that port.",
    ),
    Refusal.TIMED_OUT: (0x06, 0x5B, 504, "connection_timeout", "Check that the host is up, or try again."),
    Refusal.UNSUPPORTED: (0x07, 0x5B, 501, "proxy_configuration_error", "The server cannot do this."),
    Refusal.NAME_NOT_FOUND: (0x04, 0x5B, 502, "dns_error", "Check the name: the server cannot resolve it."),
    Refusal.TOO_MANY_STREAMS: (0x01, 0x5B, 503, "connection_limit_reached", "Try again in a moment."),
    Refusal.ADDRESS_IN_USE: (0x01, 0x5B, 502, "destination_unavailable", "Look at the server's log."),
    Refusal.QUOTA_USED: (
        0x02,
        0x5B,
        429,
        "connection_limit_reached",
        "What this client may carry in a month is used up: ask whoever runs the server.",
    ),
    Refusal.OFFLINE: (
        0x03,
        0x5B,
        503,
        "destination_unavailable",
        "Check that the server runs, or try again.",
    ),
}

ANSWERS: Mapping[Refusal, Answer] = {code: Answer(*row) for code, row in _ROWS.items()}
