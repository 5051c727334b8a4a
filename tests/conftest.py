"""Fixtures for all tests."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, settings

from tests.machine import Hosts
from toxproxy.app import end

# The same code has the same verdict, also where it runs slowly. --hypothesis-profile=default tries others.
settings.register_profile(
    "toxproxy", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("toxproxy")


for number in (getattr(signal, "SIGHUP", signal.SIGINT), signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:  # after nohup; what a test starts would ignore it, too
        signal.signal(number, lambda *_: None)

# What takes longest comes first: else one worker of pytest-xdist has work at the end, and the others none.
_FIRST = ("test_pages", "recovery/", "end/", "pairing/", "test_fuzz", "tunnel/", "app/", "tox/", "mapping/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        path = item.nodeid.removeprefix("tests/")
        return next((at for at, start in enumerate(_FIRST) if path.startswith(start)), len(_FIRST))

    items.sort(key=turn)


class _NoMapper:
    """In place of what asks the router of this machine's network."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("this test would send to the network: set local_discovery or port_mapping to no")


@pytest.fixture(autouse=True)
def ask_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client or server of a test process may ask the machine's own router for a port mapping."""
    monkeypatch.setattr(end, "Mapper", _NoMapper)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Coverage is not measured during the test. (In a worker of pytest-xdist `no_cover` has no effect.)"""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """The names that the resolver of this test knows, with their addresses. The test fills it."""
    known: Hosts = {}

    def getaddrinfo(host: str, port: object, *_: object, **__: object) -> list[object]:
        with suppress(ValueError):
            return [(0, 0, 0, "", (str(ip_address(host)), 0))]
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known
