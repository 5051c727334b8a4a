"""Unix sockets: their files, and names that stay those of one file."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from toxproxy.system import local
from toxproxy.system.local import SocketFile


def serve(path: Path, mode: int = 0o600) -> SocketFile:
    return SocketFile(str(path), mode, 8)


def test_the_file_has_its_mode_from_the_beginning_and_is_removed(tmp_path: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    with serve(tmp_path / "x.sock", 0o660):
        assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == 0o660
    assert os.listdir(tmp_path) == []
    after = os.umask(before)
    assert after == before


def test_the_socket_of_a_program_that_was_killed_is_replaced(tmp_path: Path) -> None:
    code = f"import os, socket; socket.socket(socket.AF_UNIX).bind({str(tmp_path / 'x.sock')!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with serve(tmp_path / "x.sock"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "x.sock"))
    assert os.listdir(tmp_path) == []


def test_a_socket_that_something_listens_on_is_left_alone(tmp_path: Path) -> None:
    with serve(tmp_path / "x.sock"):
        with pytest.raises(OSError, match="in use") as caught:
            serve(tmp_path / "x.sock")
        assert caught.value.errno == errno.EADDRINUSE
        assert os.listdir(tmp_path) == ["x.sock"]


def test_a_full_backlog_counts_as_listening(tmp_path: Path) -> None:
    with serve(tmp_path / "x.sock"):
        clients = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            if client.connect_ex(str(tmp_path / "x.sock")):
                break
        with pytest.raises(OSError, match="in use"):
            serve(tmp_path / "x.sock")
        for client in clients:
            client.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
def test_a_file_of_another_kind_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.sock"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(FileExistsError):
        serve(path)
    assert path.lstat() == before
    assert os.listdir(tmp_path) == ["x.sock"]


def test_the_file_of_another_program_that_took_its_place_is_left_alone(tmp_path: Path) -> None:
    first = serve(tmp_path / "x.sock")
    (tmp_path / "x.sock").unlink()
    with serve(tmp_path / "x.sock"):
        first.close()
        assert os.listdir(tmp_path) == ["x.sock"]


def test_a_name_of_exactly_this_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with serve(tmp_path / "x.sock") as server, local.exactly(path) as name:
        os.rename(path, tmp_path / "moved")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            server.accept()[0].close()


def test_what_is_a_link_or_behind_one_is_no_exact_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    with serve(tmp_path / "here" / "x.sock"):
        (tmp_path / "x.sock").symlink_to(tmp_path / "here" / "x.sock")
        for path in (tmp_path / "link" / "x.sock", tmp_path / "x.sock"):
            with pytest.raises(OSError, match=f"socket|{os.strerror(errno.ELOOP)}"), local.exactly(str(path)):
                pass


def test_a_half_closed_socket_is_told_from_a_closed_one() -> None:
    near, far = socket.socketpair()
    assert not local.half_closed(far)
    near.shutdown(socket.SHUT_WR)
    assert local.half_closed(far)
    near.close()
    assert not local.half_closed(far)
    far.close()
