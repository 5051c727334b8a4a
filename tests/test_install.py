"""tools/install installs only what is locked, and neither enables nor starts a system service."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
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


OTHER = hashlib.sha256(b"another file").hexdigest()


def install(folder: Path, lock: str, **environment: str) -> str:
    """Run tools/install in a folder with this lock, and with the packages that lie there. It must fail."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools/install", folder / "tools")
    (folder / "pyproject.toml").write_text("")
    (folder / "requirements.lock").write_text(lock)
    own = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    got = subprocess.run(
        [folder / "tools/install", "run"],
        env=os.environ | own | environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert got.returncode == 1
    assert not (folder / ".venv/installed-run").exists()
    return got.stderr


@needs_venv
def test_a_package_with_another_hash_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "locked-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "locked-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1.0\n"
        )
        archive.writestr("locked-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("locked-1.0.dist-info/RECORD", "")
    assert "DO NOT MATCH THE HASHES" in install(tmp_path, f"locked==1.0 --hash=sha256:{OTHER}\n")


@needs_venv
@pytest.mark.parametrize(
    ("libc", "found"), [("gnu", "No matching distribution"), ("musl", "DO NOT MATCH THE H")]
)
def test_only_lz4_is_compiled_and_only_on_musl(tmp_path: Path, libc: str, found: str) -> None:
    """CPython takes what it was built for from a module that the environment names."""
    built_for = sysconfig.get_config_vars() | {"SOABI": f"cpython-{libc}", "INCLUDEPY": str(tmp_path)}
    (tmp_path / "built_for.py").write_text(f"build_time_vars = {built_for!r}")
    python, compiler = tmp_path / "python", tmp_path / "cc"
    asked = f"_PYTHON_SYSCONFIGDATA_NAME=built_for PYTHONPATH='{tmp_path}'"
    python.write_text(
        f"""#!/bin/sh
[ "$1" = -c ] && exec env {asked} '{sys.executable}' "$@"
exec '{sys.executable}' "$@"
"""
    )
    compiler.touch()
    for file in (python, compiler):
        file.chmod(0o755)
    (tmp_path / "Python.h").touch()
    with tarfile.open(tmp_path / "lz4-1.0.tar.gz", "w:gz"):
        pass
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert found in install(tmp_path, f"lz4==1.0 --hash=sha256:{OTHER}\n", PYTHON=str(python), PATH=path)
