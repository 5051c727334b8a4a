"""docs/control.md names what there is."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.alone import ALONE
from tests.asking import request
from toxproxy import config
from toxproxy.app.server import Server
from toxproxy.control import checks, findings, messages, snapshots, speeds
from toxproxy.control.messages import ControlError

TEXT = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
NAMED = set(re.findall(r"`([a-z_0-9]+)`", TEXT))
MODULES = (snapshots, findings, messages, checks, speeds)
KINDS = [each for module in MODULES for each in vars(module).values() if isinstance(each, type)]


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if is_dataclass(k) and "messages" not in k.__module__], ids=lambda k: k.__name__
)
def test_every_field_is_described(kind: Any) -> None:
    assert {field.name for field in fields(kind)} <= NAMED


@pytest.mark.parametrize(
    "kind",
    [k for k in KINDS if issubclass(k, Enum) and k.__module__ in {m.__name__ for m in MODULES}],
    ids=lambda k: k.__name__,
)
def test_every_word_is_described(kind: type[Enum]) -> None:
    assert {each.value for each in kind} <= NAMED


async def test_every_method_is_described(tmp_path: Path) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", TEXT[TEXT.index("## Methods") : TEXT.index("## Values")], re.M))
    async with Server(config.parse(ALONE, "server.ini"), tmp_path):
        with pytest.raises(ControlError, match="expected one of ") as caught:
            await request(tmp_path, "nonsense")
    at_a_client = {"connect", "route", "speedtest"}
    assert rows == set(str(caught.value).partition("one of ")[2].split(", ")) | at_a_client
