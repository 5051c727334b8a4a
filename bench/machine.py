"""This machine: its description, the load of other programs, the usage of one process (Linux)."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
from pathlib import Path

from toxproxy import __version__
from toxproxy.program.runner import INSPECTABLE
from toxproxy.tox import library

_LOOK_SECONDS = 0.5
_CAP_SYS_PTRACE = 19  # linux/capability.h


def description() -> dict[str, str]:
    """The properties of the machine that figures depend on, by name."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    lib = library.load()
    tox = ".".join(str(getattr(lib, f"tox_version_{part}")()) for part in ("major", "minor", "patch"))
    return {
        "processor": f"{os.cpu_count()} × {cpu}",
        "memory": f"{memory / (1 << 20):.1f} GiB",
        "system": f"{_distribution()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "toxproxy": f"{__version__} ({_first_line('git', 'describe', '--always', '--dirty')})",
        "libtoxcore": tox,
        "OpenSSH": _first_line("ssh", "-V"),
    }


async def others() -> float:
    """The load by other programs, measured while this one sleeps, in percent of all cores.

    What programs of a lower priority (`nice`) compute does not count, since it waits for those of the bench.
    """
    idle, total = _times()
    await asyncio.sleep(_LOOK_SECONDS)
    idle_now, total_now = _times()
    return 100 * (1 - (idle_now - idle) / max(total_now - total, 1))


def see_processes() -> None:
    """Let this user read /proc/PID of the toxproxy programs started from now on.

    Needed only without CAP_SYS_PTRACE: toxproxy closes its /proc to other programs.
    """
    status = dict(line.split(":", 1) for line in _lines("/proc/self/status"))
    if not int(status["CapEff"], 16) >> _CAP_SYS_PTRACE & 1:
        os.environ[INSPECTABLE] = "yes"


def memory(pid: int) -> int:
    """Bytes of private memory of a process."""
    fields = dict(line.split(":") for line in _lines(f"/proc/{pid}/smaps_rollup")[1:])
    return 1024 * sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_seconds(pid: int) -> float:
    """The same for a process together with those that it has started and that still run."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # ended meanwhile
                continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(map(processor_seconds, family))


def _times() -> tuple[int, int]:
    """Idle ticks and all ticks, summed over the cores."""
    _, nice, _, idle, waiting, *_ = fields = [int(field) for field in _lines("/proc/stat")[0].split()[1:9]]
    return nice + idle + waiting, sum(fields)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "not here"
    return next(iter((done.stdout or done.stderr).splitlines()), "unknown")
