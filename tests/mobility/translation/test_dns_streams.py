"""DNS over TCP through the gateway: questions are doubled in the stream, and one answer comes back for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from scapy.layers.inet import TCP
from scapy.packet import Raw

from mobility.translation.dns import LIFETIME
from mobility.translation.streams import MESSAGE
from mobility.translation.translation import Translation
from mobility.wire.tcp import ACK, FIN, SYN
from tests.mobility.translation.support import PEER, SERVER, consistent4, consistent6, ip4, ip6, known, translation

PORTS = (40053, 53)
Answer = Callable[[dns.message.Message], dns.message.Message]


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


@dataclass
class Conversation:
    """A program and a name server, each with a TCP that sends everything once and acknowledges what is in order."""

    made: Translation = field(default_factory=translation)
    now: float = 0.0
    heard: dict[str, bytes] = field(default_factory=lambda: {"server": b"", "program": b""})
    sent: dict[str, int] = field(default_factory=lambda: {"server": 0, "program": 0})
    ends: list[str] = field(default_factory=list)
    "Who heard the end of the stream."

    def __post_init__(self) -> None:
        self._out("program", 999, 0, SYN, b"")
        self._out("server", 4999, 1000, SYN | ACK, b"")

    def say(self, who: str, octets: bytes, flags: int = ACK) -> None:
        other = "server" if who == "program" else "program"
        start, theirs = (1000, 5000) if who == "program" else (5000, 1000)
        at = start + self.sent[who]
        self.sent[who] += len(octets)
        self._out(who, at, theirs + len(self.heard[who]), flags, octets)
        # The other end acknowledges.
        base = 1000 if other == "server" else 5000
        self._out(other, theirs + self.sent[other], base + len(self.heard[other]), ACK, b"")

    def _out(self, who: str, sequence: int, acknowledgement: int, flags: int, payload: bytes) -> None:
        ports = PORTS if who == "program" else PORTS[::-1]
        segment = TCP(sport=ports[0], dport=ports[1], seq=sequence, ack=acknowledgement, flags=flags) / Raw(payload)
        if who == "program":
            result = self.made.outbound(ip4(self.made.servers[0], segment), self.now)
            packets = [consistent6(packet) for packet in result.network]
        else:
            result = self.made.inbound(ip6(segment, source=SERVER), self.now)
            packets = [consistent4(packet) for packet in result.host]
        assert not result.outputs
        other, start = ("server", 1000) if who == "program" else ("program", 5000)
        for packet in packets:
            payload, place = bytes(packet[TCP].payload), packet[TCP].seq - start
            if payload and place == len(self.heard[other]):
                self.heard[other] += payload
            if packet[TCP].flags & FIN:
                assert place == len(self.heard[other]) - len(payload)
                self.ends.append(other)

    def messages(self, who: str) -> list[dns.message.Message]:
        """What was heard and not taken yet, as whole messages."""
        octets, found = self.heard[who], []
        while octets:
            size = int.from_bytes(octets[:2])
            assert len(octets) >= 2 + size
            found.append(dns.message.from_wire(octets[2 : 2 + size]))
            octets = octets[2 + size :]
        return found

    def ask(self, name: str, kind: str = "A", identifier: int = 7) -> list[dns.message.Message]:
        """What the server hears of a question."""
        before = len(self.messages("server"))
        self.say("program", framed(dns.message.make_query(name, kind, id=identifier).to_wire()))
        return self.messages("server")[before:]

    def answer(self, query: dns.message.Message, *records: str, rcode: int = 0) -> None:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.Rcode(rcode))
        asked = query.question[0]
        for record in records:
            response.answer.append(dns.rrset.from_text(asked.name, 300, "IN", asked.rdtype.name, record))
        self.say("server", framed(response.to_wire()))


def addresses(message: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in message.answer for rdata in rrset]


def test_a_question_is_asked_for_both_and_ipv6_wins_whatever_comes_first() -> None:
    for order in (1, -1):
        talk = Conversation()
        asked = talk.ask("www.example.")
        assert [query.question[0].rdtype for query in asked] == [dns.rdatatype.AAAA, dns.rdatatype.A]
        assert asked[0].id != asked[1].id == 7
        for query in asked[::order]:
            talk.answer(query, str(PEER) if query.question[0].rdtype == dns.rdatatype.AAAA else "203.0.113.9")
        (told,) = talk.messages("program")
        assert (told.id, told.question[0].rdtype) == (7, dns.rdatatype.A)
        assert addresses(told) == [str(known(talk.made))]


def test_without_ipv6_the_answer_for_ipv4_counts() -> None:
    for order in (1, -1):
        talk = Conversation()
        for query in talk.ask("old.example.")[::order]:
            talk.answer(query, *([] if query.question[0].rdtype == dns.rdatatype.AAAA else ["203.0.113.9"]))
        (told,) = talk.messages("program")
        assert addresses(told) == ["203.0.113.9"]


def test_more_addresses_than_a_datagram_holds() -> None:
    talk = Conversation()
    many = [str(IPv6Address(int(PEER) + number)) for number in range(200)]
    asked = talk.ask("many.example.")
    talk.answer(asked[0], *many)
    (told,) = talk.messages("program")
    assert len(addresses(told)) == 16
    assert len({IPv4Address(address) for address in addresses(told)}) == 16


def test_several_questions_in_one_stream_and_its_end() -> None:
    talk = Conversation()
    query = dns.message.make_query("a.example.", "A", id=1).to_wire()
    other = dns.message.make_query("a.example.", "TXT", id=2).to_wire()
    octets = framed(query) + framed(other)
    talk.say("program", octets[:5])
    assert talk.heard["server"] == b""
    talk.say("program", octets[5:])
    assert [each.question[0].rdtype.name for each in talk.messages("server")] == ["AAAA", "A", "TXT"]
    for each in talk.messages("server"):
        talk.answer(each, *([str(PEER)] if each.question[0].rdtype == dns.rdatatype.AAAA else []))
    assert [each.id for each in talk.messages("program")] == [1, 2]
    talk.say("server", b"", ACK | FIN)
    talk.say("program", b"", ACK | FIN)
    assert talk.ends == ["program", "server"]


def test_the_name_of_a_virtual_address() -> None:
    talk = Conversation()
    virtual = known(talk.made)
    name = dns.reversename.from_address(str(virtual)).to_text()
    (asked,) = talk.ask(name, "PTR")
    assert asked.question[0].name == dns.reversename.from_address(str(PEER))
    talk.answer(asked, "peer.example.")
    (told,) = talk.messages("program")
    assert told.question[0].name.to_text() == name
    assert addresses(told) == ["peer.example."]


def test_an_answer_that_is_none_costs_only_itself() -> None:
    talk = Conversation()
    asked = talk.ask("www.example.")
    wire = bytearray(dns.message.make_response(asked[0]).to_wire())
    wire[7] = 1  # an answer that is not there
    talk.say("server", framed(bytes(wire)))
    talk.answer(asked[1], "203.0.113.9")
    (told,) = talk.messages("program")
    assert addresses(told) == ["203.0.113.9"]


@pytest.mark.parametrize("octets", [b"\0\0rest", b"\0\5hello", framed(bytes(MESSAGE)), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_dns_passes_as_it_is(octets: bytes) -> None:
    talk = Conversation()
    for at in range(0, len(octets), 1200):
        talk.say("program", octets[at : at + 1200])
        talk.say("server", octets[at : at + 1200])
    assert talk.heard == {"server": octets, "program": octets}


def test_late_answers_are_not_kept_for() -> None:
    talk = Conversation()
    asked = talk.ask("www.example.")
    assert talk.made.timer is not None
    talk.now = LIFETIME
    assert not talk.made.handle_timer(talk.now).host
    assert talk.made.snapshot(talk.now)["dns"] == {
        "udp": {"waiting": 0, "synthesised": 0},
        "tcp": {"waiting": 0, "synthesised": 0},
    }
    talk.answer(asked[1], "203.0.113.9")
    assert addresses(talk.messages("program")[0]) == ["203.0.113.9"]


def test_an_answer_that_is_held_back_and_comes_again_is_acknowledged() -> None:
    talk = Conversation()
    asked = talk.ask("www.example.")
    octets = framed(dns.message.make_response(asked[1]).to_wire())
    here, there = 5000, 1000 + len(talk.heard["server"])
    segment = ip6(TCP(sport=53, dport=PORTS[0], seq=here, ack=there, flags=ACK) / Raw(octets), source=SERVER)
    assert talk.made.inbound(segment, 0.1).host == []
    (again,) = talk.made.inbound(segment, 0.5).host
    probe = consistent4(again)[TCP]
    assert (probe.seq, bytes(probe.payload)) == (here - 1, b"")
    # The program answers what is no news with what it has, and the server hears that its answer arrived.
    answer = TCP(sport=PORTS[0], dport=53, seq=1000 + talk.sent["program"], ack=here, flags=ACK)
    (told,) = talk.made.outbound(ip4(talk.made.servers[0], answer), 0.5).network
    assert consistent6(told)[TCP].ack == here + len(octets)
