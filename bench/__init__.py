"""The benchmark: toxproxy beside the tunnels that people use instead, on emulated links.

`python -m bench` measures everything and writes `docs/performance.md`. No packet leaves the machine:
each row has two network namespaces of its own, joined by `link.c`, without a route to anywhere else.
"""
