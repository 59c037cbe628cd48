"""Application-level gateway for DNS: an IPv4-only program learns the names of IPv6 hosts.

A query for A goes out as one for AAAA as well. An answer with AAAA comes back as A with virtual IPv4 addresses (after
RFC 6147, with addresses from the translation table); without, the answer for A counts. A query for the name (PTR) of
a virtual address goes out as one for the address that it stands for. All else passes as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from mobility.discards import Discard, Reason

QUERIES = 256
"Under way at one time; the oldest goes first."
LIFETIME = 5.0
"Seconds for which an answer is waited for; programs ask again by then."
PATIENCE = 2.0
"Seconds for which one answer waits for the other, better one."
TTL = 600
"Seconds at most for which a program may remember a virtual address; less than its row lives."
ADDRESSES = 16
"Of one answer that are given virtual addresses."
LABOUR = 100_000
"""What an answer may cost to be read: ten for each record, and the labels of its names squared, because dnspython
compares names with all their ends. 2000 records of ordinary names; 0.1 s if they are as bad as can be."""

_HEADER = 12
_RESPONSE, _TRUNCATED = 0x8000, 0x0200
_OPCODE = 0x7800
_A = int(dns.rdatatype.A).to_bytes(2)
_AAAA = int(dns.rdatatype.AAAA).to_bytes(2)
_PTR = int(dns.rdatatype.PTR).to_bytes(2)
_IN = int(dns.rdataclass.IN).to_bytes(2)
_NAMED = tuple(int(kind).to_bytes(2) for kind in (dns.rdatatype.CNAME, dns.rdatatype.DNAME, dns.rdatatype.PTR))
_MOST_LABELS = 128
_KEPT = (dns.rdatatype.CNAME, dns.rdatatype.DNAME)
_SUFFIX = (b"in-addr", b"arpa", b"")


class _Question(NamedTuple):
    identifier: bytes
    bits: int
    name: bytes
    "As on the wire."
    type: bytes
    end: int
    "Offset of the type: the end of the name."


@dataclass(slots=True)
class _Query:
    """What a program asked."""

    type: bytes
    name: bytes
    until: float
    held: bytes | None = None
    "An answer that is delivered if no better one comes."
    no_ipv6: bool = False
    "The name has no AAAA."
    answered: bool = False
    "Further answers are dropped."


Key = tuple[bytes, int, bytes, bytes]
"Server, port of the program, identifier, name in lower case."


class DnsGateway:
    """Keeps which program asked what, for `LIFETIME` seconds.

    ``virtual4``: the virtual IPv4 address to hand out for an IPv6 address; raises `Discard`. ``standing_for``: the IPv6
    address that a virtual IPv4 address stands for. Addresses are packed.
    """

    def __init__(self, virtual4: Callable[[bytes], bytes], standing_for: Callable[[bytes], bytes | None]) -> None:
        self._virtual4 = virtual4
        self._standing_for = standing_for
        self._queries: OrderedDict[Key, _Query] = OrderedDict()
        self.synthesised = 0
        "Answers with virtual addresses."

    def outbound(self, payload: bytes, port: int, server: bytes, now: float) -> list[bytes]:
        """A program asks from ``port``: the datagrams for the server."""
        question = _read(payload)
        if question is None or question.bits & (_RESPONSE | _OPCODE):
            return [payload]
        if question.type == _A:
            self._remember(question, question.name, port, server, now)
            return [_turned(_with_type(payload, question, _AAAA)), payload]
        if question.type == _PTR:
            address = _reversed(question.name)
            stands_for = None if address is None else self._standing_for(address)
            if stands_for is not None:
                asked = dns.reversename.from_address(str(IPv6Address(stands_for))).to_wire() or b"\0"
                self._remember(question, asked, port, server, now)
                return [payload[:_HEADER] + asked + payload[question.end :]]
        return [payload]

    def inbound(self, payload: bytes, port: int, server: bytes, now: float) -> list[bytes]:
        """A server answers: the datagrams for the program. Raises `Discard` MALFORMED, those of ``virtual4``."""
        question = _read(payload)
        if question is None or not question.bits & _RESPONSE:
            return [payload]
        identifier = question.identifier
        if question.type == _AAAA:
            identifier = _turned(identifier)
        query = self._queries.get((server, port, identifier, question.name.lower()))
        if query is None or question.type not in (_A, _AAAA, _PTR):
            return [payload]
        if query.answered:
            return []
        payload = identifier + payload[2:]
        if query.type == _PTR:
            query.answered = True
            return [self._named(payload, query)]
        answer = self._judged(payload, question, query, now)
        if answer is None:
            query.held = _with_type(payload, question, _A)
            query.until = min(query.until, now + PATIENCE)
            return []
        query.answered = True
        return [answer]

    @property
    def timer(self) -> float | None:
        """When `expire` wants to be called."""
        return min((query.until for query in self._queries.values()), default=None)

    def expire(self, now: float) -> list[tuple[int, bytes, bytes]]:
        """Port of the program, server and payload of answers for which no better ones came."""
        over = [(key, query) for key, query in self._queries.items() if query.until <= now]
        answers: list[tuple[int, bytes, bytes]] = []
        for key, query in over:
            del self._queries[key]
            if query.held is not None and not query.answered:
                answers.append((key[1], key[0], query.held))
        return answers

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        waiting = sum(not query.answered for query in self._queries.values())
        return {"waiting": waiting, "synthesised": self.synthesised}

    def _remember(self, question: _Question, asked: bytes, port: int, server: bytes, now: float) -> None:
        key = (server, port, question.identifier, asked.lower())
        self._queries.pop(key, None)
        if len(self._queries) >= QUERIES:
            self._queries.popitem(last=False)
        self._queries[key] = _Query(question.type, question.name, now + LIFETIME)

    def _judged(self, payload: bytes, question: _Question, query: _Query, now: float) -> bytes | None:
        """The answer for the program; None: the other one is to be waited for."""
        rcode = question.bits & 15
        if question.type == _A:
            return payload if query.no_ipv6 else None
        if question.bits & _TRUNCATED:
            return payload[:6] + bytes(6) + question.name + _A + _IN
        if rcode == dns.rcode.NXDOMAIN:
            return _with_type(payload, question, _A)
        try:
            synthesised = self._synthesised(payload) if rcode == dns.rcode.NOERROR else None
        except Discard:
            query.no_ipv6 = True  # none that could be used
            if query.held is None:
                raise
            return query.held
        if synthesised is None:
            query.no_ipv6 = True
            return query.held
        self.synthesised += 1
        return synthesised

    def _synthesised(self, payload: bytes) -> bytes | None:
        """The answer with A in place of AAAA; None: it has no AAAA."""
        message = _parsed(payload)
        answer: list[dns.rrset.RRset] = []
        found = False
        for rrset in message.answer:
            if rrset.rdtype == dns.rdatatype.AAAA:
                found = True
                answer.append(self._virtual(rrset))
            elif rrset.rdtype in _KEPT:
                answer.append(rrset)
        if not found:
            return None
        asked = message.question[0]
        message.question = [dns.rrset.RRset(asked.name, asked.rdclass, dns.rdatatype.A)]
        message.answer, message.authority, message.additional = answer, [], []
        # What was signed is not what is said.
        message.flags &= ~dns.flags.AD
        return _wire(message)

    def _virtual(self, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
        made = dns.rrset.RRset(rrset.name, rrset.rdclass, dns.rdatatype.A)
        for rdata in list(rrset)[:ADDRESSES]:
            address = self._virtual4(IPv6Address(rdata.to_text()).packed)
            made.add(dns.rdata.from_wire(rrset.rdclass, dns.rdatatype.A, address, 0, len(address)), min(rrset.ttl, TTL))
        return made

    def _named(self, payload: bytes, query: _Query) -> bytes:
        """The answer for PTR under the name that the program asked for."""
        message = _parsed(payload)
        name, _ = dns.name.from_wire(query.name, 0)
        asked = message.question[0]
        message.question = [dns.rrset.RRset(name, asked.rdclass, asked.rdtype)]
        for rrset in message.answer:
            if rrset.name == asked.name:
                rrset.name = name
        message.flags &= ~dns.flags.AD
        return _wire(message)


def _read(payload: bytes) -> _Question | None:
    """The question of a message with one question of class IN; None: something else."""
    if len(payload) < _HEADER + 5 or payload[4:6] != b"\0\1":
        return None
    at = _HEADER
    while at < len(payload) and payload[at]:
        if payload[at] > 63:
            return None
        at += payload[at] + 1
    at += 1
    if at - _HEADER > 255 or at + 4 > len(payload) or payload[at + 2 : at + 4] != _IN:
        return None
    return _Question(payload[:2], payload[2] << 8 | payload[3], payload[_HEADER:at], payload[at : at + 2], at)


def _with_type(payload: bytes, question: _Question, wanted: bytes) -> bytes:
    return payload[: question.end] + wanted + payload[question.end + 2 :]


def _turned(message: bytes) -> bytes:
    """The message with another identifier: two questions with the same look like one that is repeated."""
    return b"%c%c%b" % (message[0] ^ 0xFF, message[1] ^ 0xFF, message[2:])


def _reversed(name: bytes) -> bytes | None:
    """The IPv4 address of a name such as 5.0.18.198.in-addr.arpa."""
    labels: list[bytes] = []
    at = 0
    while at < len(name):
        labels.append(name[at + 1 : at + 1 + name[at]].lower())
        at += 1 + name[at]
    if len(labels) != 7 or tuple(labels[4:]) != _SUFFIX or not all(label.isdigit() for label in labels[:4]):
        return None
    numbers = [int(label) for label in labels[3::-1]]
    return bytes(numbers) if max(numbers) < 256 else None


def _parsed(payload: bytes) -> dns.message.Message:
    """The message, which has one question. Raises `Discard`."""
    if _is_laborious(payload):
        raise Discard(Reason.MALFORMED, "an answer of DNS: more names than any has")
    try:
        return dns.message.from_wire(payload)
    except (dns.exception.DNSException, ValueError) as error:
        raise Discard(Reason.MALFORMED, f"an answer of DNS: {type(error).__name__}") from error


def _is_laborious(payload: bytes) -> bool:
    """Whether the records are more than `LABOUR`; who sends them may want the packets of a call to wait."""
    labour, size = 0, len(payload)
    _, at = _labels(payload, _HEADER)
    at += 4
    for _ in range(sum(int.from_bytes(payload[count : count + 2]) for count in (6, 8, 10))):
        owner, at = _labels(payload, at)
        kind = payload[at : at + 2]
        inside = 0 if kind in (_A, _AAAA) else _labels(payload, at + 10)[0] if kind in _NAMED else 16
        labour += 10 + owner**2 + inside**2
        at += 10 + int.from_bytes(payload[at + 8 : at + 10])
        if at > size or labour > LABOUR:
            break
    return labour > LABOUR


def _labels(payload: bytes, at: int) -> tuple[int, int]:
    """How many labels (and pointers) the name has that begins at ``at``, and where it ends; as far as it is one."""
    count, end = 0, 0
    while at < len(payload) and payload[at] and count < _MOST_LABELS:
        count += 1
        if payload[at] < 64:
            at += payload[at] + 1
            continue
        end = end or at + 2
        at = int.from_bytes(payload[at : at + 2]) & 0x3FFF
    return count, end or at + 1


def _wire(message: dns.message.Message) -> bytes:
    try:
        return message.to_wire(max_size=0xFFFF)
    except (dns.exception.DNSException, ValueError) as error:
        raise Discard(Reason.MALFORMED, f"an answer of DNS: {type(error).__name__}") from error
