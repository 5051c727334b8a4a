"""The state folder: its owner and permissions, atomic writes, its lock."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder, default_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_folder_is_made_with_access_for_its_owner_only(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "deep" / "er")
    assert mode(folder.path) == 0o700


def test_a_written_file_is_for_its_owner_only_and_is_read_back(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.read("thing") is None
    folder.write("thing", b"one")
    folder.write("thing", b"two")
    assert folder.read("thing") == b"two"
    assert mode(folder.path / "thing") == 0o600
    assert os.listdir(folder.path) == ["thing"]


@pytest.mark.parametrize("found", [0o755, 0o770, 0o707])
def test_an_empty_folder_that_others_can_enter_is_closed_to_them(tmp_path: Path, found: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(found)
    StateFolder(path)
    assert mode(path) == 0o700


def test_a_used_folder_that_others_can_enter_is_closed_to_them_again(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.lock():
        folder.write("thing", b"x")
    folder.path.chmod(0o755)
    assert StateFolder(folder.path).read("thing") == b"x"
    assert mode(folder.path) == 0o700


def test_a_folder_with_other_files_that_others_can_enter_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    (path / "letters").touch()
    path.chmod(0o755)
    with pytest.raises(StateError, match=f"chmod 700 {path}"):
        StateFolder(path)
    assert mode(path) == 0o755


def test_a_folder_with_other_files_that_nobody_else_can_enter_is_used(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    (path / "toxproxy.ini").touch()
    StateFolder(path)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError, match=f"{path} is not a folder"):
        StateFolder(path)


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory"):
        StateFolder(tmp_path / "file" / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)
    with pytest.raises(StateError, match="belongs to another user"):
        StateFolder(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    (folder.path / "thing").mkdir()
    with pytest.raises(StateError, match=rf"{folder.path}/thing cannot be read: Is a directory"):
        folder.read("thing")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    (folder.path / "thing").mkdir()
    with pytest.raises(StateError, match=f"{folder.path}/thing cannot be written"):
        folder.write("thing", b"x")
    assert os.listdir(folder.path) == ["thing"]


def test_a_write_beyond_the_file_size_limit_keeps_the_old_content(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder
folder = StateFolder(Path(sys.argv[1]))
folder.write("thing", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    folder.write("thing", b"x" * 2000)
except StateError as error:
    print(error)
"""
    path = tmp_path / "state"
    run = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"{path}/thing cannot be written: File too large\n"
    assert os.listdir(path) == ["thing"]
    assert (path / "thing").read_bytes() == b"old"


def test_a_second_process_gets_the_id_of_the_one_that_has_the_folder(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from toxproxy.system.state import StateFolder
with StateFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""
    path = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        folder = StateFolder(path)
        with pytest.raises(StateError, match=f"in use by process {holder.pid}:"), folder.lock():
            pass
        holder.kill()
    with folder.lock():
        assert (path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_folder_is_free_again_after_an_error_of_its_holder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with pytest.raises(ZeroDivisionError), folder.lock():
        raise ZeroDivisionError
    with folder.lock():
        pass


def test_each_role_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_path("server") == tmp_path / "toxproxy" / "server"
    assert default_path("server") != default_path("client")
