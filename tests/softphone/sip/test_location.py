"""RFC 3263: which servers a URI leads to, and in what order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.errors import TransportError
from softphone.sip.location import Naptr, Srv, locate, ordered
from softphone.sip.transport import Target, Transport
from softphone.sip.uri import SipUri
from tests.softphone.support import FixedNames

UDP, TCP, TLS, WSS = Transport.UDP, Transport.TCP, Transport.TLS, Transport.WSS
A, B, C = "2001:db8::a", "2001:db8::b", "2001:db8::c"
ADDRESSES = {"example.org": [A], "one.example.org": [B], "two.example.org": [C, "192.0.2.1"]}
NAPTR = [
    Naptr(90, 50, "s", "SIP+D2U", "_sip._udp.example.org"),
    Naptr(50, 60, "s", "SIP+D2T", "_sip._tcp.example.org"),
    Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.org"),
    Naptr(10, 10, "u", "E2U+sip", ""),
    Naptr(95, 1, "a", "SIPS+D2W", "one.example.org"),
]
SRV = {
    "_sip._udp.example.org": [Srv(2, 0, 5060, "two.example.org"), Srv(1, 0, 5070, "one.example.org")],
    "_sip._tcp.example.org": [Srv(1, 0, 5080, "two.example.org")],
    "_sips._tcp.example.org": [Srv(1, 0, 5081, "one.example.org")],
}


def ask(text: str, names: FixedNames, prefer: Transport = UDP, version: int = 6) -> list[tuple[Transport, str, int]]:
    found: list[Target] = asyncio.run(locate(SipUri.parse(text), names, version, prefer, lambda: 0.0))
    return [(target.transport, *target.address) for target in found]


@pytest.mark.parametrize(
    ("text", "prefer", "naptr", "srv", "found"),
    [
        ("sip:[2001:db8::9]", UDP, [], {}, [(UDP, "2001:db8::9", 5060)]),
        ("sips:[2001:db8::9]", UDP, [], {}, [(TLS, "2001:db8::9", 5061)]),
        ("sip:[2001:db8::9]:7;transport=tcp", UDP, [], {}, [(TCP, "2001:db8::9", 7)]),
        ("sip:example.org;maddr=2001:db8::9", UDP, NAPTR, SRV, [(UDP, "2001:db8::9", 5060)]),
        ("sip:[2001:db8::9]", TLS, [], {}, [(TLS, "2001:db8::9", 5061)]),
        ("sips:[2001:db8::9];transport=ws", UDP, [], {}, [(WSS, "2001:db8::9", 443)]),
        ("sips:[2001:db8::9]", Transport.WS, [], {}, [(WSS, "2001:db8::9", 443)]),
        # a port: no services, no servers
        ("sip:example.org:5090", UDP, NAPTR, SRV, [(UDP, A, 5090)]),
        ("sips:example.org:5090", UDP, NAPTR, SRV, [(TLS, A, 5090)]),
        # services in their order; what we do not speak is passed over
        ("sip:example.org", UDP, NAPTR, SRV,
         [(TLS, B, 5081), (TCP, C, 5080), (UDP, B, 5070), (UDP, C, 5060), (WSS, B, 443)]),
        ("sips:example.org", UDP, NAPTR, SRV, [(TLS, B, 5081), (WSS, B, 443)]),
        # a transport: its servers
        ("sip:example.org;transport=tcp", UDP, NAPTR, SRV, [(TCP, C, 5080)]),
        ("sips:example.org;transport=tcp", UDP, NAPTR, SRV, [(TLS, B, 5081)]),
        ("sip:example.org", TCP, NAPTR, SRV, [(TCP, C, 5080)]),
        ("sip:example.org", WSS, NAPTR, SRV, [(WSS, A, 443)]),
        # no services: servers of the transports in our order
        ("sip:example.org", UDP, [], SRV, [(UDP, B, 5070), (UDP, C, 5060)]),
        ("sip:example.org", UDP, [], {"_sip._tcp.example.org": SRV["_sip._tcp.example.org"]}, [(TCP, C, 5080)]),
        ("sips:example.org", UDP, [], SRV, [(TLS, B, 5081)]),
        # neither: the name itself
        ("sip:example.org", UDP, [], {}, [(UDP, A, 5060)]),
        ("sips:example.org", UDP, [], {}, [(TLS, A, 5061)]),
        # a server without address is passed over
        ("sip:example.org;transport=udp", UDP, [],
         {"_sip._udp.example.org": [Srv(1, 0, 1, "gone.example.org"), Srv(2, 0, 2, "one.example.org")]}, [(UDP, B, 2)]),
    ],
)  # fmt: skip
def test_targets(
    text: str, prefer: Transport, naptr: list[Naptr], srv: dict[str, list[Srv]], found: list[tuple[Transport, str, int]]
) -> None:
    names = FixedNames(naptr={"example.org": naptr}, srv=srv, addresses=ADDRESSES)
    assert ask(text, names, prefer) == found


def test_the_name_in_the_certificate_is_that_of_the_uri_not_of_the_server() -> None:
    names = FixedNames(srv=SRV, addresses=ADDRESSES)
    [target] = asyncio.run(locate(SipUri.parse("sips:example.org"), names, 6, UDP, lambda: 0.0))
    assert target.name == "example.org"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sip:nobody.example.org", "has no address"),
        ("sip:192.0.2.1", "the IP versions differ"),
        ("sip:[2001:db8::9];transport=sctp", "use udp, tcp, tls or ws"),
        ("sips:[2001:db8::9];transport=udp", "demands TLS and udp at once"),
        ("sip:empty.example.org", "no server of 'empty.example.org' has an address"),
        ("sip:unwanted.example.org", "no server of"),
    ],
)
def test_uris_that_lead_nowhere_say_why(text: str, why: str) -> None:
    names = FixedNames(
        srv={"_sip._udp.empty.example.org": [Srv(1, 1, 1, "four.example.org")],
             "_sip._udp.unwanted.example.org": [Srv(0, 0, 0, ".")]},
        addresses={"four.example.org": ["192.0.2.4"]},
    )  # fmt: skip
    with pytest.raises(TransportError, match=why):
        ask(text, names)


def test_a_dead_dns_is_asked_for_services_and_the_address_once_each() -> None:
    names = FixedNames()
    names.dead = True
    with pytest.raises(TransportError, match="check it and the resolver"):
        ask("sip:example.org", names)
    assert names.asked == [("NAPTR", "example.org"), ("A", "example.org")]


class Services(FixedNames):
    """A name server that never answers about services."""

    async def naptr(self, name: str) -> list[Naptr]:
        raise OSError("no answer")


def test_a_name_server_that_knows_no_services_does_not_stand_in_the_way() -> None:
    assert ask("sip:example.org", Services(addresses=ADDRESSES)) == [(UDP, A, 5060)]


def test_servers_of_one_priority_share_by_weight() -> None:
    records = [Srv(1, 10, 1, "ten"), Srv(1, 30, 1, "thirty"), Srv(2, 99, 1, "later"), Srv(1, 0, 1, "zero")]
    first: Counter[str] = Counter()
    for number in range(400):
        draws = iter([number / 400, 0.0, 0.0, 0.0])
        order = [record.target for record in ordered(records, lambda: next(draws))]  # noqa: B023 - used at once
        first[order[0]] += 1
        assert order[-1] == "later"
    assert first == {"thirty": 300, "ten": 100}


@given(st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 3), st.just(1), st.sampled_from("abcd")), max_size=8),
       st.floats(0, 1, exclude_max=True))  # fmt: skip
def test_every_server_appears_once_in_the_order_of_priorities(records: list[Srv], drawn: float) -> None:
    draw: Callable[[], float] = lambda: drawn  # noqa: E731
    found = ordered(records, draw)
    assert sorted(found) == sorted(records)
    assert [r.priority for r in found] == sorted(r.priority for r in records)
