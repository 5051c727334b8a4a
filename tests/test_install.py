"""tools/install installs only what is locked, and neither enables nor starts a system service."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_SERVICES = ROOT / "tools" / "no-services"
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
WANTED = Path("etc/systemd/system/multi-user.target.wants/new.service")

# What debhelper's dh_installinit and dh_installsystemd write into a package.
CONFIGURE = """\
set -e
if deb-systemd-helper --quiet was-enabled new.service; then
    deb-systemd-helper enable new.service
else
    deb-systemd-helper update-state new.service
fi
"""
START = """\
set -e
invoke-rc.d --skip-systemd-native no-such-service-1 start
deb-systemd-invoke start no-such-service-1.service
systemctl enable --now no-such-service-1.service
systemctl start no-such-service-1.socket
"""

on_debian = pytest.mark.skipif(
    not os.path.exists("/usr/bin/deb-systemd-helper"), reason="this system has no deb-systemd-helper"
)
needs_venv = pytest.mark.skipif(
    importlib.util.find_spec("ensurepip") is None, reason="this Python has no ensurepip"
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root folder of a system with the files of a new service."""
    units = tmp_path / "lib/systemd/system"
    units.mkdir(parents=True)
    (units / "new.service").write_text(UNIT)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/lib").symlink_to("../lib")
    return tmp_path


def maintainer_script(script: str, path: str, root: Path) -> int:
    """Run a package's script on the system in `root`. Returns its exit status."""
    environment = {"PATH": path, "DPKG_ROOT": str(root), "DPKG_MAINTSCRIPT_PACKAGE": "new"}
    return subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True).returncode


@on_debian
def test_without_our_helpers_debian_enables_a_new_service(system: Path) -> None:
    assert maintainer_script(CONFIGURE, SYSTEM, system) == 0
    assert (system / WANTED).is_symlink()


@on_debian
def test_a_new_service_is_not_enabled_and_an_upgrade_leaves_it_so(system: Path) -> None:
    assert maintainer_script(CONFIGURE, f"{NO_SERVICES}:{SYSTEM}", system) == 0
    assert not (system / WANTED).is_symlink()
    assert maintainer_script(CONFIGURE, SYSTEM, system) == 0
    assert not (system / WANTED).is_symlink()


@on_debian
def test_a_service_that_was_enabled_before_stays_enabled(system: Path) -> None:
    assert maintainer_script(CONFIGURE, SYSTEM, system) == 0
    assert maintainer_script(CONFIGURE, f"{NO_SERVICES}:{SYSTEM}", system) == 0
    assert (system / WANTED).is_symlink()


@on_debian
def test_no_service_is_started(system: Path) -> None:
    """The system's own helpers would fail, since the service does not exist there."""
    assert maintainer_script(START, f"{NO_SERVICES}:{SYSTEM}", system) == 0


@needs_venv
def test_a_package_with_another_hash_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/install", tmp_path / "tools")
    (tmp_path / "pyproject.toml").write_text("")
    wheel = tmp_path / "locked-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "locked-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1.0\n"
        )
        archive.writestr("locked-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("locked-1.0.dist-info/RECORD", "")
    other = hashlib.sha256(b"another wheel").hexdigest()
    (tmp_path / "requirements.lock").write_text(f"locked==1.0 --hash=sha256:{other}\n")
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }
    got = subprocess.run(
        [tmp_path / "tools/install", "run"], env=environment, capture_output=True, text=True, timeout=100
    )
    assert got.returncode == 1
    assert "DO NOT MATCH THE HASHES" in got.stderr
    assert not (tmp_path / ".venv/installed-run").exists()
