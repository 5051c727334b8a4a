"""The exit: permit, resolve, dial. What reaches a target, and the code of every failure."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.descriptors import limited
from tests.machine import Hosts
from tests.outbound.peers import Answer, Serve
from toxproxy.address import Target
from toxproxy.config.settings import ExitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound import exit as exits
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.trail import Trail
from toxproxy.rules import Machine, Rules, parse_rule
from toxproxy.system import interfaces, resolver
from toxproxy.system.descriptors import SPARE


def rules(permit: str = "*:*", deny: str = "") -> Rules:
    return Rules(tuple(map(parse_rule, permit.split())), tuple(map(parse_rule, deny.split())))


def direct(timeout: float = 5.0, **texts: str) -> Exit:
    return Exit(ExitSettings(upstream=None, connect_timeout=timeout), rules(**texts))


async def refusal(way_out: Exit, host: str, port: int) -> StreamRefused:
    with pytest.raises(StreamRefused) as caught:
        await way_out.dial(Answer, Target(host, port))
    return caught.value


NOT_PERMITTED = "not permitted (on the server: [access] permit)"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
async def test_a_permitted_target_is_reached(host: str, echo_port: int, hosts: Hosts) -> None:
    hosts["localhost"] = hosts["LOCALHOST"] = ["127.0.0.1"]
    transport, answer = await direct().dial(Answer, Target(host, echo_port))
    assert transport.get_extra_info("peername") == ("127.0.0.1", echo_port)
    transport.write(b"hello")
    assert await answer.read(5) == b"hello"
    transport.close()
    await answer.lost


async def test_a_closed_port_is_connection_refused(closed_port: int, hosts: Hosts) -> None:
    hosts["localhost"] = ["127.0.0.1"]
    error = await refusal(direct(), "localhost", closed_port)
    assert (error.code, error.text) == (
        Refusal.CONNECTION_REFUSED,
        "connection refused",
    )


async def test_a_target_that_does_not_answer_is_a_timeout(black_hole: Callable[[str], int]) -> None:
    port = black_hole("127.0.0.1")
    error = await refusal(direct(timeout=0.2), "127.0.0.1", port)
    assert (error.code, error.text) == (Refusal.TIMED_OUT, "no answer within 0.2 seconds")


@pytest.mark.parametrize("host", ["255.255.255.255", "224.0.0.1", "ff02::1"])
async def test_an_address_without_a_route_is_network_unreachable(host: str) -> None:
    assert (await refusal(direct(), host, 80)).code is Refusal.NETWORK_UNREACHABLE


async def test_a_failure_without_a_code_of_its_own_has_the_systems_text(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(exits.eyeballs, "connect", exhausted)
    error = await refusal(direct(), "127.0.0.1", echo_port)
    assert (error.code, error.text) == (Refusal.FAILED, os.strerror(errno.EMFILE))


async def test_an_unknown_name_is_not_found(hosts: Hosts) -> None:
    error = await refusal(direct(), "nowhere.example.org", 80)
    assert (error.code, error.text) == (Refusal.NAME_NOT_FOUND, "name not found")


@pytest.mark.parametrize("host", ["invalid", "nobody.invalid", "Nobody.INVALID."])
async def test_a_name_that_cannot_exist_is_not_looked_up(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def look_up(*arguments: object, **options: object) -> list[object]:
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert (await refusal(direct(), host, 80)).code is Refusal.NAME_NOT_FOUND


async def test_a_resolver_that_does_not_answer_is_not_reported_as_a_missing_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(exits.socket, "getaddrinfo", getaddrinfo)
    error = await refusal(direct(), "example.org", 80)
    assert error.code is Refusal.FAILED
    assert error.text == "the server's name resolver does not answer"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0", "::ffff:7f00:1"]
)
async def test_a_denied_network_is_denied_in_every_spelling(host: str, echo_port: int, hosts: Hosts) -> None:
    hosts["localhost"] = ["127.0.0.1"]
    error = await refusal(direct(deny="127.0.0.0/8:*"), host, echo_port)
    assert error.code is Refusal.NOT_PERMITTED


@pytest.mark.parametrize("host", ["::1", "::", "0:0::0"])
async def test_a_denied_ipv6_loopback_is_denied_in_every_spelling(host: str) -> None:
    assert (await refusal(direct(deny="[::1]:*"), host, 80)).code is Refusal.NOT_PERMITTED


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0", ".", "a/b", "x;y", "a..b", "a" * 64])
async def test_an_invalid_host_name_never_reaches_the_resolver(host: str, echo_port: int) -> None:
    error = await refusal(direct(), host, echo_port)
    assert error.code is Refusal.NAME_NOT_FOUND
    assert error.text.isprintable()


@pytest.mark.parametrize("host", ["fe80::1%lo", "::1%1", "::ffff:127.0.0.1%lo"])
async def test_an_address_with_a_zone_is_not_dialled(host: str) -> None:
    assert (await refusal(direct(), host, 80)).code in {Refusal.UNSUPPORTED, Refusal.NAME_NOT_FOUND}


async def test_a_name_that_means_a_denied_address_is_denied_without_telling_it(hosts: Hosts) -> None:
    hosts["inside.example.org"] = ["10.11.12.13", "::ffff:10.11.12.13"]
    error = await refusal(direct(permit="*.example.org:*", deny="10.0.0.0/8:*"), "inside.example.org", 80)
    assert error.code is Refusal.NOT_PERMITTED
    assert error.text == NOT_PERMITTED


async def test_only_the_permitted_addresses_of_a_name_are_dialled(hosts: Hosts, echo_port: int) -> None:
    hosts["both.example.org"] = ["127.0.0.2", "127.0.0.1"]
    error = await refusal(direct(deny="127.0.0.1:*"), "both.example.org", echo_port)
    assert error.code is Refusal.CONNECTION_REFUSED  # by 127.0.0.2
    transport, _ = await direct(deny="127.0.0.2:*").dial(Answer, Target("both.example.org", echo_port))
    assert transport.get_extra_info("peername")[0] == "127.0.0.1"
    transport.close()


async def test_a_name_is_looked_up_once_so_its_address_cannot_change_after_the_check(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def getaddrinfo(host: str, port: object, **_: object) -> list[object]:
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", 0))]

    monkeypatch.setattr(exits.socket, "getaddrinfo", getaddrinfo)
    transport, _ = await direct(deny="127.0.0.2:*").dial(Answer, Target("rebind.example.org", echo_port))
    assert transport.get_extra_info("peername")[0] == "127.0.0.1"
    assert asked == ["rebind.example.org"]
    transport.close()


@pytest.mark.parametrize(
    ("permit", "deny"),
    [
        ("*.example.org:443", ""),
        ("127.0.0.1:22", ""),
        ("127.0.0.1:22 private:80-442 *:8080 *.org:*", "10.0.0.0/8:*"),
        ("*:*", "*:443"),
        ("127.0.0.1:*", "*.test:* localhost:* *.invalid:*"),
    ],
)
@pytest.mark.parametrize("host", ["secret-data.attacker.test", "localhost", "nobody.invalid"])
async def test_a_name_that_no_rule_permits_is_not_even_looked_up(
    permit: str, deny: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*arguments: object, **options: object) -> list[object]:
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = await refusal(direct(permit=permit, deny=deny), host, 443)
    assert (error.code, error.text) == (Refusal.NOT_PERMITTED, NOT_PERMITTED)


@pytest.mark.parametrize("failure", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_client_does_not_learn_whether_a_name_exists_that_only_its_address_could_permit(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: int
) -> None:
    caplog.set_level(logging.DEBUG, "toxproxy")
    way_out = direct(permit="127.0.0.1:22 *.example.org:443")
    hosts["inside.test"] = ["10.11.12.13"]
    there = await refusal(way_out, "inside.test", 22)

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(failure, "no answer")

    monkeypatch.setattr(exits.socket, "getaddrinfo", getaddrinfo)
    for host in ("inside.test", "outside.invalid"):
        missing = await refusal(way_out, host, 22)
        assert missing.code is there.code is Refusal.NOT_PERMITTED
        assert missing.text == there.text == NOT_PERMITTED
        assert f"{host}:22: " in caplog.messages[-1]  # the server's owner sees the reason
    assert (await refusal(way_out, "www.example.org", 443)).code is not Refusal.NOT_PERMITTED


async def test_every_address_of_this_machine_is_denied_with_self(echo_port: int) -> None:
    for address in interfaces.look().addresses:
        assert (await refusal(direct(deny="self:*"), str(address), echo_port)).code is Refusal.NOT_PERMITTED


async def test_without_the_machines_addresses_what_depends_on_them_is_refused(echo_port: int) -> None:
    class Silent(interfaces.Interfaces):
        def machine(self) -> Machine:
            raise OSError(errno.EMFILE, "Too many open files")

    for deny, code in (("self:*", Refusal.FAILED), ("private:*", Refusal.FAILED), ("linklocal:*", None)):
        way_out = Exit(ExitSettings(), rules(deny=deny), interfaces=Silent())
        if code is not None:
            assert (await refusal(way_out, "127.0.0.1", echo_port)).code is code
        else:
            transport, _ = await way_out.dial(Answer, Target("127.0.0.1", echo_port))
            transport.close()


async def test_a_clouds_metadata_service_cannot_be_reached_by_address_or_name(hosts: Hosts) -> None:
    hosts["metadata.example.org"] = ["169.254.169.254", "fe80::a9fe:a9fe"]
    for host in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::a9fe:a9fe", "metadata.example.org"):
        error = await refusal(direct(permit="*:* metadata.example.org:*"), host, 80)
        assert error.code is Refusal.NOT_PERMITTED


async def test_a_slow_look_up_is_timed_out_and_stalls_nobody(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def getaddrinfo(host: str, port: object, **_: object) -> list[object]:
        if host == "slow.example.org":
            answered.wait(30)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(exits.socket, "getaddrinfo", getaddrinfo)
    way_out = direct(timeout=1.0)
    slow = asyncio.gather(*(refusal(way_out, "slow.example.org", echo_port) for _ in range(15)))
    await asyncio.sleep(0)  # the look-ups begin
    transport, _ = await way_out.dial(Answer, Target("quick.example.org", echo_port))
    transport.close()
    assert {error.code for error in await slow} == {Refusal.TIMED_OUT}
    answered.set()


async def test_abandoned_look_ups_do_not_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: object, **_: object) -> list[object]:
        asked.append(host)
        answered.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(exits.socket, "getaddrinfo", getaddrinfo)
    way_out = direct(timeout=30.0)
    for number in range(50):  # as from a client that opens streams and resets them
        dial = asyncio.create_task(way_out.dial(Answer, Target(f"{number}.example.org", 80)))
        await asyncio.sleep(0.002)
        dial.cancel()
        await asyncio.wait((dial,))
    assert len(asked) == resolver._MAX_LOOK_UPS
    answered.set()
    error = await refusal(way_out, "last.example.org", 80)  # the look-up threads are free again
    assert error.code is Refusal.NAME_NOT_FOUND


async def test_dials_beyond_the_limit_wait_for_earlier_ones(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = 0
    connect = exits.eyeballs.connect

    async def counted(*arguments: Any) -> socket.socket:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.005)
            return await connect(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(exits.eyeballs, "connect", counted)
    way_out = Exit(ExitSettings(), rules(), dials=3)
    dials = [way_out.dial(Answer, Target("127.0.0.1", echo_port)) for _ in range(20)]
    for transport, _ in await asyncio.gather(*dials):
        transport.close()
    assert most == 3


async def test_the_timeout_of_a_dial_includes_the_wait_for_its_turn(black_hole: Callable[[str], int]) -> None:
    way_out, port = Exit(ExitSettings(connect_timeout=0.3), rules(), dials=2), black_hole("127.0.0.1")
    errors = await asyncio.gather(*(refusal(way_out, "127.0.0.1", port) for _ in range(6)))
    assert [error.code for error in errors] == [Refusal.TIMED_OUT] * 6


async def test_a_client_whose_targets_do_not_answer_delays_no_other(
    black_hole: Callable[[str], int], echo_port: int
) -> None:
    way_out, dead = Exit(ExitSettings(connect_timeout=30), rules(), dials=2), black_hole("127.0.0.1")
    first, second = way_out.guest(), way_out.guest()
    stuck = [asyncio.create_task(first.dial(Answer, Target("127.0.0.1", dead))) for _ in range(4)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        transport, _ = await second.dial(Answer, Target("127.0.0.1", echo_port))
    transport.close()
    assert not any(task.done() for task in stuck)
    for task in stuck:
        task.cancel()
    await asyncio.wait(stuck)


@pytest.mark.filterwarnings("error")
async def test_the_last_free_descriptors_are_not_used_for_connections(
    echo_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with limited(0, SPARE):
        error = await refusal(direct(), "127.0.0.1", echo_port)
        assert error.code is Refusal.TOO_MANY_STREAMS
        assert error.text == "the server has as many connections open as it can"
        assert len(caplog.messages) == 1
    transport, answer = await direct().dial(Answer, Target("127.0.0.1", echo_port))
    transport.close()
    await answer.lost


@pytest.mark.filterwarnings("error")
async def test_a_cancelled_dial_leaves_nothing_open(black_hole: Callable[[str], int]) -> None:
    before = asyncio.all_tasks()
    dial = asyncio.create_task(direct().dial(Answer, Target("127.0.0.1", black_hole("127.0.0.1"))))
    await asyncio.sleep(0.05)
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before


@pytest.mark.filterwarnings("error")
async def test_a_factory_that_fails_leaves_nothing_open(serve: Serve) -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    def factory() -> Answer:
        raise LookupError("no protocol")

    with pytest.raises(LookupError):
        await direct().dial(factory, Target("127.0.0.1", await serve(wait_for_the_end)))
    await asyncio.wait_for(ended.wait(), 5)


async def test_other_rules_hold_for_every_guest_and_leave_connections_alone(
    echo_port: int, closed_port: int
) -> None:
    way_out = direct(permit="127.0.0.1:*")
    guest = way_out.guest()
    transport, answer = await guest.dial(Answer, Target("127.0.0.1", echo_port))
    way_out.change(ExitSettings(connect_timeout=1), rules(f"127.0.0.1:{closed_port}"), 1)
    for each in (way_out, guest, way_out.guest()):
        assert (await refusal(each, "127.0.0.1", echo_port)).code is Refusal.NOT_PERMITTED
        assert (await refusal(each, "127.0.0.1", closed_port)).code is Refusal.CONNECTION_REFUSED
    transport.write(b"still")
    assert await answer.read(5) == b"still"
    transport.close()


@pytest.mark.parametrize(
    ("host", "permitted", "rule", "addresses"),
    [
        ("127.0.0.1", True, "127.0.0.0/8:*", ["127.0.0.1"]),
        ("here.test", True, "127.0.0.0/8:*", ["127.0.0.1"]),
        ("evil.test", False, "evil.test:*", []),
        ("far.test", False, None, ["192.0.2.9"]),
    ],
)
async def test_a_trail_tells_what_was_found_and_which_rule_decided(
    host: str, permitted: bool, rule: str | None, addresses: list[str], echo_port: int, hosts: Hosts
) -> None:
    hosts["here.test"] = ["192.0.2.9", "127.0.0.1"]
    hosts["far.test"] = ["192.0.2.9"]
    trail = Trail()
    with contextlib.suppress(StreamRefused):
        transport, _ = await direct(permit="127.0.0.0/8:*", deny="evil.test:*").dial(
            Answer, Target(host, echo_port), trail=trail
        )
        transport.close()
    assert (trail.permitted, None if trail.rule is None else str(trail.rule)) == (permitted, rule)
    assert list(map(str, trail.addresses)) == addresses
