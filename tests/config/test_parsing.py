"""The meaning of a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_socks import parse_proxy_url

from toxproxy.address import Bind, OpenUdpTarget, Target, UdpTarget, UnixBind, parse_tox_id, parse_unix_target
from toxproxy.config.advice import warnings
from toxproxy.config.parsing import load, parse
from toxproxy.config.settings import (
    DEFAULT,
    AccessSettings,
    BootstrapNode,
    Config,
    ExitSettings,
    Forward,
    ProxyPort,
    ToxSettings,
    TransportProxy,
)
from toxproxy.errors import ConfigError
from toxproxy.rules import parse_rule

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "FEDCBA9876543210" * 4
ID = KEY + "0" * 12  # the XOR of its byte pairs is 0, and so is the checksum
SAME_SERVER = KEY + "000000010001"
OTHER = "89ABCDEF01234567" * 4
OTHER_ID = OTHER + "0" * 12
TOXTUN = """\
[server]
name = whttpd

[client]
toxtun1 = *:81:127.0.0.1:8181:A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719
toxtun2 = *:82:127.0.0.1:8282:6BA28AC06C1D57783FE017FA9322D0B356E61404C92155A04F64F3B19C75633E8BDDEFFA4856
"""


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "tox.ini")
    return str(caught.value)


# The syntax of files


def test_the_example_of_toxtun() -> None:
    config = parse(TOXTUN, "tox.ini")
    assert config.server_name == "whttpd"
    assert [(each.name, each.bind, each.target, each.line) for each in config.forwards] == [
        ("toxtun1", Bind("", 81), Target("127.0.0.1", 8181), 5),
        ("toxtun2", Bind("", 82), Target("127.0.0.1", 8282), 6),
    ]
    assert [each.server for each in config.forwards] == list(config.servers)


@pytest.mark.parametrize("prefix", ["tcp:", "TCP:"])
def test_a_forward_may_name_its_protocol_as_later_versions_of_toxtun_do(prefix: str) -> None:
    config = parse(TOXTUN.replace(" = *:8", f" = {prefix}*:8"), "tox.ini")
    assert config.forwards == parse(TOXTUN, "tox.ini").forwards


def test_a_forward_of_udp_says_what_was_expected() -> None:
    assert "expected" in error_of(TOXTUN.replace(" = *:81", " = udp:*:81"))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join("    " + line for line in TOXTUN.splitlines()),
        TOXTUN.replace("\n", "\r\n"),
        "\ufeff" + TOXTUN,
        TOXTUN.replace(" = ", "="),
        "\n".join(line + "\t; why" for line in TOXTUN.splitlines()),
    ],
    ids=["indented", "crlf", "bom", "no spaces", "comments"],
)
def test_the_same_file_in_other_spellings(text: str) -> None:
    assert parse(text, "tox.ini") == parse(TOXTUN, "tox.ini")


def filled_in(name: str) -> Config:
    """An example with its placeholder keys replaced, as its user does."""
    text = (EXAMPLES / name).read_text()
    example = "0123456789ABCDEF" * 4
    text = text.replace("change this pass phrase", "correct horse battery staple")
    return parse(text.replace(example + "0" * 12, ID).replace(example, KEY), name)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ini")))
def test_every_example_parses_once_its_keys_are_replaced(name: str) -> None:
    config = filled_in(name)
    assert config != DEFAULT
    assert warnings(config, "server") == []
    if name != "toxtun.ini":  # its forwards listen on every address
        assert warnings(config, "client") == []


def test_each_example_has_what_its_name_says() -> None:
    assert (EXAMPLES / "toxtun.ini").read_text() == TOXTUN
    assert filled_in("home-server.ini").access.rules.permit
    filled_in("browser.ini").require_client("browser.ini")
    private = filled_in("private-network.ini")
    assert private.tox.bootstrap
    assert private.server_name == "private"
    assert private.proxies


def test_an_example_with_its_placeholder_keys_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"browser\.ini:\d+: this cannot be a Tox key: .* is it from an example"
    ):
        load(EXAMPLES / "browser.ini")


@pytest.mark.parametrize(
    "text", ["", "\n", "; nothing", "# nothing", "[client]\n[socks]\n[server]\n", "  \t\n"]
)
def test_an_empty_file_has_the_defaults(text: str) -> None:
    assert parse(text, "tox.ini") == DEFAULT == Config()


def test_a_file_with_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "tox.ini"
    path.write_bytes("[server]\r\nname = Bücher\r\n".encode("utf-8-sig"))
    assert load(path).server_name == "Bücher"


@pytest.mark.parametrize(
    ("lines", "uncompressed"),
    [
        ("", set()),
        ("ssh = no", {"ssh"}),
        ("ssh = no\nweb = yes", {"ssh"}),
        ("default = no", {"ssh", "web", "browser"}),
        ("browser = on\ndefault = off", {"ssh", "web"}),
        ("default = yes\nbrowser = no", {"browser"}),
    ],
)
def test_compress_names_the_listeners(lines: str, uncompressed: set[str]) -> None:
    listeners = f"[client]\nssh = 1:h:22:{ID}\nweb = 2:h:80:{ID}\n[socks]\nbrowser = 3:{ID}\n"
    for text in (f"[compress]\n{lines}\n{listeners}", f"{listeners}[compress]\n{lines}"):
        assert parse(text, "tox.ini").uncompressed == uncompressed


def test_a_secret_may_contain_syntax_characters() -> None:
    assert parse("[access]\nsecret = a;b#c=d [e]\n;comment", "tox.ini").access.secret == "a;b#c=d [e]"


def test_a_comment_may_follow_a_line_with_a_password() -> None:
    text = f"[socks]\na = me:pw@1:{ID} ; for bob@example.org\nb = 2:{ID} ; bob@example.org\n"
    text += "[exit]\nupstream = socks5://me:pw@h:1 ; bob@example.org\n"
    config = parse(text, "tox.ini")
    assert [proxy.password for proxy in config.proxies] == ["pw", None]
    assert config.exit.upstream == "socks5://me:pw@h:1"


def test_a_list_continues_on_indented_lines() -> None:
    text = f"[access]\nallow = {KEY},  ; the laptop\n\n   # the phone:\n\t{OTHER}\n  ,*\n"
    access = parse(text, "tox.ini").access
    assert access.allow == {bytes.fromhex(KEY), bytes.fromhex(OTHER)}
    assert access.anyone


def test_a_section_may_occur_twice() -> None:
    config = parse("[tox]\nudp = no\n[exit]\n[tox]\nwait = 0", "tox.ini")
    assert (config.tox.udp, config.tox.wait) == (False, 0)


# Values


@pytest.mark.parametrize(
    ("line", "bind", "target"),
    [
        (f"80:example.org:443:{ID}", Bind("127.0.0.1", 80), Target("example.org", 443)),
        (f"0:[::1]:443:{ID}", Bind("127.0.0.1", 0), Target("::1", 443)),
        (f"[::1]:80:10.0.0.1:22:{ID}", Bind("::1", 80), Target("10.0.0.1", 22)),
        (f"[::]:80:bücher.example:22:{ID.lower()}", Bind("::", 80), Target("xn--bcher-kva.example", 22)),
        (f"localhost:80:a:22:{ID}", Bind("localhost", 80), Target("a", 22)),
    ],
)
def test_forwards(line: str, bind: Bind, target: Target) -> None:
    (forward,) = parse(f"[client]\nWeb = {line}", "tox.ini").forwards
    assert (forward.name, forward.bind, forward.target, forward.server) == (
        "Web",
        bind,
        target,
        parse_tox_id(ID),
    )


@pytest.mark.parametrize(
    ("word", "targets"),
    [
        ("", [Target("10.0.0.1", 53)]),
        ("/tcp", [Target("10.0.0.1", 53)]),
        ("/udp", [UdpTarget("10.0.0.1", 53)]),
        ("/UDP", [UdpTarget("10.0.0.1", 53)]),
        ("/tcp+udp", [Target("10.0.0.1", 53), UdpTarget("10.0.0.1", 53)]),
        ("/udp+any", [OpenUdpTarget("10.0.0.1", 53)]),
    ],
)
def test_a_forward_may_be_of_udp_or_of_both(word: str, targets: list[Target]) -> None:
    forwards = parse(f"[client]\ndns = 5353:10.0.0.1:53{word}:{ID}", "tox.ini").forwards
    assert [each.target for each in forwards] == targets
    assert [type(each.target) for each in forwards] == [type(each) for each in targets]
    assert {(each.name, each.bind, each.line) for each in forwards} == {("dns", Bind("127.0.0.1", 5353), 2)}


def test_a_forward_of_another_protocol_says_what_was_expected() -> None:
    error = error_of(f"[client]\ndns = 5353:10.0.0.1:53/sctp:{ID}")
    assert "expected /udp, /tcp, /tcp+udp or /udp+any after the remote port, found 'sctp'" in error


def test_tcp_and_udp_may_listen_on_the_same_port_and_two_of_udp_may_not() -> None:
    line = f"5353:10.0.0.1:53/udp:{ID}"
    parse(f"[client]\na = {line}\nb = 5353:10.0.0.1:80:{ID}", "tox.ini")
    assert "expected a local address of its own" in error_of(f"[client]\na = {line}\nb = *:{line}")


@pytest.mark.parametrize(
    ("line", "bind", "login"),
    [
        (f"1080:{ID}", Bind("127.0.0.1", 1080), (None, None)),
        (f"*:1080:{ID}", Bind("", 1080), (None, None)),
        (f"me:a:b@c;d@[::1]:1080:{ID}", Bind("::1", 1080), ("me", "a:b@c;d")),
        (f"me:pässwörd@1080:{ID}", Bind("127.0.0.1", 1080), ("me", "pässwörd")),
    ],
)
def test_proxies(line: str, bind: Bind, login: tuple[str | None, str | None]) -> None:
    (proxy,) = parse(f"[socks]\nbrowser = {line}", "tox.ini").proxies
    assert (proxy.bind, (proxy.username, proxy.password), proxy.server) == (bind, login, parse_tox_id(ID))


def test_access_exit_and_tox() -> None:
    text = f"""
        [access]
        allow = {KEY}, {ID}
        secret = s
        permit = 127.0.0.1:80, *.example.org:*
        deny = [fd00::/8]:*
        [exit]
        upstream = socks5://me:p%40ss@[::1]:9050
        connect_timeout = 2.5
        [tox]
        bootstrap = 127.0.0.1:33445:{KEY}, [::1]:1:{OTHER}
        relays = relay.example.org:3389:{OTHER}
                 [::1]:443:{KEY}
        udp = OFF
        port = 40000
        tcp_relay = 3389
        local_discovery = false
        proxy = http://proxy.example:8080/
        wait = 5
    """
    permit = parse_rule("127.0.0.1:80"), parse_rule("*.example.org:*")
    assert parse(text, "tox.ini") == Config(
        access=AccessSettings(
            allow=frozenset({bytes.fromhex(KEY)}),
            secret="s",
            permit=permit,
            deny=(parse_rule("[fd00::/8]:*"),),
        ),
        exit=ExitSettings("socks5://me:p%40ss@[::1]:9050", 2.5),
        tox=ToxSettings(
            bootstrap=(
                BootstrapNode("127.0.0.1", 33445, bytes.fromhex(KEY)),
                BootstrapNode("::1", 1, bytes.fromhex(OTHER)),
            ),
            relays=(
                BootstrapNode("relay.example.org", 3389, bytes.fromhex(OTHER)),
                BootstrapNode("::1", 443, bytes.fromhex(KEY)),
            ),
            udp=False,
            ports=(40000, 40000),
            tcp_relay=3389,
            local_discovery=False,
            proxy=TransportProxy("http", "proxy.example", 8080),
            wait=5,
        ),
    )


def test_without_permit_clients_reach_the_target_of_the_forward_that_the_server_prints() -> None:
    for text in ("", "[access]\ndeny = 10.0.0.0/8:*"):
        access = parse(text, "tox.ini").access
        assert access.permit is None
        assert access.rules.permit == (parse_rule("127.0.0.1:22"),)
    assert DEFAULT.access.rules.permit == (parse_rule("127.0.0.1:22"),)


def test_bootstrap_none_means_no_nodes() -> None:
    assert parse("[tox]\nbootstrap = none", "tox.ini").tox.bootstrap == ()
    assert DEFAULT.tox.bootstrap is None


def test_behind_a_proxy_udp_is_off() -> None:
    assert not parse("[tox]\nproxy = socks5://127.0.0.1:9050", "tox.ini").tox.udp


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ("", True),
        ("port_mapping = no", False),
        ("local_discovery = no", False),
        ("local_discovery = no\nport_mapping = yes", True),
        ("udp = no", False),
        ("proxy = socks5://127.0.0.1:9050", False),
        ("bootstrap = none", False),
        ("bootstrap = none\nport_mapping = yes", True),
        (f"bootstrap = 127.0.0.1:1:{KEY}, 127.9.9.9:1:{KEY}", False),
        (f"bootstrap = 127.0.0.1:1:{KEY}, 192.0.2.1:1:{KEY}", True),
        (f"bootstrap = localhost:1:{KEY}", True),
    ],
)
def test_who_asks_the_router_for_a_port(lines: str, asked: bool) -> None:
    assert parse(f"[tox]\n{lines}", "tox.ini").tox.maps_port is asked


@pytest.mark.parametrize("word", ["yes", "on", "TRUE"])
def test_words_for_yes(word: str) -> None:
    assert parse(f"[tox]\nudp = {word}", "tox.ini").tox.udp is True


@pytest.mark.parametrize("word", ["no", "off", "False"])
def test_words_for_no(word: str) -> None:
    assert parse(f"[tox]\nudp = {word}", "tox.ini").tox.udp is False


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5h", "socks4", "socks4a", "http"])
def test_an_upstream_may_have_the_schemes_of_curl(scheme: str) -> None:
    url = f"{scheme}://:token@127.0.0.1:9050"
    assert parse(f"[exit]\nupstream = {url}", "tox.ini").exit.upstream == url


def test_the_proxy_for_tox_may_have_the_scheme_socks5h() -> None:
    proxy = parse("[tox]\nproxy = socks5h://127.0.0.1:9050", "tox.ini").tox.proxy
    assert proxy == TransportProxy("socks5", "127.0.0.1", 9050)


@pytest.mark.parametrize("scheme", ["tox:", "TOX:", "tox://"])
def test_a_server_may_be_a_tox_uri(scheme: str) -> None:
    server = parse_tox_id(ID)
    uri = scheme + ID
    config = parse(
        f"[socks]\na = me:pw@[::1]:80:{uri}\n[client]\nb = 81:h:22:{uri}\n[access]\nallow = {uri}", "x"
    )
    assert config.proxies == (ProxyPort("a", Bind("::1", 80), server, "me", "pw", 2),)
    assert config.forwards == (Forward("b", Bind("127.0.0.1", 81), Target("h", 22), server, 4),)
    assert config.access.allow == {server.public_key}


@given(st.from_regex(r"(?i)(socks5|socks4|http)://[a-z0-9:@%.\[\]/?#-]{0,30}:[0-9]{1,5}", fullmatch=True))
def test_every_accepted_upstream_is_accepted_by_python_socks(url: str) -> None:
    try:
        upstream = parse(f"[exit]\nupstream = {url}", "tox.ini").exit.upstream
    except ConfigError:
        return
    assert upstream is not None
    assert parse_proxy_url(upstream)[2] > 0


# The whole file


def test_a_server_with_a_new_nospam_is_the_same_server() -> None:
    config = parse(f"[client]\na = 1:h:1:{ID}\nb = 2:h:1:{SAME_SERVER}\n[socks]\nc = 3:{ID}", "tox.ini")
    assert config.servers == (parse_tox_id(ID),)


TWO_SERVERS = f"[client]\na = 1:h:1:{ID}\n[socks]\nb = 2:{OTHER_ID}\n"
FIRST, SECOND = parse_tox_id(ID), parse_tox_id(OTHER_ID)


@pytest.mark.parametrize("name", [ID, ID.lower(), SAME_SERVER, KEY, KEY[:8]])
def test_a_secret_belongs_to_a_server(name: str) -> None:
    config = parse(f"[secrets]\n{name} = for the first\n{TWO_SERVERS}", "tox.ini")
    config.require_client("tox.ini")
    assert (config.secret_for(FIRST), config.secret_for(SECOND)) == ("for the first", None)


def test_with_one_server_the_secret_in_access_is_for_it() -> None:
    config = parse(f"[access]\nsecret = hunter2\n[client]\na = 1:h:1:{ID}\nb = 2:h:1:{SAME_SERVER}", "x")
    config.require_client("x")
    assert config.secret_for(FIRST) == "hunter2"


def test_one_secret_for_several_servers_is_an_error() -> None:
    config = parse(f"[access]\nsecret = hunter2\n{TWO_SERVERS}", "tox.ini")
    for ask in (lambda: config.secret_for(SECOND), lambda: config.require_client("tox.ini")):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert str(caught.value).removeprefix("tox.ini: ") == (
            "[access] secret: expected one server, found 2, and each would be told the secret of the others; "
            "write, below a line [secrets], for each that has one: TOXID = its secret"
        )


def test_a_file_for_both_roles_sends_the_servers_own_secret_to_nobody() -> None:
    config = parse(f"[access]\nsecret = hunter2\n{TWO_SERVERS}[secrets]\n{KEY} = for the first", "tox.ini")
    config.require_client("tox.ini")
    assert (config.secret_for(FIRST), config.secret_for(SECOND)) == ("for the first", None)


def test_a_client_needs_a_listener() -> None:
    parse(f"[socks]\na = 1:{ID}", "tox.ini").require_client("tox.ini")
    with pytest.raises(ConfigError) as caught:
        DEFAULT.require_client("tox.ini")
    assert str(caught.value) == (
        "tox.ini: expected a forward in [client] or a proxy in [socks], found none; "
        "write, for example, below a line [socks]: browser = 1080:TOXID"
    )


def test_secrets_are_not_in_the_repr() -> None:
    text = (
        f"[access]\nsecret = hunter2\n[socks]\na = me:hunter2@1:{ID}\n[exit]\nupstream = http://a:hunter2@b:1\n"
        f"[secrets]\n{ID} = hunter2"
    )
    config = parse(text, "tox.ini")
    assert config.access.secret == config.proxies[0].password == "hunter2"
    assert "hunter2" not in repr(config)


# Listeners with the same address


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("80", "80"),
        ("80", "127.0.0.1:80"),
        ("*:80", "80"),
        ("[::1]:80", "*:80"),
        ("[0::1]:80", "[::1]:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::1]:80", "[::]:80"),
    ],
)
def test_two_listeners_on_one_address_are_an_error(first: str, second: str) -> None:
    message = error_of(f"[client]\na = {first}:h:1:{ID}\n\n[socks]\nb = {second}:{ID}")
    assert message.startswith("tox.ini:5: expected a local address of its own, found ")
    assert message.endswith(" on line 2")


def test_the_clash_is_reported_for_the_later_line() -> None:
    message = error_of(f"[socks]\na = 80:{ID}\n[client]\nb = *:80:h:1:{ID}")
    assert (
        message == "tox.ini:4: expected a local address of its own, found *:80 beside 127.0.0.1:80 on line 2"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("80", "81"),
        ("80", "[::1]:80"),
        ("127.0.0.2:80", "80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("0.0.0.0:80", "[::]:80"),
        ("0", "0"),
        ("*:0", "*:0"),
    ],
)
def test_two_listeners_on_different_addresses(first: str, second: str) -> None:
    config = parse(f"[client]\na = {first}:h:1:{ID}\nb = {second}:h:1:{ID}", "tox.ini")
    assert len(config.listeners) == 2


# Unix sockets


@pytest.mark.parametrize(
    ("text", "bind", "target"),
    [
        (f"unix:/run/x.sock:h:80:{ID}", UnixBind("/run/x.sock"), Target("h", 80)),
        (f"unix:/run/x.sock,mode=0660:h:80:{ID}", UnixBind("/run/x.sock", 0o660), Target("h", 80)),
        (
            f"2375:unix:/run/docker.sock:{ID}",
            Bind("127.0.0.1", 2375),
            parse_unix_target("unix:/run/docker.sock"),
        ),
        (f"*:2375:unix:/run/docker.sock:{ID}", Bind("", 2375), parse_unix_target("unix:/run/docker.sock")),
        (f"unix:/a:unix:/b:{ID}", UnixBind("/a"), parse_unix_target("unix:/b")),
        (f"80:unix:81:{ID}", Bind("127.0.0.1", 80), Target("unix", 81)),  # a host of that name
    ],
)
def test_a_unix_socket_at_either_side_of_a_forward(text: str, bind: object, target: Target) -> None:
    (forward,) = parse(f"[client]\nx = {text}\n", "tox.ini").forwards
    assert (forward.bind, forward.target) == (bind, target)


def test_a_proxy_on_a_unix_socket() -> None:
    (proxy,) = parse(f"[socks]\nx = user:pw@unix:/run/x.sock:{ID}\n", "tox.ini").proxies
    assert (proxy.bind, proxy.username) == (UnixBind("/run/x.sock"), "user")
    assert warnings(parse(f"[socks]\nx = unix:/run/x.sock:{ID}\n", "tox.ini"), "client") == []


def test_what_is_wrong_with_a_unix_socket() -> None:
    assert "expected unix: and an absolute path" in error_of(f"[client]\nx = unix:/a/../b:h:80:{ID}\n")
    assert "found 5 fields" in error_of(f"[client]\nx = unix:/a:80:h:80:{ID}\n")
    assert "expected mode=600" in error_of(f"[client]\nx = unix:/a,mode=rw:h:80:{ID}\n")
    assert "expected [localip:]localport or unix:/path" in error_of(f"[client]\nx = 1:2:3:unix:/a:{ID}\n")
    twice = error_of(f"[client]\nx = unix:/a:h:80:{ID}\ny = unix:/a:h:81:{ID}\n")
    assert twice.startswith("tox.ini:3: expected a local address of its own, found unix:/a beside unix:/a")
