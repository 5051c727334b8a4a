"""The unit file: what it says, and what systemd itself says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toxproxy.program import unit
from toxproxy.program.unit import Runner, Service

PROGRAM = (sys.executable, "-P", "-m", "toxproxy")
SYSTEM = Service("server", Runner.SYSTEM, PROGRAM, Path("/var/lib/toxproxy-server"), Path("/etc/t.ini"))
OWNER = Service(
    "client", Runner.OWNER, PROGRAM, Path("/home/me/.local/state/toxproxy/client"), Path("/c.ini")
)
USER = replace(OWNER, runner=Runner.USER, user="daemon", low_ports=True)
SERVICES = {
    "system": replace(SYSTEM, memory=1 << 30),
    "system, without a file": replace(SYSTEM, config=None, permit="*:*, [2001:db8::]:80-90"),
    "owner": replace(OWNER, writes=(Path("/home/me/a b"),), version=257),
    "owner, not confined": replace(OWNER, confined=False),
    "user": replace(USER, environment={"TOXPROXY_LIBTOXCORE": '/opt/a "b"/100%/$x.so'}),
}

analyze = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(analyze is None, reason="this machine has no systemd-analyze")


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_analyze
@pytest.mark.parametrize("what", SERVICES)
def test_systemd_understands_every_line(what: str, tmp_path: Path) -> None:
    service = replace(SERVICES[what], version=0)  # no line that is newer than this machine's systemd
    file = tmp_path / f"{service.name}.service"
    file.write_text(unit.text(service).replace("Documentation=man:", "Documentation=https://"))
    done = run(str(analyze), "verify", "--man=no", str(file))
    said = [line for line in done.stderr.splitlines() if service.name in line]
    assert (done.returncode, said) == (0, [])


@needs_analyze
@pytest.mark.parametrize(
    ("what", "most"), [("system", 1.5), ("system, without a file", 1.5), ("user", 2.5), ("owner", 2.2)]
)
def test_systemd_finds_little_exposed(what: str, most: float, tmp_path: Path) -> None:
    file = tmp_path / f"{SERVICES[what].name}.service"
    file.write_text(unit.text(SERVICES[what]))
    done = run(str(analyze), "security", "--offline=yes", "--no-pager", str(file))
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze does not tell: {done.stderr}")
    assert float(found[1]) <= most


def test_a_user_of_its_own_has_a_copy_of_the_configuration_that_each_reload_renews() -> None:
    text = unit.text(SYSTEM)
    assert values(text, "ExecStart")[0].endswith(
        "toxproxy server --state /var/lib/toxproxy-server /run/toxproxy-server/cfg.ini"
    )
    copying = [
        "+install -m 0400 /etc/t.ini /run/toxproxy-server/cfg.ini",
        "+chown --reference=/run/toxproxy-server /run/toxproxy-server/cfg.ini",
    ]
    assert values(text, "ExecStartPre") == copying
    *before, reload = values(text, "ExecReload")
    assert before == copying
    assert reload.endswith("toxproxy reload --state /var/lib/toxproxy-server")


def test_a_users_own_file_is_read_where_it_is() -> None:
    for service in (OWNER, USER):
        text = unit.text(service)
        assert values(text, "ExecStart")[0].endswith(f"client --state {OWNER.state} /c.ini")
        assert values(text, "ExecStartPre") == []
        assert len(values(text, "ExecReload")) == 1
        assert values(text, "ReadWritePaths") == [str(OWNER.state)]


def test_nothing_is_read_again_where_there_is_no_file() -> None:
    assert values(unit.text(SERVICES["system, without a file"]), "ExecReload") == []


def test_only_what_listens_below_1024_keeps_a_right() -> None:
    assert values(unit.text(USER), "CapabilityBoundingSet") == ["CAP_NET_BIND_SERVICE"]
    assert values(unit.text(USER), "PrivateUsers") == []
    assert values(unit.text(SYSTEM), "CapabilityBoundingSet") == [""]
    assert values(unit.text(SYSTEM), "PrivateUsers") == ["yes"]


def test_the_program_may_give_up_what_it_has() -> None:
    assert values(unit.text(USER), "SystemCallFilter") == ["@system-service", "~@privileged", "capset"]


def test_pauses_grow_where_systemd_can_do_that() -> None:
    assert values(unit.text(replace(OWNER, version=252)), "RestartSteps") == []
    assert values(unit.text(replace(OWNER, version=254)), "RestartSteps") == ["6"]


def test_memory_is_bounded_by_what_connections_may_hold_and_room_for_the_program() -> None:
    assert values(unit.text(replace(OWNER, memory=1 << 30)), "MemoryMax") == ["2304M"]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/home/me/cfg.ini", "/home/me/cfg.ini"),
        ("/home/my files/cfg.ini", '"/home/my files/cfg.ini"'),
        ("/100%/$HOME", '"/100%%/$$HOME"'),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/a\nExecStart=/bin/sh", '"/a\\u000aExecStart=/bin/sh"'),
    ],
)
def test_a_path_is_a_word_and_nothing_else(word: str, written: str) -> None:
    text = unit.text(replace(OWNER, config=Path(word)))
    assert values(text, "ExecStart")[0].endswith(f" {written}")
