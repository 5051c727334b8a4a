"""UPnP's messages, as routers send them and as liars do."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.mapping import igd
from toxproxy.mapping.exchange import MOST_PAGE
from toxproxy.mapping.grant import Failure, MappingError
from toxproxy.mapping.igd import Service, Url

BASE = Url(IPv4Address("192.168.1.1"), 49000, "/desc/root.xml")
WAN_IP = "urn:schemas-upnp-org:service:WANIPConnection:1"


def description(control: str, base: str = "", kind: str = WAN_IP, times: int = 1) -> bytes:
    service = f"<service><serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service>"
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{base and f'<URLBase>{base}</URLBase>'}<device><deviceList><device><serviceList>"
        f"<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>"
        f"<controlURL>/l3f</controlURL></service>{service * times}"
        "</serviceList></device></deviceList></device></root>"
    ).encode()


def found(location: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nST: x\r\nCACHE-CONTROL: max-age=120\r\n" + location + b"\r\nEXT:\r\n\r\n"


@pytest.mark.parametrize("line", [b"LOCATION: %s", b"Location:%s", b"location : %s ".rstrip() + b" "])
def test_an_answer_to_a_search_tells_where_the_description_is(line: bytes) -> None:
    assert igd.parse_found(found(line % b"http://192.168.1.1:49000/desc/root.xml")) == BASE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        found(b"X: y"),
        found(b"LOCATION: https://192.168.1.1/"),
        found(b"LOCATION: http://router.lan/"),
        found(b"LOCATION: http://192.168.1.1:99999/"),
        found(b"LOCATION: http://192.168.1.1:0/"),
        found(b"LOCATION: http://192.168.1.999/"),
        found(b"LOCATION: http://user@192.168.1.1/"),
        found(b"LOCATION: http://[fe80::1]/"),
        found(b"LOCATION: http://192.168.1.1/\xff"),
        found(b"LOCATION: http://192.168.1.1/" + b"a" * 2048),
        b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
    ],
)
def test_another_answer_is_ignored(data: bytes) -> None:
    assert igd.parse_found(data) is None


@pytest.mark.parametrize(
    ("control", "base", "url"),
    [
        ("/upnp/control/x", "", "http://192.168.1.1:49000/upnp/control/x"),
        ("ctl?a=b", "", "http://192.168.1.1:49000/desc/ctl?a=b"),
        ("http://192.168.1.1:5000/c", "", "http://192.168.1.1:5000/c"),
        ("/c", "http://192.168.1.1:80/", "http://192.168.1.1:80/c"),
        ("/c", "not a url", "http://192.168.1.1:49000/c"),
    ],
)
def test_where_the_actions_of_a_service_go(control: str, base: str, url: str) -> None:
    assert igd.parse_services(description(control, base), BASE) == [Service(WAN_IP, igd.parse_url(url))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        description("http://192.168.1.2/c"),
        description("http://evil.example/c"),
        description("//192.168.1.2/c"),
        description("/c", "http://10.0.0.1/"),
        description("http://[::1/c"),
        description("/c\r\nX: y"),
        description("/c", kind="urn:schemas-upnp-org:service:WANIPConnection:9"),
        description(""),
    ],
)
def test_a_service_elsewhere_or_of_another_kind_is_not_used(data: bytes) -> None:
    with pytest.raises(MappingError) as raised:
        igd.parse_services(data, BASE)
    assert raised.value.failure is Failure.UNSUPPORTED


def test_of_many_services_a_few_are_used() -> None:
    assert len(igd.parse_services(description("/c", times=500), BASE)) == 4


_BOMB = (
    b'<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">'
    b"]><r>&c;</r>"
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><p>",
        b"\xff" * 100,
        _BOMB,
        b'<!DOCTYPE r SYSTEM "http://192.168.1.2/x.dtd"><r/>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
        b'<?xml version="1.0" encoding="utf-7"?><r/>',
        b'<?xml version="1.0" encoding="no-such"?><r/>',
        b"<a>" * 20_000,
    ],
    ids=["empty", "html", "bytes", "bomb", "dtd", "file", "utf-7", "encoding", "deep"],
)
def test_what_is_no_plain_xml_makes_no_sense(data: bytes) -> None:
    for parse in (lambda: igd.parse_services(data, BASE), lambda: igd.parse_soap(data, "AddPortMapping")):
        with pytest.raises(MappingError) as raised:
            parse()
        assert raised.value.failure is Failure.NONSENSE


def test_the_deepest_xml_that_is_read_costs_nothing_but_an_error() -> None:
    depth = MOST_PAGE // 7
    with pytest.raises(MappingError):
        igd.parse_services(b"<a>" * depth + b"</a>" * depth, BASE)


def soap_answer(inner: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f"{inner}</s:Body></s:Envelope>"
    ).encode()


def fault(code: str) -> bytes:
    return soap_answer(
        "<s:Fault><faultcode>s:Client</faultcode><detail><UPnPError xmlns='urn:schemas-upnp-org:control-1-0'>"
        f"<errorCode>{code}</errorCode></UPnPError></detail></s:Fault>"
    )


def test_the_results_of_an_action() -> None:
    answer = soap_answer(
        f'<u:GetExternalIPAddressResponse xmlns:u="{WAN_IP}">'
        "<NewExternalIPAddress> 8.8.4.4 </NewExternalIPAddress></u:GetExternalIPAddressResponse>"
    )
    results = igd.parse_soap(answer, "GetExternalIPAddress")
    assert igd.parse_address(results) == IPv4Address("8.8.4.4")
    with pytest.raises(MappingError):
        igd.parse_soap(answer, "AddPortMapping")
    for text in ("", "router", "8.8.4", "::1"):
        with pytest.raises(MappingError):
            igd.parse_address({"NewExternalIPAddress": text})


@pytest.mark.parametrize(
    ("text", "failure", "code"),
    [
        ("718", Failure.TAKEN, 718),
        ("729", Failure.TAKEN, 729),
        ("725", Failure.REFUSED, 725),
        ("606", Failure.REFUSED, 606),
        ("401", Failure.UNSUPPORTED, 401),
        ("9" * 5000, Failure.REFUSED, None),
        ("x", Failure.REFUSED, None),
    ],
)
def test_the_error_of_an_action(text: str, failure: Failure, code: int | None) -> None:
    with pytest.raises(MappingError) as raised:
        igd.parse_soap(fault(text), "AddPortMapping")
    assert (raised.value.failure, raised.value.code) == (failure, code)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_make_no_sense(data: bytes) -> None:
    igd.parse_found(data)
    igd.parse_found(b"HTTP/1.1 200 OK\r\nLOCATION: " + data)
    for body in (data, b"<root>" + data + b"</root>", fault("718") + data):
        for parse in (
            lambda body=body: igd.parse_services(body, BASE),
            lambda body=body: igd.parse_soap(body, "X"),
        ):
            with contextlib.suppress(MappingError):
                parse()
