"""`toxproxy service`: a server or a client that systemd starts and keeps running."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import toxproxy
from toxproxy.address import Bind, UnixBind
from toxproxy.cli.asking import say
from toxproxy.cli.run import client_settings, server_settings
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.config.settings import TO_THE_LOG, Config
from toxproxy.errors import ConfigError, StateError, ToxproxyError
from toxproxy.program import unit
from toxproxy.program.logs import Console
from toxproxy.program.unit import Runner, Service, unit_name
from toxproxy.system import services
from toxproxy.system.state import StateFlaw, StateFolder, default_path, flaw, option
from toxproxy.tox.identity import IDENTITY, tox_id

_ROLES: tuple[Role, ...] = ("server", "client")
_CARRIED = ("TOXPROXY_LIBTOXCORE",)  # variables without which the program does not start
_FREE_PORTS = 1024  # from here on everybody may listen
_SHOWN = ("ActiveState", "SubState", "UnitFileState", "StatusText")


def install_command(args: argparse.Namespace, console: Console) -> int:
    """Write the unit of a server or a client, and say what to type next."""
    settings = _settings(args)
    service = _service(args, settings)
    text = unit.text(service)
    if args.print:
        print(text, end="")
        return 0
    system = service.runner is not Runner.OWNER
    _require_systemd(f"toxproxy {service.role}{option(service.state, service.role)}")
    if system and not services.is_root():
        raise ToxproxyError("a service of the system is installed by root: use sudo, or leave --system out")
    services.systemctl("show-environment", system=system)  # raises where this user's systemd does not run
    own = None
    if service.runner is Runner.OWNER:
        own = tox_id(StateFolder(service.state))  # makes the folder, which systemd opens to the service
    elif service.runner is Runner.USER and not (service.state / IDENTITY).exists():
        raise StateError(
            f"{service.state} has no identity yet: as {service.user}, run: toxproxy id {service.role}"
        )
    path = _path(service.role, system=system)
    _write(path, text)
    services.systemctl("daemon-reload", system=system)
    say(f"{path} is written.")
    for line in _told(service, own):
        say(line)
    for warning in advice.warnings(settings, service.role):
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def uninstall_command(args: argparse.Namespace, console: Console) -> int:
    """Stop a service and remove its unit. Its state stays."""
    system = _is_system(args)
    path = _path(args.role, system=system)
    _require_systemd(f"rm {path}")
    if not path.exists():
        raise ToxproxyError(f"{path}: there is no such service")
    _require_own(path)
    services.systemctl("disable", "--now", unit_name(args.role), system=system)
    path.unlink()
    services.systemctl("daemon-reload", system=system)
    say(f"{path} is removed. The identity, and the clients that were let in, stay in the state folder.")
    return 0


def status_command(args: argparse.Namespace, console: Console) -> int:
    """Say which services there are, whether they run, and what they say of themselves."""
    system = _is_system(args)
    _require_systemd("toxproxy status")
    found = [role for role in _ROLES if args.role in (None, role) and _path(role, system=system).exists()]
    if not found:
        say(f"no service of toxproxy is installed in {services.unit_folder(system=system)}")
    active = True
    for role in found:
        shown = _properties(role, system=system)
        active = active and shown["ActiveState"] == "active"
        say(f"{unit_name(role)}: {shown['ActiveState']} ({shown['SubState']}), {shown['UnitFileState']}")
        if shown["StatusText"]:
            say(f"  {shown['StatusText']}")
    if found and not system and not services.lingers():
        say("It ends with your last login. To have it run without one: loginctl enable-linger")
    return 0 if found and active else 1


# What is installed


def _settings(args: argparse.Namespace) -> Config:
    if args.role == "server":
        return server_settings(args)
    if args.config is None:
        raise ConfigError("a client needs a configuration file: toxproxy service install client CONFIG")
    if args.permit is not None:
        raise ConfigError("--permit is a server's: where clients may connect to")
    return client_settings(args.config)


def _service(args: argparse.Namespace, settings: Config) -> Service:
    runner = Runner.SYSTEM if _is_system(args) else Runner.OWNER
    runner = Runner.USER if args.run_as else runner
    config = None if args.config is None else args.config.absolute()
    places = {Path(sys.prefix), Path(sys.base_prefix), Path(toxproxy.__file__).parent}
    if runner is Runner.SYSTEM and (hidden := [place for place in places if services.hidden(place)]):
        raise ToxproxyError(
            f"a service of the system cannot read {hidden[0]}, where toxproxy is: install it for everybody, "
            "for example in /opt/toxproxy, or name a user who runs it: --run-as USER"
        )
    service = Service(
        role=args.role,
        runner=runner,
        program=(sys.executable, "-P", "-m", "toxproxy"),
        state=_state(args, runner),
        config=config,
        permit=args.permit,
        user=args.run_as,
        low_ports=any(0 < port < _FREE_PORTS for port in _ports(args.role, settings)),
        memory=settings.limits.process_memory,
        writes=tuple(_writes(args.role, runner, settings)),
        environment={name: os.environ[name] for name in _CARRIED if name in os.environ},
        version=services.version(),
    )
    if runner is Runner.OWNER and not services.confines(*unit.confinement(service)):
        return replace(service, confined=False)
    return service


def _ports(role: Role, settings: Config) -> Iterator[int]:
    yield from (settings.tox.ports[0], settings.tox.tcp_relay)
    if settings.web is not None:
        yield settings.web.bind.port
    if role == "client":
        yield from (each.bind.port for each in settings.listeners if isinstance(each.bind, Bind))


def _state(args: argparse.Namespace, runner: Runner) -> Path:
    if runner is Runner.SYSTEM:
        if args.state is not None:
            raise ConfigError("--state: systemd makes the folder of a service of the system; leave it out")
        return Path("/var/lib", unit_name(args.role))
    if args.state is not None:
        return Path(args.state).absolute()
    return services.state_of(args.run_as, args.role) if runner is Runner.USER else default_path(args.role)


def _writes(role: Role, runner: Runner, settings: Config) -> Iterator[Path]:
    """The folders of the audit and of Unix sockets. Raises `ConfigError` if it cannot write there."""
    if role == "client":
        yield from _sockets(runner, settings)
    audit = settings.log.audit
    if role != "server" or audit is None or audit == TO_THE_LOG:
        return
    folder = Path(audit).parent
    if not folder.is_absolute():
        raise ConfigError(f"[log] audit: expected a whole path for a service, such as /home/me/{audit}")
    if runner is Runner.SYSTEM:
        expected = Path("/var/log", unit_name(role))
        if folder != expected:
            raise ConfigError(
                f"[log] audit: expected a file in {expected} for a service of the system, found {audit}"
            )
    else:
        yield folder


def _sockets(runner: Runner, settings: Config) -> Iterator[Path]:
    for each in settings.listeners:
        if isinstance(each.bind, UnixBind):
            if runner is Runner.SYSTEM:
                raise ConfigError(
                    f"{each.name}: a service with a user of its own cannot make {each.bind}; "
                    "name a user: --run-as USER"
                )
            yield Path(each.bind.path).parent


def _told(service: Service, own: object) -> Iterator[str]:
    """What was installed, and what to do next."""
    name, system = service.name, service.runner is not Runner.OWNER
    if own is not None:
        yield f"Its identity is in {service.state}; its Tox ID: {own}"
    elif service.runner is Runner.USER:
        yield f"It runs as {service.user}, with the identity in {service.state}."
    else:
        yield f"It runs as a user of its own, with an identity of its own in {service.state}."
        for user in dict.fromkeys((services.owner() or "root", "root")):
            other = services.state_of(user, service.role)
            if (other / IDENTITY).exists():
                instead = "" if user == "root" else f" To use that instead: --run-as {user}"
                yield f"{user} has another one in {other}.{instead}"
    if not system and (found := flaw(service.state)) is not None and found[0] is StateFlaw.IN_USE:
        yield f"A {service.role} runs with it now: end that one first."
    sudo = "sudo systemctl" if system else "systemctl --user"
    yield ""
    yield "Next:"
    yield ""
    yield f"  {sudo} enable --now {name}"
    if not system and not services.lingers():
        yield "  loginctl enable-linger    # so that it runs from the machine's start on, without a login"
    yield f"  {sudo} reload {name}    # after a change of its configuration"
    yield f"  journalctl {'' if system else '--user '}-u {name}    # what it says"
    yield f"  {'sudo ' if system else ''}toxproxy status{option(service.state, service.role)}"


# The unit


def _is_system(args: argparse.Namespace) -> bool:
    if getattr(args, "run_as", None) and args.scope == "user":
        raise ConfigError("--run-as is for a service of the system: leave --user out")
    if args.scope is None:
        return services.is_root() or getattr(args, "run_as", None) is not None
    return bool(args.scope == "system")


def _path(role: Role, *, system: bool) -> Path:
    return services.unit_folder(system=system) / f"{unit_name(role)}.service"


def _write(path: Path, text: str) -> None:
    """Raises `ToxproxyError` for a unit that somebody else wrote, or that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _require_own(path)
        path.write_text(text, "utf-8")
        path.chmod(0o644)
    except OSError as error:
        raise ToxproxyError(f"{path} cannot be written: {error.strerror}") from None


def _require_own(path: Path) -> None:
    if not path.read_text("utf-8", "replace").startswith(unit.MARK):
        raise ToxproxyError(f"{path} was not written by this command: remove it first, or change it by hand")


def _require_systemd(instead: str) -> None:
    if not services.runs():
        raise ToxproxyError(
            f"there is no systemd here: have whatever starts programs on this machine run: {instead} "
            "(--print shows what systemd would be told)"
        )


def _properties(role: Role, *, system: bool) -> dict[str, str]:
    wanted = ",".join(_SHOWN)
    text = services.systemctl("show", unit_name(role), f"--property={wanted}", system=system)
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: found.get(name, "") for name in _SHOWN}
