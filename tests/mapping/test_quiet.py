"""Tests, demo, benchmarks and trials ask no router for a port."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxproxy.app.server import Server
from toxproxy.config.parsing import parse
from toxproxy.demo import network

ROOT = Path(__file__).parents[2]
_PROGRAMS = ("toxproxy/demo", "bench", "faults", "tests/end", "tests/app", "tests/tunnel", "tests/mapping")


def configurations() -> Iterator[tuple[Path, str]]:
    """The texts in the programs that say how a Tox network is joined.

    The machines of `tests/houses.py` have a local network of their own, in namespaces.
    """
    tests = set((ROOT / "tests").glob("*.py"))
    for path in [
        *sorted(tests - {ROOT / "tests" / "houses.py", ROOT / "tests" / "test_pages.py"}),
        *(p for folder in _PROGRAMS for p in (ROOT / folder).rglob("*.py")),
    ]:
        tree = ast.parse(path.read_text())
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        within = {id(part) for node in joined for part in node.values}
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            if "[tox]\n" in text and "bootstrap = " in text and id(node) not in within:
                yield path, text


def test_every_configuration_of_a_test_network_keeps_quiet_in_the_local_network() -> None:
    found = list(configurations())
    assert len(found) >= 6
    assert [(path, text) for path, text in found if "local_discovery = no" not in text] == []


def test_the_demo_asks_no_router_for_a_port() -> None:
    for bootstrap in ("none", f"127.0.0.1:1:{'FEDCBA9876543210' * 4}"):
        text = network._PRIVATE.format(bootstrap=bootstrap, secret="s")
        assert not parse(text, "demo.ini").tox.maps_port


async def test_an_end_that_would_ask_fails_in_a_test(tmp_path: Path) -> None:
    """The guard of `tests.conftest` works, so that no test of one process can ask by mistake."""
    text = "[tox]\nbootstrap = none\nlocal_discovery = no\nport_mapping = yes\nport = 24000-24999\n"
    with pytest.raises(AssertionError, match="would send to the network"):
        async with Server(parse(text, "tox.ini"), tmp_path / "state"):
            pass
