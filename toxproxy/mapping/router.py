"""One router, asked by every protocol it may speak for a mapping of one UDP port."""

from __future__ import annotations

import asyncio
import logging

from toxproxy.mapping.grant import By, Failure, Grant, MappingError
from toxproxy.mapping.ways import NatPmp, Pcp, Upnp, Way
from toxproxy.system.gateway import Gateway

_WAY_SECONDS = 10.0  # for one protocol
_RELEASE_SECONDS = 2.0  # for giving back everything
_TELLING = list(Failure)

_log = logging.getLogger(__name__)


class Router:
    """The router at `gateway`. `port` is this machine's, `lifetime` in seconds."""

    def __init__(self, gateway: Gateway, port: int, lifetime: int) -> None:
        self.gateway = gateway
        self._lifetime = lifetime
        self._ways: list[Way] = [Pcp(gateway, port), NatPmp(gateway, port), Upnp(gateway, port)]
        self._held: list[Way] = []  # by which the router has, or may have, a mapping

    async def map(self, external: int) -> tuple[By, Grant]:
        """Get or renew the mapping, with this external port if possible, else with another.

        The protocols are asked one after the other: PCP, NAT-PMP, UPnP; on renewal the one that worked
        is first. Takes at most half a minute. Raises the `MappingError` that tells most.
        """
        failures = []
        for way in sorted(self._ways, key=lambda way: way not in self._held):
            worked = way in self._held
            if not worked:
                self._held.append(way)
            try:
                async with asyncio.timeout(_WAY_SECONDS):
                    return way.by, await way.map(external, self._lifetime)
            except TimeoutError:
                failure = MappingError(Failure.SILENT)
            except MappingError as error:
                failure = error
            failure.by = way.by
            failures.append(failure)
            if not worked:
                self._held.remove(way)
            _log.debug("%s at the router %s: %s", way.by.value, self.gateway.address, failure)
        raise min(failures, key=lambda error: _TELLING.index(error.failure))

    async def give_back(self) -> None:
        """Give back what the router has granted, or may have. Takes at most two seconds; never raises."""
        held, self._held = self._held, []
        await asyncio.gather(*(self._release(way) for way in held))

    async def _release(self, way: Way) -> None:
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await way.release()
        except (MappingError, TimeoutError) as error:
            _log.debug("%s at the router %s: not given back: %s", way.by.value, self.gateway.address, error)
