"""Nodes on one local network, where nothing else tells them of each other."""

from __future__ import annotations

from tests.isolated import isolated, needs_namespaces


@needs_namespaces
async def test_a_node_that_starts_tells_every_port_that_a_node_may_have() -> None:
    """libtoxcore by itself comes to port 33500 after 50 seconds, and to 33545 after 100."""
    *told, own = await isolated("neighbours")
    assert told == [own, own]
