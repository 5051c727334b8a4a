"""What a service manager is told, on a real socket."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxproxy.system.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager's socket, and what the environment calls it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@toxproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.settimeout(5)
        yield sock, name


def test_each_message_is_one_datagram_of_assignments(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier
    for tell, expected in (
        (notifier.ready, r"READY=1"),
        (notifier.reloading, r"RELOADING=1\nMONOTONIC_USEC=\d+"),
        (notifier.alive, r"WATCHDOG=1"),
        (notifier.stopping, r"STOPPING=1"),
    ):
        tell()
        assert re.fullmatch(expected, sock.recv(4096).decode())


def test_a_status_is_one_line_of_bounded_length(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    Notifier({"NOTIFY_SOCKET": name}).status("a name\nREADY=1\r\n" + "x" * 5000)
    message = sock.recv(8192).decode()
    assert message.startswith("STATUS=a name READY=1 xxx")
    assert "\n" not in message
    assert len(message) < 500


def test_the_variables_are_not_left_for_children() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier(environment)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),  # meant for the parent
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_of_this_process_alone(variables: dict[str, str], seconds: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog == seconds


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_sent(variables: dict[str, str]) -> None:
    notifier = Notifier({**variables, "WATCHDOG_USEC": "1000000"})
    assert not notifier
    assert notifier.watchdog is None
    notifier.ready()


def test_a_manager_that_is_gone_or_too_busy_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    notifier.ready()  # there is no such socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        for _ in range(1000):  # nobody reads them
            notifier.alive()
    notifier.ready()  # nobody listens any more
