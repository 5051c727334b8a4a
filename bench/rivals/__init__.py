"""Other tunnels to compare with: which are here, and how to run each across a network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.rivals import asyncssh, iroh, kcptun, pproxy, quic, ssh, tuntox, wireguard
from bench.rivals.base import Crossing, Rival, module, programs

__all__ = ["Crossing", "Rival", "rivals"]

_CONTROLS = ("bbr", "cubic")


def rivals(program: Path | None = None) -> list[Rival]:
    """All known rivals. tuntox is not searched for: `program` is its path."""
    has_ssh = programs("openssh-client openssh-server", "ssh", "sshd", "ssh-keygen")
    has_wireguard = programs("wireguard-go wireguard-tools", "wireguard-go", "wg")
    return [
        *(Rival(f"ssh ({control})", has_ssh, partial(ssh.cross, control=control)) for control in _CONTROLS),
        Rival("ssh -w (bbr)", has_ssh, ssh.cross_device),
        Rival("kcptun", programs("kcptun", "kcptun-client", "kcptun-server"), kcptun.cross),
        Rival("iroh", module("iroh"), iroh.cross),
        Rival("aioquic", module("aioquic"), quic.cross),
        *(
            Rival(f"WireGuard ({control})", has_wireguard, partial(wireguard.cross, control=control))
            for control in _CONTROLS
        ),
        Rival("asyncssh (cubic)", module("asyncssh"), asyncssh.cross),
        Rival("pproxy (cubic)", module("pproxy"), pproxy.cross),
        Rival("tuntox", "" if program else "--tuntox PROGRAM", partial(tuntox.cross, program=str(program))),
    ]
