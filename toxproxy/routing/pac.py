"""The file that tells a browser which proxy to use (proxy auto-config). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from toxproxy.routing.routes import Routes, Way
from toxproxy.rules import NETWORKS, HostSet, Network, Rule

_ALL_PORTS = range(1, 65536)

_TEXT = """\
function FindProxyForURL(url, host) {{
{rules}  if (isPlainHostName(host) || host === "[::1]" || shExpMatch(host, "127.*")) return "DIRECT";
  return "{usual}";
}}
"""

# Names are looked up for no rule. An IPv6 address is left to the proxy, which goes by the same rules.
_BEFORE = """\
  host = host.toLowerCase().replace(/\\.$/, "");
  if (host.indexOf(":") >= 0 && host !== "[::1]" && host !== "::1") return "{proxies}";
  var v4 = /^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$/.test(host);
  var place = url.split("/")[2] || "", found = /:([0-9]+)$/.exec(place);
  var port = found ? +found[1] : /^(https|wss):/i.test(url) ? 443 : 80;
"""


def script(places: Iterable[str], routes: Routes) -> str:
    """The script for the proxy ports at `places` (HOST:PORT), the first one first.

    Where there is none all is DIRECT. What leaves directly by `routes` does not go to the proxy.
    """
    entries = (f"SOCKS5 {place}; PROXY {place}" for place in places)
    to_proxy = "; ".join(entries) or "DIRECT"
    usual, rules = to_proxy, ""
    if routes.lines:
        lines = [_BEFORE.format(proxies=to_proxy)]
        for route in routes.in_turn:
            way = "DIRECT" if route.way is Way.DIRECT else to_proxy
            if route.rule is None:
                usual = way
            elif condition := _condition(route.rule):
                lines.append(f'  if ({condition}) return "{way}";\n')
        rules = "".join(lines)
    return _TEXT.format(rules=rules, usual=usual)


def _condition(rule: Rule) -> str:
    """The rule in JavaScript; empty where it is about IPv6 alone."""
    if not (host := _host(rule)):
        return ""
    if rule.ports == _ALL_PORTS:
        return host
    return f"{host} && port >= {rule.ports[0]} && port <= {rule.ports[-1]}"


def _host(rule: Rule) -> str:
    match rule.host:
        case "*":
            return "true"
        case str(name):
            return f"!v4 && shExpMatch(host, {json.dumps(name)})"
        case HostSet():
            networks: Iterable[Network] = NETWORKS[rule.host]
        case IPv4Network():
            networks = (rule.host,)
        case _:
            return ""
    tests = list(_tests(networks))
    return f"v4 && ({' || '.join(tests)})" if tests else ""


def _tests(networks: Iterable[Network]) -> Iterator[str]:
    for network in networks:
        if isinstance(network, IPv4Network):
            yield f'isInNet(host, "{network.network_address}", "{network.netmask}")'
