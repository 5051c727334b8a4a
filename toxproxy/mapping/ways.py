"""The three protocols by which a router is asked for a mapping of one UDP port."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Protocol

from toxproxy.mapping import igd, natpmp, pcp
from toxproxy.mapping.exchange import ask, fetch, search
from toxproxy.mapping.grant import By, Failure, Grant, MappingError, checked
from toxproxy.system.gateway import Gateway

_TRIES = 4  # with UPnP, the first with the wanted port, then with others
_FIRST_PORT = 1024  # of the others
_DESCRIPTION = "toxproxy"  # what the router's pages show


class Way(Protocol):
    """One protocol, at one gateway, for one internal port."""

    by: By

    async def map(self, external: int, lifetime: int) -> Grant:
        """Get or renew the mapping, with this external port if possible. Raises `MappingError`.

        Takes a bounded time. When it is cancelled, `release` may still be needed.
        """
        ...

    async def release(self) -> None:
        """Give the mapping back, or what may be one. Raises `MappingError`."""
        ...


class Pcp:
    """Port Control Protocol (RFC 6887). The nonce makes the mapping this object's own."""

    by = By.PCP

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway = gateway
        self._port = port
        self._nonce = secrets.token_bytes(pcp.NONCE)

    async def map(self, external: int, lifetime: int) -> Grant:
        try:
            return await self._map(external, lifetime)
        except MappingError as error:
            if error.failure is not Failure.TAKEN:
                raise
        return await self._map(0, lifetime)

    async def _map(self, external: int, lifetime: int) -> Grant:
        request = pcp.map_request(self._nonce, self._gateway.source, self._port, external, lifetime)
        return await ask(
            self._gateway, natpmp.PORT, request, lambda data: pcp.parse_grant(data, self._nonce, self._port)
        )

    async def release(self) -> None:
        request = pcp.map_request(self._nonce, self._gateway.source, self._port, 0, 0)
        await ask(
            self._gateway,
            natpmp.PORT,
            request,
            lambda data: pcp.parse_released(data, self._nonce, self._port),
        )


class NatPmp:
    """NAT Port Mapping Protocol (RFC 6886). The router takes another port where the wanted one is used."""

    by = By.NAT_PMP

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway = gateway
        self._port = port

    async def map(self, external: int, lifetime: int) -> Grant:
        mapped = await self._map(external, lifetime)
        found = await ask(self._gateway, natpmp.PORT, natpmp.ADDRESS_REQUEST, natpmp.parse_address)
        return checked(found.address, mapped.port, mapped.lifetime, mapped.epoch)

    async def _map(self, external: int, lifetime: int) -> natpmp.Mapped:
        request = natpmp.map_request(self._port, external, lifetime)
        return await ask(
            self._gateway, natpmp.PORT, request, lambda data: natpmp.parse_mapped(data, self._port)
        )

    async def release(self) -> None:
        await self._map(0, 0)


class Upnp:
    """UPnP's Internet Gateway Device."""

    by = By.UPNP

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway = gateway
        self._port = port
        self._services: list[igd.Service] = []
        self._mapped: tuple[igd.Service, int] | None = None  # an external port that is or may be ours

    async def map(self, external: int, lifetime: int) -> Grant:
        if self._services:
            with suppress(MappingError):
                return await self._map(external, lifetime)
        self._services = await self._find()  # it may have another port since it was restarted
        return await self._map(external, lifetime)

    async def release(self) -> None:
        if self._mapped is not None:
            service, external = self._mapped
            await self._yield_to_others(service, external)
            await self._act(service, "DeletePortMapping", _entry(external))
            self._mapped = None

    async def _find(self) -> list[igd.Service]:
        url = await search(self._gateway, igd.SSDP_PORT, igd.SSDP_GROUP, igd.SEARCHES, igd.parse_found)
        description = await fetch(self._gateway, url)
        return igd.parse_services(description, url)

    async def _map(self, external: int, lifetime: int) -> Grant:
        """A mapping by the first service that has an external address."""
        failure = MappingError(Failure.UNSUPPORTED)
        for service in self._services:
            try:
                results = await self._act(service, "GetExternalIPAddress", {})
                address = checked(igd.parse_address(results), external, lifetime).address
                return Grant(address, await self._add_free(service, external, lifetime), lifetime)
            except MappingError as error:
                failure = error
        raise failure

    async def _add_free(self, service: igd.Service, external: int, lifetime: int) -> int:
        """Map the wanted port, or another if that is another host's; returns it."""
        for _ in range(_TRIES):
            try:
                await self._yield_to_others(service, external)
                return await self._add(service, external, lifetime)
            except MappingError as error:
                if error.failure is not Failure.TAKEN:
                    raise
            self._mapped = None
            external = secrets.choice(range(_FIRST_PORT, 65536))
        raise MappingError(Failure.TAKEN)

    async def _yield_to_others(self, service: igd.Service, external: int) -> None:
        """Raise TAKEN if the port leads elsewhere: some routers would let one replace the other's mapping."""
        try:
            entry = await self._act(service, "GetSpecificPortMappingEntry", _entry(external))
        except MappingError as error:
            if error.code is None:
                raise
            return  # there is none, or the router does not tell
        owner = entry.get("NewInternalClient"), entry.get("NewInternalPort")
        if owner != (str(self._gateway.source), str(self._port)):
            raise MappingError(Failure.TAKEN)

    async def _add(self, service: igd.Service, external: int, lifetime: int) -> int:
        arguments = _entry(external) | {
            "NewInternalPort": self._port,
            "NewInternalClient": self._gateway.source,
            "NewEnabled": 1,
            "NewPortMappingDescription": _DESCRIPTION,
            "NewLeaseDuration": lifetime,
        }
        self._mapped = service, external
        try:
            await self._act(service, "AddPortMapping", arguments)
        except MappingError as error:
            if error.code != igd.ONLY_PERMANENT_LEASES:
                raise
            await self._act(service, "AddPortMapping", arguments | {"NewLeaseDuration": 0})
        return external

    async def _act(self, service: igd.Service, action: str, arguments: dict[str, object]) -> dict[str, str]:
        headers = [
            ("Content-Type", 'text/xml; charset="utf-8"'),
            ("SOAPAction", f'"{service.kind}#{action}"'),
        ]
        body = igd.soap(service, action, arguments)
        answer = await fetch(self._gateway, service.control, headers, body)
        return igd.parse_soap(answer, action)


def _entry(external: int) -> dict[str, object]:
    return {"NewRemoteHost": "", "NewExternalPort": external, "NewProtocol": "UDP"}
