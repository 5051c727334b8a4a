"""The values of [limits], and the errors about wrong ones."""

from __future__ import annotations

import pytest

from toxproxy.app.end import set_limits
from toxproxy.config.parsing import parse
from toxproxy.config.settings import DEFAULT, LimitSettings
from toxproxy.errors import ConfigError
from toxproxy.mux.limits import Limits
from toxproxy.patience import Patience

COUNT = "expected a number from"
SECONDS = "expected seconds from"
SIZE = "expected a size from"


def test_every_key() -> None:
    text = """
        [limits]
        streams = 100
        flows = 50
        dials = 8
        connections = 200
        handshake = 2.5
        memory = 32M
        stream_memory = 512k
        process_memory = 2G
        friend_requests = 0
        idle = 7200
        half_closed = 604800
        udp_idle = 300
    """
    assert parse(text, "tox.ini").limits == LimitSettings(
        streams=100,
        flows=50,
        dials=8,
        connections=200,
        handshake=2.5,
        memory=32 << 20,
        stream_memory=512 << 10,
        process_memory=2 << 30,
        friend_requests=0,
        patience=Patience(idle=7200, half_closed=604800, udp_idle=300),
    )


def test_a_missing_key_has_its_default() -> None:
    assert parse("[limits]\nidle = 60", "tox.ini").limits == LimitSettings(patience=Patience(idle=60))
    assert DEFAULT.limits == LimitSettings()


def test_by_default_a_session_has_the_limits_of_the_specification() -> None:
    limits = Limits()
    set_limits(limits, LimitSettings())
    assert limits == Limits()


def test_a_session_has_the_limits_of_the_file() -> None:
    settings = parse(
        "[limits]\nstreams = 9\nmemory = 2M\nstream_memory = 256K\nprocess_memory = 4M\nidle = 5", "tox.ini"
    ).limits
    limits = Limits()
    set_limits(limits, settings)
    assert (limits.streams, limits.session_window) == (9, 2 << 20)
    assert limits.pool.left == 4 << 20
    assert limits.window == limits.most_window == 256 << 10


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1.5", 1.5), ("604800", 604800)])
def test_an_interrupted_session_may_be_kept_for_up_to_a_week(text: str, seconds: float) -> None:
    assert parse(f"[tox]\ngrace = {text}", "tox.ini").tox.grace == seconds
    assert DEFAULT.tox.grace == 600


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("streams = 0", f"{COUNT} 1 to 1000000, found '0'"),
        ("streams = 1e3", f"{COUNT} 1 to 1000000, found '1e3'"),
        ("streams = 99999999999999999999", f"{COUNT} 1 to 1000000, found '99999999999999999999'"),
        ("dials = -1", f"{COUNT} 1 to 65536, found '-1'"),
        ("connections =", f"{COUNT} 1 to 1000000, found ''"),
        ("friend_requests = 10001", f"{COUNT} 0 to 10000, found '10001'"),
        ("handshake = 0", f"{SECONDS} 1 to 3600, found '0'"),
        ("idle = 604801", f"{SECONDS} 0 to 604800, found '604801'"),
        ("half_closed = never", f"{SECONDS} 0 to 604800, found 'never'"),
        ("memory = 1023K", f"{SIZE} 1M to 64G, as 64M, found '1023K'"),
        ("memory = 65G", f"{SIZE} 1M to 64G, as 64M, found '65G'"),
        ("memory = 64 M", f"{SIZE} 1M to 64G, as 64M, found '64 M'"),
        ("memory = 64MB", f"{SIZE} 1M to 64G, as 64M, found '64MB'"),
        ("stream_memory = 65535", f"{SIZE} 64K to 1G, as 64M, found '65535'"),
        ("stream = 1", "expected a known key of [limits], found 'stream': did you mean 'streams'?"),
    ],
)
def test_every_error_names_the_line_what_was_expected_and_what_was_found(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[limits]\n{line}", "tox.ini")
    assert str(caught.value) == f"tox.ini:2: {message}"


def test_a_grace_of_more_than_a_week_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[tox]\ngrace = 604801", "tox.ini")
    assert str(caught.value) == "tox.ini:2: expected seconds from 0 to 604800, found '604801'"
