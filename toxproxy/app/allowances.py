"""What each client of a server may, by its section [client NAME], and what it has used of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

from toxproxy.admission.quotas import Quotas
from toxproxy.config.settings import ClientSection
from toxproxy.control.snapshots import AllowanceSnapshot
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.rules import Rules
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.meter import Meter


class Allowances:
    """The sections that hold now, and the meter of each client, which all its sessions share.

    `used_up` is called with the key of a client that has used its quota, from its meter. Raises
    `StateError` as `Quotas`.
    """

    def __init__(self, state: StateFolder, used_up: Callable[[bytes], None]) -> None:
        self._quotas = Quotas(state)
        self._used_up = used_up
        self._sections: dict[bytes, ClientSection] = {}
        self._meters = WeakValueDictionary[bytes, Meter]()

    def change(self, sections: Iterable[ClientSection]) -> None:
        """Other sections hold from now on. No stream is touched but those of a client without quota left."""
        before, self._sections = self._sections, {each.key: each for each in sections}
        for key, meter in list(self._meters.items()):
            if before.get(key) != self._sections.get(key):
                self._set(key, meter)

    def meter(self, key: bytes) -> Meter:
        """The meter of a client."""
        if (meter := self._meters.get(key)) is None:
            meter = self._meters[key] = Meter()
            self._set(key, meter)
        return meter

    def rules(self, key: bytes, common: Rules) -> Rules:
        """Where a client may connect; `common` is where clients may."""
        section = self._sections.get(key)
        return common if section is None else section.rules(common)

    def check(self, key: bytes) -> None:
        """Raise `StreamRefused` if a client has used its quota."""
        section = self._sections.get(key)
        if section is not None and section.quota is not None and self._quotas.used(key) >= section.quota:
            text = "what this client may carry in a month is used up (on the server: quota of its section)"
            raise StreamRefused(Refusal.QUOTA_USED, text)

    def snapshot(self, key: bytes) -> AllowanceSnapshot | None:
        """What a client may and has used; None for one without a section."""
        if (section := self._sections.get(key)) is None:
            return None
        return AllowanceSnapshot(
            down_bytes_per_s=section.rate.down if section.rate is not None else None,
            up_bytes_per_s=section.rate.up if section.rate is not None else None,
            quota_bytes=section.quota,
            used_bytes=self._quotas.used(key) if section.quota is not None else None,
            expires_unix_s=section.expires,
        )

    async def close(self) -> None:
        """Write down what was used."""
        await self._quotas.close()

    def _set(self, key: bytes, meter: Meter) -> None:
        section = self._sections.get(key)
        rate, quota = (section.rate, section.quota) if section is not None else (None, None)
        meter.limit(*((rate.down, rate.up) if rate is not None else (None, None)))
        meter.tell(lambda size: None)
        if (most := quota) is not None:

            def used(size: int) -> None:
                if self._quotas.add(key, size) >= most:
                    self._used_up(key)

            meter.tell(used)
            if self._quotas.used(key) >= most:
                self._used_up(key)
