"""The gateway for DNS: A made of AAAA, names of virtual addresses; dnspython makes and reads messages."""

from __future__ import annotations

from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from mobility.discards import Reason
from mobility.outputs import Discarded
from mobility.translation.dns import LIFETIME, PATIENCE, QUERIES, TTL
from mobility.translation.translation import Translation
from tests.mobility.translation.support import (
    HERE,
    HOME,
    PEER,
    SERVER,
    SETTINGS,
    consistent4,
    consistent6,
    datagram,
    ip4,
    ip6,
    known,
    translation,
)

PORT = 40053


@pytest.fixture
def made() -> Translation:
    return translation()


def ask(
    made: Translation, name: str, kind: str = "A", identifier: int = 7, now: float = 0.0
) -> list[dns.message.Message]:
    """What the server is asked when a program asks this."""
    query = dns.message.make_query(name, kind, id=identifier, use_edns=0)
    result = made.outbound(ip4(made.servers[0], datagram((PORT, 53), query.to_wire())), now)
    assert not result.outputs
    assert not result.host
    packets = [consistent6(packet) for packet in result.network]
    assert {(packet.src, packet.dst, packet[UDP].sport) for packet in packets} == {(str(HOME), str(SERVER), PORT)}
    return [dns.message.from_wire(bytes(packet[UDP].payload)) for packet in packets]


def answered(query: dns.message.Message, *records: str, rcode: int = 0, flags: int = 0) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.flags |= flags
    response.set_rcode(dns.rcode.Rcode(rcode))
    name = query.question[0].name
    for record in records:
        owner, kind, data = record.split(" ", 2) if record.count(" ") > 1 else (str(name), *record.split(" "))
        response.answer.append(dns.rrset.from_text(owner, 86400, "IN", kind, data))
    return response


def reply(
    made: Translation, response: dns.message.Message | bytes, now: float = 0.1, port: int = PORT
) -> list[dns.message.Message]:
    """What the program is told when the server answers this."""
    wire = response if isinstance(response, bytes) else response.to_wire()
    result = made.inbound(ip6(datagram((53, port), wire), source=SERVER), now)
    return read(made, result.host)


def read(made: Translation, packets: list[bytes]) -> list[dns.message.Message]:
    messages = []
    for each in packets:
        packet = consistent4(each)
        assert (packet.src, packet.dst) == (str(made.servers[0]), str(HERE))
        assert packet[UDP].sport == 53
        messages.append(dns.message.from_wire(bytes(packet[UDP].payload)))
    return messages


def test_programs_know_under_which_address_the_server_is(made: Translation) -> None:
    assert SETTINGS.virtual_servers == made.servers


def test_a_is_made_of_aaaa(made: Translation) -> None:
    questions = ask(made, "Peer.Example")
    assert [question.question[0].rdtype.name for question in questions] == ["AAAA", "A"]
    assert questions[0].id != questions[1].id == 7
    aaaa = answered(questions[0], "Peer.Example. CNAME host.example.", f"host.example. AAAA {PEER}", flags=dns.flags.AD)
    (told,) = reply(made, aaaa)
    assert (told.id, told.question[0].rdtype.name, str(told.question[0].name)) == (7, "A", "Peer.Example.")
    assert [rrset.rdtype.name for rrset in told.answer] == ["CNAME", "A"]
    assert told.answer[1].ttl == TTL
    assert not told.flags & dns.flags.AD
    virtual = IPv4Address(told.answer[1][0].to_text())
    assert virtual == known(made, PEER)
    sent = made.outbound(ip4(virtual, datagram((4000, 4000), b"speech")), 1.0)
    assert IPv6(sent.network[0]).dst == str(PEER)
    assert reply(made, answered(questions[1], "A 203.0.113.5"), 0.2) == []


def test_an_ipv4_host_is_told_as_it_is_whichever_answer_comes_first(made: Translation) -> None:
    for identifier, first in ((1, 0), (2, 1)):
        questions = ask(made, "old.example", identifier=identifier)
        answers = [answered(questions[0]), answered(questions[1], "A 203.0.113.5")]
        assert reply(made, answers[first]) == []
        (told,) = reply(made, answers[1 - first])
        assert (told.id, told.answer[0].to_text()) == (identifier, "old.example. 86400 IN A 203.0.113.5")


def test_the_answer_for_a_counts_when_no_other_comes(made: Translation) -> None:
    questions = ask(made, "old.example")
    assert reply(made, answered(questions[1], "A 203.0.113.5"), 1.0) == []
    assert made.timer == 1.0 + PATIENCE
    (told,) = read(made, made.handle_timer(1.0 + PATIENCE).host)
    assert told.answer[0][0].to_text() == "203.0.113.5"


def test_no_address_at_all_is_told_when_only_that_is_known(made: Translation) -> None:
    questions = ask(made, "empty.example")
    assert reply(made, answered(questions[0]), 1.0) == []
    (told,) = read(made, made.handle_timer(1.0 + PATIENCE).host)
    assert (told.question[0].rdtype.name, told.answer) == ("A", [])


def test_a_name_that_does_not_exist_is_told_at_once(made: Translation) -> None:
    questions = ask(made, "nobody.example")
    (told,) = reply(made, answered(questions[0], rcode=dns.rcode.NXDOMAIN))
    assert (told.rcode(), told.question[0].rdtype.name) == (dns.rcode.NXDOMAIN, "A")


def test_a_server_that_fails_for_aaaa_leaves_a(made: Translation) -> None:
    questions = ask(made, "odd.example")
    assert reply(made, answered(questions[0], rcode=dns.rcode.SERVFAIL)) == []
    (told,) = reply(made, answered(questions[1], "A 203.0.113.5"))
    assert told.rcode() == dns.rcode.NOERROR


def test_a_truncated_answer_is_told_as_such(made: Translation) -> None:
    questions = ask(made, "large.example")
    (told,) = reply(made, answered(questions[0], f"AAAA {PEER}", flags=dns.flags.TC))
    assert told.flags & dns.flags.TC
    assert (told.question[0].rdtype.name, told.answer) == ("A", [])


def test_the_name_of_a_virtual_address(made: Translation) -> None:
    virtual = known(made, PEER)
    name = str(dns.reversename.from_address(str(virtual)))
    (question,) = ask(made, name, "PTR")
    assert question.question[0].name == dns.reversename.from_address(str(PEER))
    (told,) = reply(made, answered(question, "PTR peer.example."))
    assert str(told.question[0].name) == name
    assert told.answer[0].to_text() == f"{name} 86400 IN PTR peer.example."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("peer.example", "AAAA"),
        ("_sip._udp.example", "SRV"),
        ("9.113.0.203.in-addr.arpa", "PTR"),
        ("x.in-addr.arpa", "PTR"),
    ],
)
def test_other_questions_pass_as_they_are(made: Translation, name: str, kind: str) -> None:
    (question,) = ask(made, name, kind)
    assert question.question[0].to_text() == f"{name}. IN {kind}"
    response = answered(question)
    assert [told.to_wire() for told in reply(made, response)] == [response.to_wire()]


def test_an_answer_that_nobody_waits_for_passes_as_it_is(made: Translation) -> None:
    questions = ask(made, "peer.example")
    rows = len(made.table)
    for response, port in (
        (answered(dns.message.make_query("other.example", "AAAA", id=7), f"AAAA {PEER}"), PORT),
        (answered(dns.message.make_query("peer.example", "AAAA", id=8), f"AAAA {PEER}"), PORT),
        (answered(questions[0], f"AAAA {PEER}"), PORT + 1),
    ):
        (told,) = reply(made, response, port=port)
        assert told.answer[0].rdtype.name == "AAAA"
    stranger = made.inbound(ip6(datagram((53, PORT), answered(questions[0], f"AAAA {HOME}").to_wire())), 0.2)
    assert dns.message.from_wire(bytes(IP(stranger.host[0])[UDP].payload)).answer[0].rdtype.name == "AAAA"
    assert len(made.table) == rows + 1  # the stranger's own
    assert reply(made, answered(questions[0], f"AAAA {PEER}"))[0].answer[0].rdtype.name == "A"


@pytest.mark.parametrize("address", ["fe80::1", "::1", "ff02::1", "::"])
def test_no_virtual_address_for_what_is_no_host(made: Translation, address: str) -> None:
    questions = ask(made, "evil.example")
    packet = ip6(datagram((53, PORT), answered(questions[0], f"AAAA {address}").to_wire()), source=SERVER)
    result = made.inbound(packet, 0.1)
    assert result.host == []
    assert [output.reason for output in result.outputs if isinstance(output, Discarded)] == [Reason.SOURCE_INVALID]


def test_a_malformed_answer_is_dropped_by_name(made: Translation) -> None:
    questions = ask(made, "peer.example")
    wire = answered(questions[0], f"AAAA {PEER}").to_wire()[:-3]
    result = made.inbound(ip6(datagram((53, PORT), wire), source=SERVER), 0.1)
    assert result.host == []
    assert [output.reason for output in result.outputs if isinstance(output, Discarded)] == [Reason.MALFORMED]


def test_what_is_remembered_is_bounded_and_ends(made: Translation) -> None:
    for identifier in range(QUERIES + 20):
        ask(made, f"host{identifier}.example", identifier=identifier)
    assert made.gateways.dns.snapshot()["waiting"] == QUERIES
    assert made.timer == LIFETIME
    made.handle_timer(LIFETIME)
    assert made.gateways.dns.snapshot()["waiting"] == 0


@given(st.binary(max_size=120), st.booleans())
def test_rubbish_from_both_sides(rubbish: bytes, follows: bool) -> None:
    made = translation()
    (question, _) = ask(made, "peer.example")
    payload = answered(question, f"AAAA {PEER}").to_wire()[:30] + rubbish if follows else rubbish
    for result in (
        made.outbound(ip4(made.servers[0], datagram((PORT, 53), payload)), 0.0),
        made.inbound(ip6(datagram((53, PORT), payload), source=SERVER), 0.0),
    ):
        assert result.host or result.network or result.outputs
