"""The report of a run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from faults.ledger import End, Ledger
from faults.plan import Kind, Plan, Stream
from faults.usage import Usage

_MOST_SHOWN = 20  # failed streams, and as many other problems


@dataclass
class Findings:
    """The findings of a run. `trouble` lists the problems that are not about one stream.

    `usage` has the usage of each process before and after.
    """

    plan: Plan
    ledger: Ledger = field(default_factory=Ledger)
    trouble: list[str] = field(default_factory=list)
    usage: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)
    seconds: float = 0.0
    cuts: list[float] = field(default_factory=list)  # seconds each
    traffic: str = ""

    def failed(self) -> list[tuple[Stream, list[str]]]:
        """The streams that failed, each with its problems."""
        judged = ((stream, self.ledger.problems(stream)) for stream in self.plan.streams)
        return [(stream, problems) for stream, problems in judged if problems]

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return not self.trouble and not self.failed()


def render(findings: Findings, command: str) -> str:
    """The whole report. `command` is the command that repeats the run."""
    failed = findings.failed()
    lines = [*_table(findings, {stream.number for stream, _ in failed}), ""]
    lines.append(f"{len(findings.cuts)} cuts, {sum(findings.cuts):.0f} of {findings.seconds:.0f} s")
    lines += findings.traffic.splitlines()
    lines += ["", *_usage(findings.usage), ""]
    for stream, problems in failed[:_MOST_SHOWN]:
        lines.append(f"stream {stream.number} ({_description(stream)}):")
        lines += [f"    {problem}" for problem in problems]
    if len(failed) > _MOST_SHOWN:
        lines.append(f"and {len(failed) - _MOST_SHOWN} more failed streams")
    lines += findings.trouble[:_MOST_SHOWN]
    if findings.good:
        lines.append("Every stream was whole, or right up to its planned reset.")
    else:
        lines += ["", f"FAILED. Again: {command}"]
    return "\n".join(lines)


def _table(findings: Findings, failed: set[int]) -> Iterable[str]:
    yield f"{'streams':<32}{'count':>7}{'whole':>7}{'reset':>7}{'failed':>8}{'MB':>9}"
    for kind in Kind:
        yield _row(
            kind.value, [stream for stream in findings.plan.streams if stream.kind is kind], findings, failed
        )
    yield _row("all", findings.plan.streams, findings, failed)


def _row(name: str, streams: Sequence[Stream], findings: Findings, failed: set[int]) -> str:
    outcomes = Counter[str]()
    for stream in streams:
        ends = set(findings.ledger.ends(stream).values())
        outcome = "failed" if stream.number in failed else "whole" if ends == {End.WHOLE} else "reset"
        outcomes[outcome] += 1
    got = sum(findings.ledger.got(stream) for stream in streams) / 1e6
    counts = f"{outcomes['whole']:>7}{outcomes['reset']:>7}{outcomes['failed']:>8}"
    return f"{name:<32}{len(streams):>7}{counts}{got:>9.1f}"


def _usage(usage: dict[str, tuple[Usage, Usage]]) -> Iterable[str]:
    yield f"{'before, after':<16}{'memory, MB':>16}{'descriptors':>16}{'connections':>16}"
    for name, (before, after) in usage.items():
        memory = f"{before.memory / 1e6:.1f}, {after.memory / 1e6:.1f}"
        descriptors = f"{before.descriptors}, {after.descriptors}"
        connections = f"{before.connections}, {after.connections}"
        yield f"{name:<16}{memory:>16}{descriptors:>16}{connections:>16}"


def _description(stream: Stream) -> str:
    text = f"{stream.kind.value}, by the {stream.way.value}, {stream.up} bytes up, {stream.down} down"
    if stream.kind is Kind.STALL:
        text += f"; {stream.actor.value} stalls for {stream.pause:.1f} s after {stream.after}"
    elif stream.kind is Kind.RESET:
        text += f"; {stream.actor.value} resets after {stream.after}"
    return text
