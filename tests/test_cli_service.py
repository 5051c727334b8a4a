"""`toxproxy service` without and with a systemd; the latter is a program that writes down what it is told.

What systemd itself makes of the unit is in tests/program/test_unit.py.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from pathlib import Path

import pytest

from tests.alone import ALONE
from toxproxy.cli import main
from toxproxy.system import services
from toxproxy.system.state import StateFolder

SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
ME = pwd.getpwuid(os.geteuid()).pw_name

SYSTEMCTL = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"{said}"
case "$*" in
    --version) echo "systemd 252 (252.1)" ;;
    *show-user*) echo "Linger={linger}" ;;
    *show\\ *) for each in ActiveState={state} SubState=running UnitFileState=enabled 'StatusText=It runs.'
        do echo "$each"; done ;;
esac
case "$(basename "$0") $*" in
    systemd-run*) exit {confines} ;;
    *show-environment) [ {bus} = yes ] || {{ echo "Failed to connect to bus" >&2; exit 1; }} ;;
esac
"""


class System:
    """A home, and a systemd that does nothing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.units = folder / "config" / "systemd" / "user"
        self.state = folder / "state" / "toxproxy"
        self.config = folder / "cfg.ini"
        self.config.write_text(f"{ALONE}[socks]\nbrowser = 1080:{SERVER}\n")
        self._said = folder / "said"
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setattr(services, "runs", lambda: True)
        self.answer()

    def answer(
        self, *, state: str = "active", linger: str = "no", confines: int = 0, bus: str = "yes"
    ) -> None:
        """What it answers from now on."""
        for name in ("systemctl", "loginctl", "systemd-run"):
            program = self.folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(
                SYSTEMCTL.format(said=self._said, state=state, linger=linger, confines=confines, bus=bus)
            )
            program.chmod(0o755)

    def said(self) -> list[str]:
        """What it was told."""
        return self._said.read_text().splitlines() if self._said.exists() else []

    def unit(self, role: str) -> Path:
        return self.units / f"toxproxy-{role}.service"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def test_where_there_is_no_systemd_it_says_what_to_run_instead(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "runs", lambda: False)
    assert main(["service", "install", "--user", "client", str(system.config)]) == 1
    error = capsys.readouterr().err
    assert "there is no systemd here" in error
    assert "run: toxproxy client" in error
    assert not system.unit("client").exists()


def test_a_users_service_uses_the_users_identity_and_says_what_to_type_next(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["id", "client"]) == 0
    tox_id = capsys.readouterr().out.strip()
    assert main(["service", "install", "--user", "client", str(system.config)]) == 0
    out = capsys.readouterr().out
    assert f"Its identity is in {system.state / 'client'}; its Tox ID: {tox_id}" in out
    assert "systemctl --user enable --now toxproxy-client" in out
    assert "loginctl enable-linger" in out
    text = system.unit("client").read_text()
    assert f"ReadWritePaths={system.state / 'client'}\n" in text
    assert f"ExecStart={sys.executable} -P -m toxproxy client --state " in text
    assert "PrivateUsers=yes" in text
    assert "systemctl --user daemon-reload" in system.said()
    assert not [each for each in system.said() if re.search("enable|start", each.replace("--wait", ""))]


def test_a_users_systemd_that_may_not_make_namespaces_is_not_asked_to(system: System) -> None:
    system.answer(confines=1, linger="yes")
    assert main(["service", "install", "--user", "client", str(system.config)]) == 0
    text = system.unit("client").read_text()
    assert "PrivateUsers" not in text
    assert "CapabilityBoundingSet" not in text
    assert "SystemCallFilter=@system-service" in text


def test_where_the_users_systemd_does_not_run_nothing_is_written(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.answer(bus="no")
    assert main(["service", "install", "--user", "client", str(system.config)]) == 1
    assert "systemctl --user show-environment: Failed to connect to bus" in capsys.readouterr().err
    assert not system.units.exists()


def test_a_running_end_has_to_end_first(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    with StateFolder(system.state / "server").lock():
        assert main(["service", "install", "--user", "server"]) == 1
    assert "is in use by process" in capsys.readouterr().err
    assert main(["id", "server"]) == 0
    with StateFolder(system.state / "server").lock():
        assert main(["service", "install", "--user", "server"]) == 0
    assert "A server runs with it now: end that one first." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["client"], "a client needs a configuration file"),
        (["client", "missing.ini"], "missing.ini"),
        (["client", "CONFIG", "--permit", "*:*"], "--permit is a server's"),
        (["server", "CONFIG", "--permit", "nonsense"], "--permit: "),
        (["server", "CONFIG", "--run-as", "daemon"], "leave --user out"),
    ],
)
def test_what_could_not_start_is_not_installed(
    arguments: list[str], message: str, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(system.config) if each == "CONFIG" else each for each in arguments]
    assert main(["service", "install", "--user", *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not system.units.exists()


def test_an_audit_outside_is_a_folder_that_the_service_may_write_to(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.config.write_text(f"{ALONE}[log]\naudit = {system.folder}/audit/a.log\n")
    assert main(["service", "install", "--user", "server", str(system.config), "--print"]) == 0
    state = system.state / "server"
    assert f"ReadWritePaths={state} {system.folder}/audit\n" in capsys.readouterr().out
    system.config.write_text(f"{ALONE}[log]\naudit = a.log\n")
    assert main(["service", "install", "--user", "server", str(system.config), "--print"]) == 2
    assert "expected a whole path" in capsys.readouterr().err


def test_a_unit_of_somebody_else_is_left_alone(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    system.units.mkdir(parents=True)
    system.unit("client").write_text("[Service]\nExecStart=/bin/true\n")
    assert main(["service", "install", "--user", "client", str(system.config)]) == 1
    assert main(["service", "uninstall", "--user", "client"]) == 1
    assert capsys.readouterr().err.count("was not written by this command") == 2
    assert system.unit("client").read_text() == "[Service]\nExecStart=/bin/true\n"


def test_status_and_uninstall(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "status", "--user"]) == 1
    assert "no service of toxproxy is installed" in capsys.readouterr().out
    assert main(["service", "install", "--user", "client", str(system.config)]) == 0
    capsys.readouterr()
    assert main(["service", "status", "--user"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "toxproxy-client: active (running), enabled",
        "  It runs.",
        "It ends with your last login. To have it run without one: loginctl enable-linger",
    ]
    system.answer(state="failed")
    assert main(["service", "status", "--user", "client"]) == 1
    assert main(["service", "uninstall", "--user", "client"]) == 0
    assert "systemctl --user disable --now toxproxy-client" in system.said()
    assert not system.unit("client").exists()
    assert (system.state / "client" / "identity.tox").exists()
    assert main(["service", "uninstall", "--user", "client"]) == 1


def test_printing_writes_nothing_and_needs_no_root(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "hidden", lambda path: False)  # where this checkout lies
    assert main(["service", "install", "--system", "client", str(system.config), "--print"]) == 0
    text = capsys.readouterr().out
    assert "DynamicUser=yes" in text
    assert "--state /var/lib/toxproxy-client /run/toxproxy-client/cfg.ini" in text
    assert not system.units.exists()


def test_a_program_that_a_service_of_the_system_cannot_read_is_not_its_program(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "hidden", lambda path: True)
    assert main(["service", "install", "--system", "client", str(system.config), "--print"]) == 1
    assert "--run-as USER" in capsys.readouterr().err


def test_to_run_as_a_user_takes_that_users_folder(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "client", str(system.config), "--run-as", ME, "--print"]) == 0
    text = capsys.readouterr().out
    state = Path(pwd.getpwnam(ME).pw_dir) / ".local/state/toxproxy/client"
    assert f"User={ME}\n" in text
    assert f"ReadWritePaths={state}\n" in text
    assert main(["service", "install", "client", str(system.config), "--run-as", "no-such-user"]) == 1
    assert "this machine has no user no-such-user" in capsys.readouterr().err


def test_a_unix_socket_needs_a_user_who_may_make_it(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "hidden", lambda path: False)
    text = system.config.read_text()
    system.config.write_text(re.sub(r"(?m)^(\w+) = \d+:", r"\1 = unix:/srv/here/x.sock:", text, count=1))
    assert main(["service", "install", "--system", "client", str(system.config), "--print"]) == 2
    assert "cannot make unix:/srv/here/x.sock; name a user: --run-as USER" in capsys.readouterr().err
    assert main(["service", "install", "client", str(system.config), "--run-as", ME, "--print"]) == 0
    assert " /srv/here\n" in capsys.readouterr().out


def test_what_others_may_not_enter_is_hidden(tmp_path: Path) -> None:
    inside = tmp_path / "closed" / "program"
    inside.mkdir(parents=True)
    inside.parent.chmod(0o700)
    assert services.hidden(inside)
    assert services.hidden(Path("/root"))
    assert not services.hidden(Path("/usr"))
