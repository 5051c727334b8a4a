"""Where commands say that people read on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toxproxy.cli import guide
from toxproxy.cli.guide import more_about


def test_an_installed_guide_goes_before_that_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Path(guide.__file__).parents[2] / "docs" / "troubleshooting.md"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert more_about("udp_off") == f"More about it: {checkout}, at udp_off"
    installed = tmp_path / "share" / "doc" / "toxproxy" / "troubleshooting.md"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert more_about("udp_off") == f"More about it: {installed}, at udp_off"


def test_without_a_guide_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(guide, "__file__", str(tmp_path / "a" / "b" / "guide.py"))
    assert more_about("udp_off") is None
