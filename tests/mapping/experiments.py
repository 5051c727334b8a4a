"""What is tried with a real router. `python -m tests.mapping.experiments NAME` prints what was found."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import tempfile
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.mapping import world
from tests.mapping.world import PORT, Router, arrives, mapped, node_port, told, until
from toxproxy.control.client import ask
from toxproxy.mapping.grant import Mapping
from toxproxy.mapping.mapper import Mapper
from toxproxy.mapping.ways import NatPmp, Pcp, Upnp, Way
from toxproxy.system.gateway import Gateway

_HERE = Gateway(IPv4Address(world.ROUTER), IPv4Address(world.HOME))
_NEIGHBOUR = Gateway(IPv4Address(world.ROUTER), IPv4Address(world.NEIGHBOUR))


async def each(folder: Path) -> Any:
    """Map and give back by each protocol."""
    found = {}
    with Router(folder), node_port() as sock:
        for kind in (Pcp, NatPmp, Upnp):
            way: Way = kind(_HERE, PORT)
            grant = await way.map(PORT, 600)
            mapping = Mapping(grant.address, grant.port, way.by, 0)
            through = await arrives(sock, mapping)
            await way.release()
            found[way.by.value] = [*(told(mapping) or []), grant.lifetime, through, mapped()]
    return found


async def taken(folder: Path) -> Any:
    """Ask for a port that is a neighbour's, by each protocol."""
    found = {}
    with Router(folder):
        for kind in (Pcp, NatPmp, Upnp):
            theirs: Way = Upnp(_NEIGHBOUR, PORT)
            await theirs.map(PORT, 600)
            ours: Way = kind(_HERE, PORT)
            grant = await ours.map(PORT, 600)
            both = sorted(line.rpartition("dport ")[2] for line in mapped())
            await ours.release()
            found[ours.by.value] = [
                grant.port != PORT,
                len(both),
                *(line.rpartition("dport ")[2] for line in mapped()),
            ]
            await theirs.release()
    return found


async def kept(folder: Path) -> Any:
    """Hold a mapping of 8 seconds for longer than that."""
    with Router(folder) as router, node_port() as sock:
        mapper = Mapper(PORT, lifetime=8)
        mapper.start()
        await until(lambda: mapper.mapping)
        first = mapper.mapping
        assert first is not None
        await asyncio.sleep(10)
        later = mapper.mapping
        through = later is not None and await arrives(sock, later)
        asked = router.log.count("PCP request received")
        await mapper.close()
        return {
            "first": told(first),
            "later": told(later),
            "through": through,
            "asked": asked,
            "left": mapped(),
        }


async def restarted(folder: Path) -> Any:
    """Switch the router off and on, while the mapping has twenty minutes to go."""
    with Router(folder) as router, node_port() as sock:
        mapper = Mapper(PORT)
        mapper.start()
        await until(lambda: mapper.mapping)
        router.stop()
        forgotten = mapped()
        router.start()
        await until(mapped)
        assert mapper.mapping is not None
        through = await arrives(sock, mapper.mapping)
        await mapper.close()
        return {"forgotten": forgotten, "through": through, "left": mapped()}


async def moved(folder: Path) -> Any:
    """Take the gateway away, and give it back with another address of this machine."""
    changes: list[object] = []
    progress: list[str] = []
    with Router(folder), node_port():
        mapper = Mapper(PORT, changed=lambda: changes.append(told(mapper.mapping)))
        mapper.start()
        await until(lambda: mapper.mapping)
        for command in (
            "ip route del default",
            f"ip route add default via {world.ROUTER} src {world.NEIGHBOUR}",
        ):
            before = len(changes)
            await asyncio.to_thread(subprocess.run, command.split(), check=True)
            await until(lambda before=before: len(changes) > before)
            progress.append(mapper.progress.value)
        leads = [line.rpartition(" to ")[2] for line in mapped() if world.NEIGHBOUR in line]
        await mapper.close()
        return {"changes": changes, "progress": progress, "leads": leads}


async def program(folder: Path) -> Any:
    """Run a server with each of three settings, and stop it by each signal."""
    found: dict[str, Any] = {}
    for name, setting, stop in (
        ("asked", "port_mapping = yes", signal.SIGTERM),
        ("interrupted", "port_mapping = yes", signal.SIGINT),
        ("private", "", signal.SIGTERM),
    ):
        place = folder / name
        place.mkdir()
        with Router(place) as router:
            (place / "tox.ini").write_text(
                f"[tox]\nbootstrap = none\nlocal_discovery = no\nport = {PORT}\n{setting}\n"
            )
            command = [sys.executable, "-m", "toxproxy", "-v", "server", str(place / "tox.ini")]
            with (place / "log").open("wb") as log:
                server = await asyncio.create_subprocess_exec(
                    *command, "--state", str(place / "state"), stdout=log, stderr=log
                )
            await until(lambda place=place: b"running; Tox on" in (place / "log").read_bytes())
            if setting:
                await until(mapped)
                await until(lambda place=place: b"leads its UDP port" in (place / "log").read_bytes())
            else:
                await asyncio.sleep(4)
            told = await asyncio.to_thread(ask, place / "state", "status")
            assert isinstance(told, dict)
            held = mapped()
            before = world.received()
            await world.send("11.0.0.1", PORT, 50)
            await asyncio.sleep(0.2)
            reached = world.received() - before >= 50
            server.send_signal(stop)
            async with asyncio.timeout(15):
                status = await server.wait()
            lines = [line for line in (place / "log").read_text().splitlines() if "the router leads" in line]
            found[name] = {
                "held": len(held),
                "reached": reached,
                "status": status,
                "left": mapped(),
                "lines": [line.partition("the router")[2] for line in lines],
                "told": told["network"]["mapping"],
                "asked": "request received" in router.log or "HTTP REQUEST" in router.log,
            }
    return found


async def main() -> None:
    experiments = {e.__name__: e for e in (each, taken, kept, restarted, moved, program)}
    world.build()
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        print(json.dumps(await experiments[sys.argv[1]](Path(folder))))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)d %(message)s")
    asyncio.run(main())
