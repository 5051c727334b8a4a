"""[client NAME]: what each client may at a server."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from toxproxy.address import Target
from toxproxy.config.changes import Changes, changes
from toxproxy.config.parsing import parse
from toxproxy.config.settings import ClientSection, Rate
from toxproxy.errors import ConfigError
from toxproxy.program import meaning
from toxproxy.rules import parse_rule

KEY, OTHER = "1E" * 32, "2D" * 32
NO_KEY = "expected the client's key in [client a], as key = and 64 hexadecimal digits, found none"
NO_RATE = "expected a size from 8K to 64G, as 64M"
NO_QUOTA = "expected a size from 1K to 1048576G, as 64M, found '1'"
MEANT = ": did you mean [client]?"
FULL = f"""
[client laptop]
key = {KEY}
permit = 127.0.0.1:22, *.lan:80
deny = secret.lan:80
rate = 2M/500K
quota = 50G
expires = 2027-01-31 18:00Z
"""


def test_everything_that_it_can_say() -> None:
    assert parse(FULL, "x").clients == (
        ClientSection(
            name="laptop",
            key=bytes.fromhex(KEY),
            permit=(parse_rule("127.0.0.1:22"), parse_rule("*.lan:80")),
            deny=(parse_rule("secret.lan:80"),),
            rate=Rate(down=2 << 20, up=500 << 10),
            quota=50 << 30,
            expires=int(datetime(2027, 1, 31, 18, tzinfo=UTC).timestamp()),
        ),
    )


def test_the_key_alone_is_enough_and_sections_stay_apart() -> None:
    text = f"[client]\n[client  my   phone ]\nkey = {KEY}\n[client tv]\nkey = {OTHER}{'0' * 12}\n"
    clients = parse(text, "x").clients
    assert [each.name for each in clients] == ["my phone", "tv"]
    assert [each.key.hex().upper() for each in clients] == [KEY, OTHER]
    assert clients[0] == ClientSection(name="my phone", key=bytes.fromhex(KEY))


def test_one_rate_is_for_both_ways() -> None:
    (section,) = parse(f"[client a]\nkey = {KEY}\nrate = 1M", "x").clients
    assert section.rate == Rate(1 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2027-01-31", (2027, 2, 1, 0, 0)),
        ("2027-12-31", (2028, 1, 1, 0, 0)),
        ("2027-01-31 18:30", (2027, 1, 31, 18, 30)),
        ("2027-01-31T18:30", (2027, 1, 31, 18, 30)),
    ],
)
def test_a_time_without_a_zone_is_this_machines(text: str, local: tuple[int, ...]) -> None:
    (section,) = parse(f"[client a]\nkey = {KEY}\nexpires = {text}", "x").clients
    assert section.expires is not None
    assert time.localtime(section.expires)[:5] == local


def test_a_time_may_have_a_zone() -> None:
    (section,) = parse(f"[client a]\nkey = {KEY}\nexpires = 2027-01-31 18:30:05 +02:00", "x").clients
    assert section.expires == datetime(2027, 1, 31, 16, 30, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[client a]\nssh = 2222:127.0.0.1:22:x",
            "x:2: expected a known key of [client a], found 'ssh': did you mean 'listen'? "
            "(A client's own forwards stand in [client].)",
        ),
        ("[client a]", f"x:1: {NO_KEY}"),
        (
            "[client a]\nrate = 1M",
            f"x:1: {NO_KEY}",
        ),
        (
            f"[client a]\nkey = {KEY}\n[client b]\nkey = {KEY}",
            "x:4: expected each client in one section, found that of [client a]",
        ),
        (f"[client a]\nkey = {KEY}\nrate = 2X", f"x:3: {NO_RATE}, found '2X'"),
        (f"[client a]\nkey = {KEY}\nrate = 2M/", f"x:3: {NO_RATE}, found ''"),
        (f"[client a]\nkey = {KEY}\nrate = 1K", f"x:3: {NO_RATE}, found '1K'"),
        (f"[client a]\nkey = {KEY}\nquota = 1", f"x:3: {NO_QUOTA}"),
        (
            f"[client a]\nkey = {KEY}\nexpires = 2027-02-30",
            "x:3: expected a date as 2027-01-31, or 2027-01-31 18:00, found '2027-02-30'",
        ),
        (
            f"[client a]\nkey = {KEY}\nexpires = 7d",
            "x:3: expected a date as 2027-01-31, or 2027-01-31 18:00, found '7d'",
        ),
        (
            f"[client a]\nkey = {KEY}\nkey = {KEY}",
            "x:3: expected each key of [client a] once, found 'key' on line 2 already",
        ),
        (
            f"[client {'a' * 65}]\nkey = {KEY}",
            f"x:1: expected a name of 1 to 64 characters, found {'a' * 60!r}…",
        ),
        (
            "[client]\npermit = 127.0.0.1:22",
            "x:2: expected [localip:]localport:remotehost:remoteport[/udp]:toxid "
            "(an IPv6 address in brackets), found 2 fields; "
            "what a client may at a server stands in a section [client NAME]",
        ),
        ("[client \x7f]", "x:1: expected text, found the character U+007F"),
        ("[client \u200b]", "x:1: expected a known section, found '[client \\u200b]'" + MEANT),
        ("[clients a]", "x:1: expected a known section, found '[clients a]'" + MEANT),
    ],
)  # fmt: skip
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert str(caught.value) == message


def test_its_permit_replaces_that_of_access_and_its_deny_is_added() -> None:
    config = parse(
        f"[access]\npermit = *.lan:*\ndeny = a.lan:*\n{FULL}[client b]\nkey = {OTHER}\ndeny = b.lan:*", "x"
    )
    common, (laptop, other) = config.access.rules, config.clients
    all_rules = (common, laptop.rules(common), other.rules(common))
    judged = {
        host: [rules.judge_name(Target(host, 80)).name for rules in all_rules]
        for host in ("a.lan", "b.lan", "secret.lan")
    }  # fmt: skip
    assert judged == {
        "a.lan": ["DENIED", "DENIED", "DENIED"],
        "b.lan": ["PERMITTED", "PERMITTED", "DENIED"],
        "secret.lan": ["PERMITTED", "DENIED", "PERMITTED"],
    }


def test_what_differs_counts_at_once() -> None:
    def between(old: str, new: str) -> Changes:
        return changes(parse(old, "old"), parse(new, "new"), "server")

    assert between("", FULL) == Changes(added=("[client laptop]",))
    assert between(FULL, "") == Changes(removed=("[client laptop]",))
    assert between(FULL, FULL.replace("\n", "\n\n")) == Changes()
    other = FULL.replace("2M", "3M").replace("50G", "60G").replace("*.lan:80", "*.lan:81")
    assert between(FULL, other) == Changes(
        changed=("[client laptop] permit", "[client laptop] rate", "[client laptop] quota")
    )
    assert changes(parse("", "old"), parse(FULL, "new"), "client") == Changes()


def test_what_it_means_in_plain_lines() -> None:
    config = parse(FULL + f"[client tv]\nkey = {OTHER}\nrate = 1M", "x")
    assert meaning.roles(config) == ("server",)
    lines = list(meaning.lines(config, "server"))
    assert "  lets in: the clients of `toxproxy allow`, 2 clients of [client NAME]" in lines
    assert (
        f"  laptop ({KEY[:12]}): connects to 127.0.0.1:22, *.lan:80, not to secret.lan:80, "
        "at most 2.1 MB/s to it and 512 kB/s from it, at most 53.7 GB a month, until 2027-01-31 18:00 UTC"
    ) in lines
    assert f"  tv ({OTHER[:12]}): at most 1.0 MB/s, for good" in lines
