"""The default gateway, asked of the kernel."""

from __future__ import annotations

from tests.isolated import isolated, needs_namespaces


@needs_namespaces
async def test_the_gateway_is_that_of_the_default_route_and_none_on_loopback_or_without_a_router() -> None:
    alone, loopback, local, direct, routed, other = await isolated("gateways")
    assert (alone, loopback, local, direct) == (None, None, None, None)
    assert routed == "192.168.77.1 from 192.168.77.2"
    assert other == "192.168.77.1 from 192.168.77.3"
