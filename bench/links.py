"""Links: the properties of the path between the two ends. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """A path that is the same in both directions.

    `delay` is one way, in ms; `loss` in percent; `rate` in Mbit/s of IP packets; `queue` in KiB.
    Packets that find the queue full are dropped. A rate or queue of 0 is no limit. Of the packets
    that are not lost, `duplication` percent arrive twice, `reordering` percent arrive up to two
    delays late, and `corruption` percent arrive with one bit of their payload flipped.
    """

    name: str
    delay: float
    loss: float
    rate: float
    queue: float
    duplication: float = 0
    reordering: float = 0
    corruption: float = 0

    def __post_init__(self) -> None:
        shares = (self.loss, self.duplication, self.reordering, self.corruption)
        numbers = (self.delay, self.rate, self.queue, *shares)
        if not all(0 <= number < math.inf for number in numbers) or max(shares) > 100:
            raise ValueError(f"expected numbers from 0, percentages up to 100, found {self.name}")

    def __str__(self) -> str:
        parts = [f"{2 * self.delay:g} ms round trip", f"{self.loss:g} % loss"]
        parts += [f"{self.rate:g} Mbit/s"] if self.rate else []
        parts += [f"{self.queue:g} KiB queue"] if self.queue else []
        faults = {"duplicated": self.duplication, "reordered": self.reordering, "corrupted": self.corruption}
        parts += [f"{share:g} % {what}" for what, share in faults.items() if share]
        return ", ".join(parts)

    @property
    def capacity(self) -> float:
        """MB/s of IP packets. 0 means no limit."""
        return self.rate / 8


CLEAN = Link("clean", 0, 0, 0, 0)
FAR = Link("far", 25, 0, 0, 0)
WAN = Link("wan", 25, 1, 100, 600)
DEEP = Link("deep", 25, 0, 20, 2500)
SLOW = Link("slow", 150, 2, 8, 200)

LINKS = {link.name: link for link in (CLEAN, FAR, WAN, DEEP, SLOW)}


def parse(text: str) -> Link:
    """A link by its name, or from DELAY/LOSS/RATE/QUEUE. Raises `ValueError` for anything else."""
    if text in LINKS:
        return LINKS[text]
    try:
        delay, loss, rate, queue = map(float, text.split("/"))
    except ValueError:
        known = ", ".join(LINKS)
        raise ValueError(f"expected {known} or DELAY/LOSS/RATE/QUEUE, found {text!r}") from None
    return Link(text, delay, loss, rate, queue)
