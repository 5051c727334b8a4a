"""The unit file of a server or a client that systemd runs, as text. Pure.

The program gets no more than it needs: its state folder, the network, and its configuration. What each
line is for is in systemd.exec(5) and systemd.service(5); docs/running.md says what the service may do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from toxproxy.config.advice import Role

MARK = "# Written by `toxproxy service install`"

_MIB = 1 << 20
_PROGRAM = 256 * _MIB  # bytes that the program takes without connections, and room for libtoxcore
_PLAIN = re.compile(r"[\w@+=:,./*\[\]-]+", re.ASCII)
_GROWING_PAUSES = 254  # the version of systemd that lets the pauses between two restarts grow


class Runner(Enum):
    """Whose systemd runs the service, and as which user."""

    OWNER = "owner"  # the user's own, as that user
    SYSTEM = "system"  # the system's, as a user that exists only for it
    USER = "user"  # the system's, as a user of the machine


@dataclass(frozen=True, slots=True)
class Service:
    """What the unit is made of. Paths are absolute.

    `program`: the beginning of the command line, up to the command. `state`: the state folder; of
    `Runner.SYSTEM` it is systemd's. `user`: whom `Runner.USER` runs as. `low_ports`: it listens on a port
    below 1024. `memory`: bytes that connections may hold. `writes`: other folders that it writes to.
    `confined`: that systemd may take rights away and make namespaces; a user's own may not everywhere.
    `version`: of systemd, 0 where it is not known.
    """

    role: Role
    runner: Runner
    program: tuple[str, ...]
    state: Path
    config: Path | None = None
    permit: str | None = None
    user: str | None = None
    low_ports: bool = False
    memory: int = 0
    writes: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    confined: bool = True
    version: int = 0

    @property
    def name(self) -> str:
        """The unit's name, which is also that of the user and the folders that systemd makes for it."""
        return unit_name(self.role)

    @property
    def read(self) -> Path | None:
        """The configuration as the program finds it.

        A user that exists only while the service runs owns no file outside, so it gets a copy of its own.
        """
        if self.config is None or self.runner is not Runner.SYSTEM:
            return self.config
        return Path("/run", self.name, "cfg.ini")


def unit_name(role: Role) -> str:
    """The name of the unit of a role."""
    return f"toxproxy-{role}"


def text(service: Service) -> str:
    """The whole unit file."""
    sections = {
        "Unit": _about(service),
        "Service": [*_process(service), *_place(service), *confinement(service)],
        "Install": [f"WantedBy={_target(service)}"],
    }
    lines = [MARK]
    for title, content in sections.items():
        lines += ["", f"[{title}]", *content]
    return "\n".join(lines) + "\n"


def _target(service: Service) -> str:
    return "default.target" if service.runner is Runner.OWNER else "multi-user.target"


def _about(service: Service) -> Iterator[str]:
    yield f"Description=toxproxy {service.role}"
    yield "Documentation=man:toxproxy(1)"
    if service.runner is not Runner.OWNER:  # a user's systemd has no such target
        yield "After=network-online.target nss-lookup.target"
        yield "Wants=network-online.target"
    yield "StartLimitIntervalSec=0"


def _process(service: Service) -> Iterator[str]:
    command = [*service.program, service.role, "--state", str(service.state)]
    if service.permit is not None:
        command += ["--permit", service.permit]
    if service.read is not None:
        command.append(str(service.read))
    yield "Type=notify"
    for name, value in service.environment.items():
        yield f"Environment={_words((f'{name}={value}',))}"
    for line in _copying(service):
        yield f"ExecStartPre=+{line}"
    yield f"ExecStart={_command(command)}"
    for line in _copying(service):
        yield f"ExecReload=+{line}"
    if service.config is not None:
        yield f"ExecReload={_command((*service.program, 'reload', '--state', str(service.state)))}"
    yield "Restart=on-failure"
    yield "RestartSec=5"
    if service.version >= _GROWING_PAUSES:
        yield "RestartSteps=6"
        yield "RestartMaxDelaySec=5min"
    yield "RestartPreventExitStatus=2"  # the command line or the configuration cannot be used
    yield "TimeoutStopSec=30"
    yield "WatchdogSec=60"


def _copying(service: Service) -> Iterator[str]:
    """Commands that give the program its copy of the configuration, as root."""
    if service.config is not None and service.read != service.config:
        yield _command(("install", "-m", "0400", str(service.config), str(service.read)))
        folder = str(Path(str(service.read)).parent)
        yield _command(("chown", f"--reference={folder}", str(service.read)))


def _place(service: Service) -> Iterator[str]:
    """Who it is, and where it writes."""
    yield "UMask=0077"
    if service.runner is Runner.SYSTEM:
        yield "DynamicUser=yes"
        yield f"User={service.name}"
        for what in ("State", "Runtime", "Logs"):
            yield f"{what}Directory={service.name}"
            yield f"{what}DirectoryMode=0700"
        yield "ProtectHome=yes"
    else:
        if service.runner is Runner.USER:
            yield f"User={service.user}"
        yield "ProtectHome=read-only"
        yield f"ReadWritePaths={_words(map(str, (service.state, *service.writes)))}"


def confinement(service: Service) -> Iterator[str]:
    """The lines of [Service] that take away what the program does not need."""
    most = -(-(2 * service.memory + _PROGRAM) // _MIB)
    yield f"MemoryMax={most}M"
    yield "TasksMax=64"
    if service.confined:
        low = service.low_ports and service.runner is not Runner.OWNER
        ports = "CAP_NET_BIND_SERVICE" if low else ""
        yield f"CapabilityBoundingSet={ports}"
        yield f"AmbientCapabilities={ports}"
        yield from (f"{name}=yes" for name in ("PrivateDevices", "ProtectClock", "ProtectKernelModules"))
        if service.runner is not Runner.OWNER:  # whose user cannot read them anyway
            yield "ProtectKernelLogs=yes"
        if not low:  # the right to such a port does not hold in a namespace
            yield "PrivateUsers=yes"
    yield "ProtectSystem=strict"
    yield "ProtectProc=invisible"
    yield "ProcSubset=pid"
    for name in (
        "NoNewPrivileges", "PrivateTmp", "ProtectHostname", "ProtectKernelTunables", "ProtectControlGroups",
        "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality",
    ):  # fmt: skip  # not MemoryDenyWriteExecute: cffi writes the code of libtoxcore's callbacks
        yield f"{name}=yes"
    yield "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"
    yield "SystemCallArchitectures=native"
    yield "SystemCallFilter=@system-service"
    yield "SystemCallFilter=~@privileged"
    yield "SystemCallFilter=capset"  # by which the program gives up what is left, once its ports are bound
    yield "SystemCallErrorNumber=EPERM"


def _command(words: Iterable[str]) -> str:
    """A command line in which nothing is a variable."""
    return _words(words).replace("$", "$$")


def _words(words: Iterable[str]) -> str:
    """Words as systemd takes them apart again (systemd.syntax(7))."""
    return " ".join(word if _PLAIN.fullmatch(word) else f'"{_quoted(word)}"' for word in words)


def _quoted(word: str) -> str:
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in word)
