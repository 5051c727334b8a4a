"""The file of the audit: its mode, its size, a full disk, and somebody who moves it away."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from toxproxy.audit.file import AuditFile
from toxproxy.errors import ToxproxyError


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """A block in which no file grows beyond `size` bytes: the last write is cut, the next ones fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_the_file_is_for_its_owner_only_also_if_it_was_there(tmp_path: Path) -> None:
    for path in (tmp_path / "new", tmp_path / "old"):
        if path.name == "old":
            path.write_text("before\n")
            path.chmod(0o644)
        file = AuditFile(str(path), 0)
        file.write("line")
        file.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().endswith("line\n")
    assert (tmp_path / "old").read_text() == "before\nline\n"


def test_a_full_file_is_moved_away_and_only_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    file = AuditFile(str(path), 100)
    for number in range(100):
        file.write(f"{number:09}")
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["audit", "audit.1"]
    assert path.stat().st_size <= 100
    lines = [line for name in ("audit.1", "audit") for line in (tmp_path / name).read_text().splitlines()]
    assert lines == [f"{number:09}" for number in range(80, 100)]


def test_a_file_that_somebody_else_moved_is_not_moved_again(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    file = AuditFile(str(path), 20)
    file.write("a" * 15)
    path.rename(tmp_path / "mine")
    file.write("b" * 15)
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["audit", "mine"]
    assert path.read_text() == "b" * 15 + "\n"


def test_a_full_disk_is_told_once_and_no_line_is_joined_to_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit"
    file = AuditFile(str(path), 0)
    file.write("first line")
    with full_at(16):
        for number in range(50):
            file.write(f"lost {number}")
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.messages[0]
    assert file.lost == 50
    file.write("last line")
    file.write("and another")
    file.close()
    assert file.lost == 0
    assert caplog.messages[1:] == [f"{path}: is written again; 50 lines of the audit are lost"]
    assert path.read_text() == "first line\nlost \nlast line\nand another\n"


@pytest.mark.parametrize("kind", ["folder", "missing/file", "fifo", "link"])
def test_what_is_no_file_to_write_to_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToxproxyError, match=r"^\[log\] audit: .*: expected a file to write to, found: "):
        AuditFile(str(path), 0)
    assert not (tmp_path / "elsewhere").exists()
