"""Limits of this process's descriptors, whichever numbers are in use."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice


@contextmanager
def limited(free: int, spare: int = 0) -> Iterator[None]:
    """Inside the block only `free` numbers are free below a bound, and the limit is `spare` above that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bound = next(islice(filter(_is_free, count()), free, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (bound + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
