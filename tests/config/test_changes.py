"""What differs between two files, and what of it needs a restart."""

from __future__ import annotations

import pytest

from toxproxy.config.advice import Role
from toxproxy.config.changes import Changes, changes
from toxproxy.config.parsing import parse
from toxproxy.config.settings import AuditFormat, LogSettings
from toxproxy.errors import ConfigError

SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
CLIENT = f"[client]\nssh = 2222:127.0.0.1:22:{SERVER}\nweb = 8080:127.0.0.1:80:{SERVER}\n"
KEY = "1E" * 32


def between(old: str, new: str, role: Role) -> Changes:
    return changes(parse(old, "old"), parse(new, "new"), role)


def test_another_order_and_other_comments_are_no_change() -> None:
    forwards = CLIENT.splitlines()[1:]
    other = "\n\n; a comment\n[client]\n" + "\n".join(reversed(forwards))
    assert between(CLIENT, other, "client") == Changes()


def test_listeners_come_and_go_by_their_names() -> None:
    other = CLIENT.replace("web =", "wiki =").replace("127.0.0.1:22", "127.0.0.1:23")
    other += f"[socks]\nweb = 1080:{SERVER}\n[compress]\nssh = no\n"
    assert between(CLIENT, other, "client") == Changes(
        added=("[client] wiki", "[socks] web"),
        removed=("[client] web",),
        changed=("[client] ssh", "[compress] ssh"),
    )


@pytest.mark.parametrize(
    ("text", "changed", "restart"),
    [
        (f"[access]\nallow = {KEY}, *\n", ("[access] allow",), ()),
        ("[access]\nsecret = correct horse\npermit = *:*\ndeny = self:*", (
            "[access] secret", "[access] permit", "[access] deny",
        ), ()),
        ("[exit]\nconnect_timeout = 5\nupstream = http://127.0.0.1:1", (
            "[exit] upstream", "[exit] connect_timeout",
        ), ()),
        ("[limits]\nidle = 5\nhalf_closed = 6\ndials = 1", (
            "[limits] dials", "[limits] idle", "[limits] half_closed",
        ), ()),
        ("[log]\naudit = log\n", ("[log] audit",), ()),
        ("[tox]\nport = 1-2\ntcp_relay = 3\n", (), ("[tox] port", "[tox] tcp_relay")),
        ("[server]\nname = other\n", (), ("[server] name",)),
        ("[web]\nlisten = 127.0.0.1:9090\n", (), ("[web]",)),
    ],
)  # fmt: skip
def test_a_servers_keys(text: str, changed: tuple[str, ...], restart: tuple[str, ...]) -> None:
    assert between("", text, "server") == Changes(changed=changed, restart=restart)
    assert between(text, "", "server") == Changes(changed=changed, restart=restart)
    assert between(text, text, "server") == Changes()


def test_a_clients_secret_that_was_sent_needs_a_restart_and_a_servers_keys_are_nothing_to_it() -> None:
    access = (
        "[access]\nsecret = correct horse\npermit = *:*\n[exit]\nconnect_timeout = 5\n[log]\naudit = log\n"
    )
    expected = Changes(changed=("[log] audit",), restart=("[access] secret",))
    assert between(CLIENT, CLIENT + access, "client") == expected
    secrets = f"[secrets]\n{SERVER[:8]} = battery staple\n"
    assert between(CLIENT, CLIENT + secrets, "client") == Changes(restart=(f"[secrets] {SERVER[:12]}",))


def test_the_log_section() -> None:
    text = "[log]\naudit = /var/log/toxproxy\naudit_format = JSON\naudit_size = 1M\n"
    assert parse(text, "file").log == LogSettings("/var/log/toxproxy", AuditFormat.JSON, 1 << 20)
    assert parse("", "file").log.audit is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit =", "expected log or a file of 1 to 4095 bytes of UTF-8, found 0"),
        ("audit_format = xml", "expected text or json, found 'xml'"),
        ("audit_size = 1T", "expected a size from 0 to 64G, as 64M, found '1T'"),
        ("audits = x", "expected a known key of [log], found 'audits': did you mean 'audit'?"),
    ],
)
def test_errors_of_the_log_section(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[log]\n{line}", "file")
    assert str(caught.value) == f"file:2: {message}"
