"""The lines of the audit, and what strangers can write into them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.audit.record import End, Record, Verdict, json_line, text_line
from toxproxy.errors import Refusal

RECORD = Record(
    unix=1790000000.25,
    client_key="9142DE888B58E0217B7D94F2E7D672C83CC4CE731C8BCB0046542E70F0DC787F",
    client_name="laptop",
    target="wiki.lan:80",
    addresses=("192.0.2.7",),
    verdict=Verdict.PERMITTED,
    rule="*.lan:80-89",
    refusal=None,
    to_target_bytes=120,
    to_client_bytes=45678,
    duration_s=1.23456,
    end=End.FINISHED,
)
FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)')


def test_a_line_of_text() -> None:
    assert text_line(RECORD) == (
        "2026-09-21T14:13:20Z client=laptop key=9142DE888B58 target=wiki.lan:80 address=192.0.2.7 "
        "verdict=permitted rule=*.lan:80-89 to_target=120 to_client=45678 seconds=1.235 end=finished "
        "refusal=-"
    )


def test_a_line_of_json() -> None:
    assert json.loads(json_line(RECORD)) == {
        "time": "2026-09-21T14:13:20.250Z",
        "client_key": RECORD.client_key,
        "client_name": "laptop",
        "target": "wiki.lan:80",
        "addresses": ["192.0.2.7"],
        "verdict": "permitted",
        "rule": "*.lan:80-89",
        "to_target_bytes": 120,
        "to_client_bytes": 45678,
        "duration_s": 1.235,
        "end": "finished",
        "refusal": None,
    }


def test_what_is_missing_is_a_dash_and_nobody_can_be_called_so() -> None:
    refused = replace(
        RECORD,
        client_name=None,
        addresses=(),
        verdict=Verdict.DENIED,
        rule=None,
        refusal=Refusal.NOT_PERMITTED,
        end=End.REFUSED,
    )
    line = text_line(refused)
    assert "client=- " in line
    assert " address=- verdict=denied rule=- " in line
    assert line.endswith("end=refused refusal=not_permitted")
    assert 'client="-" ' in text_line(replace(RECORD, client_name="-"))


def test_a_name_with_many_addresses_is_cut() -> None:
    many = replace(RECORD, addresses=tuple(f"192.0.2.{number}" for number in range(250)))
    assert len(json.loads(json_line(many))["addresses"]) == 8
    assert len(text_line(many)) < 400


@given(st.text(max_size=80), st.text(min_size=1, max_size=255))
def test_no_text_of_others_forges_a_line_or_a_field(name: str, target: str) -> None:
    record = replace(RECORD, client_name=name, target=target)
    for line in (text_line(record), json_line(record)):
        assert line.isascii()
        assert line.isprintable()
    read = json.loads(json_line(record))
    assert (read["client_name"], read["target"]) == (name, target)
    rest = text_line(record).partition(" ")[2]
    fields = dict(FIELD.findall(f" {rest}"))
    assert list(fields) == re.findall(r"(\w+)=", text_line(RECORD))
    for written, said in ((fields["client"], name), (fields["target"], target)):
        assert (json.loads(written) if written.startswith('"') else written) == said
