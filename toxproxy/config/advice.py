"""Warnings about settings that are allowed but risky, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from toxproxy.config.secret import weakness
from toxproxy.config.settings import Config, Forward, ProxyPort

Role = Literal["server", "client"]


def warnings(config: Config, role: Role) -> list[str]:
    """The warnings for the role that is to run, one sentence each. No secret is repeated."""
    return [
        *_of_file(config),
        *_of_web(config),
        *((*_of_client(config), *_of_reverse(config)) if role == "client" else _of_server(config)),
    ]


def _of_file(config: Config) -> Iterator[str]:
    if config.open_file is not None and config.has_secrets:
        yield (
            f"{config.open_file} holds a secret and is open to other users of this machine: "
            f"chmod 600 {config.open_file}"
        )


def _of_web(config: Config) -> Iterator[str]:
    if config.web is None:
        return
    if config.web.secret is None:
        yield (
            "[web] has no secret: every user and program of this machine sees what this end does, and "
            "nothing can be ordered there; write secret = … below it"
        )
    elif why := weakness(config.web.secret):
        yield f"[web] secret {why}: choose another, for example the output of: openssl rand -hex 16"


def _of_client(config: Config) -> Iterator[str]:
    for listener in config.listeners:
        if listener.bind.is_loopback:
            continue
        if isinstance(listener, Forward):
            yield (
                f"[client] {listener.name} listens on {listener.bind} and a forward has no password: "
                f"whoever reaches that port reaches {listener.target}; "
                "without the address, only this machine does"
            )
        elif listener.username is None:
            yield (
                f"[socks] {listener.name} listens on {listener.bind} without a password: "
                "whoever reaches that port uses the server's network; "
                "write user:password@ before the address, or remove the address"
            )


def _of_reverse(config: Config) -> Iterator[str]:
    for entry in config.reverse.entries:
        if isinstance(entry, ProxyPort) and entry.username is None and not entry.bind.is_loopback:
            yield (
                f"[reverse] {entry.name} has the server listen on {entry.bind} without a password: whoever "
                "reaches that port uses this machine's network; write socks:user:password@ before the address"
            )


def _of_server(config: Config) -> Iterator[str]:
    access, rules = config.access, config.access.rules
    everywhere = "may connect to whatever this machine can reach; say where to with permit"
    if access.secret is not None and (why := weakness(access.secret)):
        yield f"[access] secret {why}: choose another, for example the output of: openssl rand -hex 16"
    if access.anyone:
        what = everywhere if rules.permit_everything else "is let in; give a secret to those who may come"
        yield f"[access] allow = *: anyone who has the Tox ID {what}"
    elif access.secret is not None and rules.permit_everything:
        yield f"[access] permit = *:* with a secret: whoever learns the secret {everywhere}"
    if rules.forget_loopback:
        yield "[access] deny names private, but not this machine itself: add self:*"
    for section in config.clients:
        if section.rules(rules).forget_loopback and not rules.forget_loopback:
            why = "what is denied to it has private, but not this machine itself: add self:*"
            yield f"[client {section.name}]: {why}"
