"""What an exit found out and decided about one target, for the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toxproxy.address import Address
from toxproxy.rules import Decision, Rule


@dataclass(slots=True)
class Trail:
    """Filled in while a target is dialled.

    `addresses`: the one that is connected to; before that, those that were found. `permitted` is None
    until the rules have judged, `rule` the one that decided.
    """

    addresses: tuple[Address, ...] = ()
    permitted: bool | None = None
    rule: Rule | None = None

    def judged(self, decisions: Mapping[Address, Decision]) -> None:
        """The rules have judged each address: one that they permit is enough."""
        self.addresses = tuple(decisions)
        of_one = next((each for each in decisions.values() if each.permitted), None)
        decision = of_one or next(iter(decisions.values()), Decision(False, None))
        self.permitted, self.rule = decision

    def connected(self, address: Address, decisions: Mapping[Address, Decision]) -> None:
        """This one was connected to."""
        self.addresses = (address,)
        if address in decisions:
            self.rule = decisions[address].rule
