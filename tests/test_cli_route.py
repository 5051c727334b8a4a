"""`toxproxy route` and `toxproxy pac`: the rules of [route], for people and for browsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.alone import ALONE
from toxproxy import config
from toxproxy.cli import main
from toxproxy.demo.network import Process
from toxproxy.routing.pac import script

in_module = pytest.mark.asyncio(loop_scope="module")

Capture = pytest.CaptureFixture[str]

HOME = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
OFFICE = "1E" * 32 + "0" * 12
PORTS = "browser = 127.0.0.1:{browser}:home,office\noffice = 127.0.0.1:{office}:office\nall = {all}:home\n"
RULES = """\
[route]
10.0.0.0/8 = office
*.ads.example = reject
*.local.example:80 = direct
"""


def text(browser: int = 0, office: int = 0, every: int = 0) -> str:
    exits = f"[exits]\nhome = {HOME}\noffice = {OFFICE}\n"
    return f"{ALONE}{exits}[socks]\n{PORTS.format(browser=browser, office=office, all=every)}{RULES}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def state(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """The state folder of a client that runs, without a network."""
    folder = tmp_path_factory.mktemp("route")
    client = Process("client", folder)
    try:
        await client.start(text())
        yield folder / "client.state"
    finally:
        await client.stop()


@in_module
@pytest.mark.parametrize(
    ("target", "said"),
    [
        (["10.1.2.3", "22"], ["10.1.2.3:22: leaves by [route] 10.0.0.0/8 (line {first}).",
                              "  every other port: through office; none is there now"]),
        (["x.ads.example"], ["x.ads.example:443: is rejected by [route] *.ads.example (line {second})."]),
        (["a.local.example", "80"],
         ["a.local.example:80: leaves from this machine by [route] *.local.example:80 (line {third})."]),
        (["a.local.example"],
         ["a.local.example:443: no rule of [route] is about it, so each proxy port goes its own way.",
          "  browser: in order home, office; none is there now"]),
    ],
)  # fmt: skip
async def test_route_says_which_rule_decides_and_what_that_means(
    state: Path, capsys: Capture, target: list[str], said: list[str]
) -> None:
    lines = text().splitlines()
    first = lines.index("10.0.0.0/8 = office") + 1
    assert await asyncio.to_thread(main, ["route", *target, "--state", str(state)]) == 0
    shown = capsys.readouterr().out.splitlines()
    expected = [each.format(first=first, second=first + 1, third=first + 2) for each in said]
    assert shown[: len(expected)] == expected
    assert "  office: through office; none is there now" in shown, "an exit's own port keeps to it"


@in_module
async def test_route_for_programs(state: Path, capsys: Capture) -> None:
    assert await asyncio.to_thread(main, ["route", "10.1.2.3", "--json", "--state", str(state)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["target"], said["rule"], said["kind"]) == ("10.1.2.3:443", "10.0.0.0/8", "servers")
    assert {"port": None, "servers": ["office"], "chosen": None} in said["ways"]


@in_module
@pytest.mark.parametrize("host", ["a b", "x" * 300])
async def test_a_host_that_cannot_exist_is_one_line(state: Path, capsys: Capture, host: str) -> None:
    assert await asyncio.to_thread(main, ["route", "--state", str(state), "--", host]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("toxproxy: expected a host name or an IP address, found ")
    assert said.err.count("\n") == 1


def test_pac_prints_the_rules_for_the_ports_that_they_hold_for(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "client.ini"
    file.write_text(text(browser=1080, office=1081, every=1082))
    assert main(["pac", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed == script(["127.0.0.1:1080", "127.0.0.1:1082"], config.load(file).routes)
    assert "function FindProxyForURL(url, host)" in printed
    assert "1081" not in printed, "no rule holds for an exit's own port"


def test_pac_of_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "client.ini"
    file.write_text(text().replace("*.ads.example = reject", "*.ads.example = nowhere"))
    assert main(["pac", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "client.ini:14: expected a Tox ID or a name of [exits]" in said.err
