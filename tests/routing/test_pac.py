"""The script for browsers, read by Chromium's own engine: it says what the rules say."""

from __future__ import annotations

import html
import json
from pathlib import Path

from tests.config.test_exits import TOX_ID
from tests.end.clients import run
from tests.end.test_browser import CHROMIUM
from toxproxy.address import Target
from toxproxy.config import parse
from toxproxy.routing.pac import script
from toxproxy.routing.routes import Routes, Way

RULES = f"""\
[exits]
home = {TOX_ID}
[route]
private = direct
*.lan = home
intranet = home
*.direct.example:8000-8080 = direct
203.0.113.0/24 = direct
ads.example = reject
"""
# A browser has these functions only where it reads such a script. isInNet does what it does there, and
# notes if a name would be looked up for it.
_FUNCTIONS = """
var lookedUp = [];
function isPlainHostName(host) { return host.indexOf(".") < 0 && host.indexOf(":") < 0; }
function shExpMatch(text, pattern) {
  return new RegExp("^" + pattern.replace(/[.]/g, "[.]").replace(/[*]/g, ".*") + "$").test(text);
}
function number(address) { return address.split(".").reduce((sum, part) => sum * 256 + +part, 0); }
function isInNet(host, network, mask) {
  if (!/^[0-9.]+$/.test(host)) lookedUp.push(host);
  return ((number(host) & number(mask)) >>> 0) === ((number(network) & number(mask)) >>> 0);
}
"""
URLS = [
    ("http://nas.lan/", "nas.lan"),
    ("https://NAS.LAN./", "NAS.LAN."),
    ("http://lan/", "lan"),
    ("http://intranet/", "intranet"),
    ("http://printer/", "printer"),
    ("http://10.0.0.7:8080/", "10.0.0.7"),
    ("http://100.64.1.2/", "100.64.1.2"),
    ("http://203.0.113.9/", "203.0.113.9"),
    ("http://203.0.114.9/", "203.0.114.9"),
    ("http://10.example.org/", "10.example.org"),
    ("http://a.direct.example:8040/x:9", "a.direct.example"),
    ("http://a.direct.example/", "a.direct.example"),
    ("http://user:8000@a.direct.example/", "a.direct.example"),
    ("https://ads.example/", "ads.example"),
    ("https://example.org/", "example.org"),
    ("http://127.0.0.1:8000/", "127.0.0.1"),
    ("http://[2001:db8::1]/", "[2001:db8::1]"),
]
LOCAL = {"printer", "lan", "127.0.0.1"}  # where no rule is about it


async def judged(texts: list[str], folder: Path) -> list[dict[str, str]]:
    """What each script answers for each URL."""
    page = folder / "page.html"
    names = [f"script{number}" for number in range(len(texts))]
    functions = "".join(
        text.replace("FindProxyForURL", name) for name, text in zip(names, texts, strict=True)
    )
    calls = f"var answers = [{','.join(names)}].map((f) => {json.dumps(URLS)}.map((each) => f(...each)));"
    show = "document.body.textContent = JSON.stringify([answers, lookedUp]);"
    page.write_text(f"<body></body><script>{_FUNCTIONS}{functions}{calls}{show}</script>")
    got = await run("chromium", *CHROMIUM, f"--user-data-dir={folder / 'user'}", "--dump-dom", page.as_uri())
    body = got.out.decode().partition("<body>")[2].partition("</body>")[0]
    answers, looked_up = json.loads(html.unescape(body))
    assert looked_up == []
    urls = [url for url, _ in URLS]
    return [dict(zip(urls, each, strict=True)) for each in answers]


def expected(routes: Routes, url: str, host: str) -> str:
    target = Target(host.strip("[]"), 443 if url.startswith("https") else int(_port(url)))
    route = routes.decide(target)
    local = host in LOCAL and (route is None or route.rule is None)
    # The proxy goes by the same rules; an IPv6 address is left to it.
    way_out = route is not None and route.way is Way.DIRECT and ":" not in host
    return "DIRECT" if local or way_out else "SOCKS5 127.0.0.1:1080; PROXY 127.0.0.1:1080"


def _port(url: str) -> str:
    place = url.split("/")[2].rpartition("@")[2]
    return place.rpartition(":")[2] if place[-1].isdigit() and place.count(":") == 1 else "80"


async def test_the_script_says_what_the_rules_say(tmp_path: Path) -> None:
    texts = (RULES + more for more in ("", "default = home\n", "default = direct\n"))
    all_routes = [parse(text, "cfg.ini").routes for text in texts]
    scripts = [script(["127.0.0.1:1080"], routes) for routes in all_routes]
    for routes, answers in zip(all_routes, await judged(scripts, tmp_path), strict=True):
        assert answers == {url: expected(routes, url, host) for url, host in URLS}


def test_without_rules_it_is_as_it_was() -> None:
    assert script(["127.0.0.1:1080"], Routes()).count("return") == 2
