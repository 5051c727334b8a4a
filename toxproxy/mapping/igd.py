"""UPnP's Internet Gateway Device: its search, its description and its SOAP messages. Pure.

From the UPnP Device Architecture 1.1 (sections 1.3, 2.3 and 3.1) and WANIPConnection:1 and :2. XML is
read by defusedxml, without any document type, and so without entities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import urljoin

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from toxproxy.mapping.grant import Failure, MappingError

SSDP_PORT = 1900  # UDP
SSDP_GROUP = "239.255.255.250"
MOST_SSDP = 2048  # bytes of an answer to a search

_SEARCH = (
    "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
    'MAN: "ssdp:discover"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:{}\r\n\r\n'
)
SEARCHES = tuple(_SEARCH.format(version).encode() for version in (1, 2))

_MOST_SERVICES = 4  # of a description that are tried
_SERVICES = frozenset(
    f"urn:schemas-upnp-org:service:{name}"
    for name in ("WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1")
)
_LOCATION = re.compile(rb"^location[ \t]*:[ \t]*([!-~]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_OK = re.compile(rb"HTTP/1\.[01] 200\b")
_URL = re.compile(r"http://([0-9.]{7,15})(?::([0-9]{1,5}))?(/[!-~]*)?", re.IGNORECASE)

_FAILURES = {
    401: Failure.UNSUPPORTED,  # no such action
    718: Failure.TAKEN,  # ConflictInMappingEntry
    729: Failure.TAKEN,  # ConflictWithOtherMechanisms
}
ONLY_PERMANENT_LEASES = 725


@dataclass(frozen=True, slots=True)
class Url:
    """An http URL whose host is an IPv4 address. `path` begins with a slash."""

    host: IPv4Address
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the router that makes port mappings: where its actions go."""

    kind: str
    control: Url


def parse_url(text: str) -> Url | None:
    """A URL, or None for one that is not used here: of https, with a name, with other characters."""
    if (match := _URL.fullmatch(text)) is None:
        return None
    host, port, path = match.groups()
    try:
        address = IPv4Address(host)
    except ValueError:
        return None
    number = int(port or 80)
    return Url(address, number, path or "/") if 0 < number < 65536 else None


def parse_found(data: bytes) -> Url | None:
    """Where the device that answers a search describes itself; None for a datagram that does not tell."""
    if len(data) > MOST_SSDP or not _OK.match(data) or not (match := _LOCATION.search(data)):
        return None
    return parse_url(match[1].decode("ascii"))


def parse_services(data: bytes, base: Url) -> list[Service]:
    """The services of a description that was read from `base`, whose actions go to the same host.

    Raises `MappingError` if it is no description, or has none.
    """
    root = _parse(data)
    found: list[Service] = []
    where = f"http://{base.host}:{base.port}{base.path}"
    for element in root.iter():
        fields = {_name(child): _text(child) for child in element}
        if _name(element) == "root" and parse_url(fields.get("URLBase", "")):
            where = fields["URLBase"]
        kind, control = fields.get("serviceType", ""), fields.get("controlURL", "")
        if kind in _SERVICES and control and (url := _joined(where, control)) and url.host == base.host:
            found.append(Service(kind, url))
    if not found:
        raise MappingError(Failure.UNSUPPORTED)
    return found[:_MOST_SERVICES]


def soap(service: Service, action: str, arguments: Mapping[str, object]) -> bytes:
    """The body of a request. The arguments hold no characters that XML escapes."""
    fields = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
    return (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{fields}</u:{action}></s:Body></s:Envelope>\r\n'
    ).encode()


def parse_soap(data: bytes, action: str) -> dict[str, str]:
    """The results of an action, by name. Raises `MappingError`, with the code of UPnP for a refusal."""
    for element in _parse(data).iter():
        name = _name(element)
        if name == f"{action}Response":
            return {_name(child): _text(child) for child in element}
        if name == "errorCode":
            text = _text(element)
            code = int(text) if re.fullmatch("[0-9]{3}", text) else None
            raise MappingError(_FAILURES.get(code or 0, Failure.REFUSED), code)
    raise MappingError(Failure.NONSENSE)


def parse_address(results: Mapping[str, str]) -> IPv4Address:
    """The address in the results of GetExternalIPAddress. Raises `MappingError`."""
    try:
        return IPv4Address(results.get("NewExternalIPAddress", ""))
    except ValueError:
        raise MappingError(Failure.NONSENSE) from None


def _parse(data: bytes) -> Any:
    try:
        return fromstring(data, forbid_dtd=True)
    # ValueError and LookupError: an encoding that Python does not read.
    except (SyntaxError, DefusedXmlException, ValueError, LookupError):
        raise MappingError(Failure.NONSENSE) from None


def _joined(base: str, reference: str) -> Url | None:
    try:
        return parse_url(urljoin(base, reference))
    except ValueError:
        return None


def _name(element: Any) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _text(element: Any) -> str:
    return (element.text or "").strip()
