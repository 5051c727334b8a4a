"""Datagrams from the exit: which targets are reached, and whose answers come back."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable

import pytest
import uvloop

from tests.datagrams import Owner, client, service
from tests.descriptors import limited
from tests.machine import Hosts
from toxproxy.address import OpenUdpTarget, UdpTarget
from toxproxy.audit.record import End, Record, Verdict
from toxproxy.config.settings import ExitSettings
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.outbound.audited import AuditedExit
from toxproxy.outbound.exit import Exit
from toxproxy.rules import Rules, parse_rule
from toxproxy.system.descriptors import SPARE


def way_out(permit: str = "*:*/udp", deny: str = "", upstream: str | None = None) -> Exit:
    rules = Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))
    return Exit(ExitSettings(upstream=upstream, connect_timeout=5.0), rules)


async def refusal(exit: Exit, host: str, port: int = 53) -> StreamRefused:
    owner = Owner()
    exit.open_flow(owner, UdpTarget(host, port))
    error = await owner.end()
    assert isinstance(error, StreamRefused)
    return error


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "names.test", "::ffff:127.0.0.1"])
async def test_datagrams_reach_a_target_and_its_answers_come_back(host: str, hosts: Hosts) -> None:
    hosts["names.test"] = ["127.0.0.1"]
    async with service(host="::1" if host == "::1" else "127.0.0.1") as far:
        owner = Owner()
        flow = way_out().open_flow(owner, UdpTarget(host, far.target.port))
        flow.send(b"early")  # before the name was found
        assert await owner.receive() == b"ylrae"
        assert owner.opened.is_set()
        flow.send(bytes(60_000) + b"x")
        assert await owner.receive() == b"x" + bytes(60_000)
        flow.send(b"")
        assert await owner.receive() == b""
        flow.close()


async def test_what_others_send_to_its_port_is_dropped() -> None:
    async with service() as far, client() as stranger:
        owner = Owner()
        flow = way_out().open_flow(owner, far.target)
        flow.send(b"question")
        await owner.receive()
        _, port = far.seen[0][1]
        stranger.send(b"forged", ("127.0.0.1", port))
        flow.send(b"more")
        assert await owner.receive() == b"erom"
        assert owner.came.empty()
        flow.close()


async def test_answers_come_from_anywhere_where_the_client_asks_and_a_rule_says_so() -> None:
    async with service() as far, client() as stranger:
        target = OpenUdpTarget(far.target.host, far.target.port)
        for permit in ("*:*/udp", "*:*/tcp+udp", "*:*"):
            owner = Owner()
            way_out(permit).open_flow(owner, target)
            error = await owner.end()
            assert isinstance(error, StreamRefused)
            assert error.text == "not permitted (on the server: [access] permit, with /udp+any)"
        owner = Owner()
        flow = way_out("127.0.0.1:*/udp+any").open_flow(owner, target)
        flow.send(b"question")
        assert await owner.receive() == b"noitseuq"
        stranger.send(b"from elsewhere", ("127.0.0.1", far.seen[0][1][1]))
        assert await owner.receive() == b"from elsewhere"
        flow.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_port_where_nobody_listens_is_silent_and_the_flow_goes_on(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def goes_on() -> None:
        async with service() as far:
            target = far.target
        owner = Owner()
        flow = way_out().open_flow(owner, target)
        for _ in range(5):
            flow.send(b"question")
            await asyncio.sleep(0.01)
        assert owner.opened.is_set()
        assert not owner.ended.done()
        flow.send(bytes(65_535))  # longer than IPv4 takes
        async with service(port=target.port):
            flow.send(b"ab")
            assert await owner.receive() == b"ba"
        flow.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(goes_on())


@pytest.mark.parametrize(
    ("permit", "deny", "host"),
    [
        ("*:*", "", "127.0.0.1"),  # for TCP only
        ("*:*/tcp", "", "127.0.0.1"),
        ("*:53/udp", "", "127.0.0.1:54"),
        ("*:*/udp", "127.0.0.0/8:*", "127.0.0.1"),  # a denial counts for both
        ("*:*/udp", "127.0.0.0/8:*/udp", "127.0.0.1"),
        ("*:*/udp", "self:*", "0.0.0.0"),
        ("*:*/udp", "", "169.254.169.254"),
        ("*:*/udp", "", "224.0.0.251"),
        ("*:*/udp", "", "ff02::fb"),
        ("*:*/udp", "", "255.255.255.255"),
        ("[ff02::fb]:*/udp 224.0.0.0/4:*/udp", "", "224.0.0.251"),
    ],
)
async def test_what_the_rules_do_not_permit_for_udp_is_refused(permit: str, deny: str, host: str) -> None:
    name, _, port = host.partition(":") if host.count(":") == 1 else (host, "", "53")
    error = await refusal(way_out(permit, deny), name, int(port))
    assert error.code is Refusal.NOT_PERMITTED


@pytest.mark.parametrize("permit", ["127.0.0.1:*/udp", "127.0.0.1:*/tcp+udp", "*:*/UDP"])
async def test_rules_with_the_word_udp_permit_it(permit: str) -> None:
    async with service() as far:
        owner = Owner()
        flow = way_out(permit, "127.0.0.1:*/tcp").open_flow(owner, far.target)
        flow.send(b"ab")
        assert await owner.receive() == b"ba"
        flow.close()


async def test_without_permit_no_datagram_leaves() -> None:
    from toxproxy.config.settings import DEFAULT

    assert (await refusal(Exit(ExitSettings(), DEFAULT.access.rules), "127.0.0.1", 22)).code is (
        Refusal.NOT_PERMITTED
    )


async def test_a_name_that_does_not_exist_and_one_that_may_not_be_asked_for(hosts: Hosts) -> None:
    hosts["inside.test"] = ["127.0.0.1"]
    assert (await refusal(way_out(), "nowhere.test")).code is Refusal.NAME_NOT_FOUND
    error = await refusal(way_out("*:*/udp", "self:*"), "inside.test")
    assert (error.code, error.text) == (
        Refusal.NOT_PERMITTED,
        "not permitted (on the server: [access] permit, with /udp)",
    )
    assert (await refusal(way_out(), "fe80::1%eth0")).code is Refusal.UNSUPPORTED


async def test_with_an_upstream_proxy_nothing_leaves_beside_it() -> None:
    error = await refusal(way_out(upstream="socks5://127.0.0.1:1080"), "127.0.0.1")
    assert error.code is Refusal.UNSUPPORTED
    assert "upstream proxy, which carries no UDP" in error.text


async def test_where_descriptors_are_short_a_flow_is_refused_and_leaves_none_behind() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with limited(0, SPARE):
        assert (await refusal(way_out(), "127.0.0.1")).code is Refusal.TOO_MANY_STREAMS
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_flows_that_are_closed_at_any_moment_leave_no_descriptor(
    recwarn: pytest.WarningsRecorder,
) -> None:
    gc.collect()
    recwarn.clear()  # of what others have left behind
    before = len(os.listdir("/proc/self/fd"))
    async with service() as far:
        exit = way_out()
        for turns in range(6):
            flow = exit.open_flow(Owner(), far.target)
            for _ in range(turns):
                await asyncio.sleep(0)
            flow.close()
        await asyncio.sleep(0.01)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not recwarn.list


async def test_each_flow_has_a_record_at_its_end() -> None:
    records: list[Record] = []
    async with service() as far:
        audited = AuditedExit(
            way_out("127.0.0.1:*/udp"), bytes(32), name=lambda _: None, write=records.append
        )
        owner = Owner()
        flow = audited.open_flow(owner, far.target)
        flow.send(b"question")
        await owner.receive()
        flow.send(b"no answer")
        flow.close()
        resets = (StreamReset(ResetCode.CONNECTION_RESET), StreamReset(ResetCode.LINK_LOST))
        for reset in resets:
            audited.open_flow(owner, far.target).close(reset)
        refused = Owner()
        audited.open_flow(refused, UdpTarget("192.0.2.1", 9))
        await refused.end()
    first = records[0]
    assert first.target == f"127.0.0.1:{far.target.port}/udp"
    assert (first.verdict, first.rule, first.end) == (Verdict.PERMITTED, "127.0.0.1:*/udp", End.FINISHED)
    assert (first.to_target_bytes, first.to_client_bytes, first.addresses) == (17, 8, ("127.0.0.1",))
    assert [record.end for record in records[1:]] == [End.CLIENT_RESET, End.SESSION_ENDED, End.REFUSED]
    assert (records[3].verdict, records[3].refusal) == (Verdict.DENIED, Refusal.NOT_PERMITTED)
