"""[web]: where the page listens, and its secret."""

from __future__ import annotations

import pytest

from tests.alone import ALONE
from tests.documents import TOX_ID as ID
from toxproxy import config
from toxproxy.address import Bind
from toxproxy.config import advice
from toxproxy.errors import ConfigError


def test_there_is_no_page_unless_the_file_says_so() -> None:
    assert config.parse("", "f").web is None
    assert config.parse("[web]\n", "f").web is None


@pytest.mark.parametrize(
    ("listen", "bind"),
    [
        ("127.0.0.1:9090", Bind("127.0.0.1", 9090)),
        ("9090", Bind("127.0.0.1", 9090)),
        ("[::1]:9090", Bind("::1", 9090)),
        ("localhost:0", Bind("localhost", 0)),
    ],
)
def test_loopback_needs_no_secret(listen: str, bind: Bind) -> None:
    web = config.parse(f"[web]\nlisten = {listen}\n", "f").web
    assert web is not None
    assert (web.bind, web.secret) == (bind, None)


@pytest.mark.parametrize("listen", ["*:9090", "0.0.0.0:9090", "192.0.2.1:9090", "[::]:9090", "home.lan:9090"])
def test_more_than_loopback_needs_a_secret(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"^f:3: expected a secret in \[web\], since others .* secret = "):
        config.parse(f"# a page\n[web]\nlisten = {listen}\n", "f")
    assert config.parse(f"[web]\nlisten = {listen}\nsecret = abc\n", "f").web is not None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("listen = 127.0.0.1:9090:1", r"^f:2: expected \[localip:\]localport, as 127\.0\.0\.1:9090, found"),
        ("listen = 127.0.0.1:70000", r"^f:2: "),
        ("secret = abcdef", r"^f:2: expected listen beside the secret"),
        ("listen = 9090\nsecret =", r"^f:3: expected a secret of 1 to 512 bytes"),
        ("listen = 9090\nsecret = abc ;def", r"^f:3: expected a secret without a space before `;`"),
        ("port = 9090", r"^f:2: expected a known key of \[web\]"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error) as caught:
        config.parse(f"[web]\n{text}\n", "f")
    assert "abc" not in str(caught.value)


def test_a_port_that_a_listener_has_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^f:4: expected a local address of its own, found 127\.0\.0\.1:9090"
    ):
        config.parse(f"[socks]\nbrowser = 9090:{ID}\n[web]\nlisten = 9090\n", "f")


def test_the_secret_is_not_in_a_description_and_makes_the_file_one_with_secrets() -> None:
    settings = config.parse("[web]\nlisten = 9090\nsecret = abcdefgh\n", "f")
    assert "abcdefgh" not in repr(settings)
    assert settings.has_secrets


@pytest.mark.parametrize("role", ["server", "client"])
def test_what_is_risky_is_warned_of(role: advice.Role) -> None:
    def warnings(text: str) -> list[str]:
        permit = "[access]\npermit = 127.0.0.1:22\n"
        return advice.warnings(config.parse(f"{ALONE}{permit}[web]\nlisten = 9090\n{text}", "f"), role)

    (none,) = warnings("")
    assert none.startswith("[web] has no secret: every user and program of this machine sees")
    (weak,) = warnings("secret = short\n")
    assert weak.startswith("[web] secret has fewer than 12 characters")
    assert warnings("secret = 5e2f4c0a9b7d41e68f03\n") == []
