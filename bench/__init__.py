"""The performance table: toxproxy beside what people use instead, on emulated links.

`python -m bench` measures everything and writes `docs/performance.md`. Nothing reaches another
host: each row has two network namespaces of its own, joined by `link.c` and without a route out.
"""
