"""What a configuration allows but is hardly wise, and what to do about it."""

from __future__ import annotations

from typing import Literal

from toxproxy.config import Config

Role = Literal["server", "client"]


def warnings(config: Config, role: Role) -> list[str]:
    """A sentence each, for the role that is to run. Secrets are not repeated."""
    return _of_client(config) if role == "client" else _of_server(config)


def _of_client(config: Config) -> list[str]:
    return [
        f"[socks] {proxy.name} listens on {proxy.bind} without a password: "
        "whoever reaches that port uses the server's network"
        for proxy in config.proxies
        if proxy.username is None and not proxy.bind.is_loopback
    ]


def _of_server(config: Config) -> list[str]:
    found, rules = [], config.access.rules
    if config.access.anyone and rules.permit_everything:
        found.append(
            "[access] allow = * with permit = *:*: anyone who has the Tox ID "
            "may connect to whatever this machine can reach"
        )
    elif config.access.anyone:
        found.append("[access] allow = * lets in anyone who has the Tox ID")
    if rules.forget_loopback:
        found.append("[access] deny names private, but not this machine itself: add self:*")
    return found
