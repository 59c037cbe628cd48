"""The SA payload (RFC 7296 section 3.3): what one end offers, and how the other chooses from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Self

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.numbers import Encr, Esn, Group, Integ, PayloadType, Prf, Protocol, TransformType
from mobility.wire.errors import WireError

_PROPOSAL = Struct("!BxHBBBB")
_TRANSFORM = Struct("!BxHBxH")
_ATTRIBUTE = Struct("!HH")
_KEY_LENGTH = 14 | 0x8000
"Key Length attribute, in the short form (RFC 7296 section 3.3.5)."
MOST_PROPOSALS = 32


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm (RFC 7296 section 3.3.2)."""

    kind: int
    number: int
    key_bits: int = 0
    "0: of an algorithm whose keys have one length."
    unknown: bool = False
    "It has an attribute that nobody here knows, so it cannot be chosen."

    def __str__(self) -> str:
        family = _FAMILIES.get(self.kind)
        known = family is not None and self.number in family._value2member_map_
        name = family(self.number).name if family is not None and known else f"{self.kind}:{self.number}"
        return f"{name}_{self.key_bits}" if self.key_bits else name


_FAMILIES: dict[int, type[IntEnum]] = {
    TransformType.ENCR: Encr,
    TransformType.PRF: Prf,
    TransformType.INTEG: Integ,
    TransformType.KE: Group,
    TransformType.ADDITIONAL_KE_1: Group,
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """Algorithms of which one of each type is to be chosen (RFC 7296 section 3.3.1)."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of(self, kind: TransformType) -> tuple[Transform, ...]:
        """The transforms of one type, in the order of preference."""
        return tuple(each for each in self.transforms if each.kind == kind)

    def with_spi(self, spi: bytes, number: int | None = None) -> Proposal:
        return Proposal(self.number if number is None else number, self.protocol, spi, self.transforms)

    def __str__(self) -> str:
        return "/".join(str(each) for each in self.transforms if each.kind != TransformType.ESN)


@dataclass(frozen=True, slots=True)
class SaPayload:
    """RFC 7296 section 3.3."""

    type: ClassVar[int] = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        proposals: list[Proposal] = []
        at = 0
        more = True
        while more:
            if len(body) < at + _PROPOSAL.size or len(proposals) == MOST_PROPOSALS:
                raise WireError("SA", at=at, why="proposal cut off, or too many")
            last, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(body, at)
            end = at + length
            if last not in (0, 2) or end > len(body) or length < _PROPOSAL.size + spi_size:
                raise WireError("SA", at=at, why="wrong length of a proposal")
            spi = body[at + _PROPOSAL.size : at + _PROPOSAL.size + spi_size]
            transforms = _transforms(body, at + _PROPOSAL.size + spi_size, end, count)
            proposals.append(Proposal(number, protocol, spi, transforms))
            at, more = end, last == 2
        if at != len(body):
            raise WireError("SA", at=at, why="octets behind the last proposal")
        return cls(tuple(proposals))

    def body(self) -> bytes:
        out = []
        for index, proposal in enumerate(self.proposals):
            rows = [_written(each, each is proposal.transforms[-1]) for each in proposal.transforms]
            content = proposal.spi + b"".join(rows)
            head = _PROPOSAL.pack(
                0 if index == len(self.proposals) - 1 else 2,
                _PROPOSAL.size + len(content),
                proposal.number,
                proposal.protocol,
                len(proposal.spi),
                len(proposal.transforms),
            )
            out.append(head + content)
        return b"".join(out)


def _transforms(body: bytes, at: int, end: int, count: int) -> tuple[Transform, ...]:
    out: list[Transform] = []
    while at < end:
        if at + _TRANSFORM.size > end:
            raise WireError("SA", at=at, why="transform cut off")
        last, length, kind, number = _TRANSFORM.unpack_from(body, at)
        if length < _TRANSFORM.size or at + length > end or (last == 0) != (at + length == end) or last not in (0, 3):
            raise WireError("SA", at=at, why="wrong length of a transform")
        key_bits, unknown, where = 0, False, at + _TRANSFORM.size
        while where < at + length:
            if where + 4 > at + length:
                raise WireError("SA", at=where, why="attribute cut off")
            attribute, value = _ATTRIBUTE.unpack_from(body, where)
            if attribute == _KEY_LENGTH:
                key_bits = value
            else:
                unknown = True
            where += 4 if attribute & 0x8000 else 4 + value
        if where != at + length:
            raise WireError("SA", at=where, why="attribute cut off")
        out.append(Transform(kind, number, key_bits, unknown))
        at += length
    if len(out) != count:
        raise WireError("SA", at=end, why=f"{len(out)} transforms, announced were {count}")
    return tuple(out)


def _written(transform: Transform, last: bool) -> bytes:
    attribute = _ATTRIBUTE.pack(_KEY_LENGTH, transform.key_bits) if transform.key_bits else b""
    if transform.unknown:  # its content means nothing to us, but another octet string must not come out of it
        attribute += _ATTRIBUTE.pack(0xFFFF, 0)
    return (
        _TRANSFORM.pack(0 if last else 3, _TRANSFORM.size + len(attribute), transform.kind, transform.number)
        + attribute
    )


# ---------------------------------------------------------------- offers

_AES = (256, 128)
_AEAD = (Transform(TransformType.ENCR, Encr.AES_GCM_16, 256), Transform(TransformType.ENCR, Encr.CHACHA20_POLY1305))
_AEAD_128 = Transform(TransformType.ENCR, Encr.AES_GCM_16, 128)
_CBC = tuple(Transform(TransformType.ENCR, Encr.AES_CBC, bits) for bits in _AES)
_SHA2 = Transform(TransformType.INTEG, Integ.HMAC_SHA2_256_128)
_PRFS = tuple(Transform(TransformType.PRF, each) for each in (Prf.HMAC_SHA2_256, Prf.HMAC_SHA2_384, Prf.HMAC_SHA2_512))
GROUPS = (Group.X25519, Group.P256, Group.MODP2048)
"In the order of preference."


def ike_offer(
    groups: Iterable[Group] = GROUPS,
    *,
    hybrid: bool = False,
    hybrid_only: bool = False,
    aead: bool = True,
    cbc: bool = True,
) -> tuple[Proposal, ...]:
    """Proposals for an IKE SA, the preferred ones first.

    ``hybrid``: with ML-KEM-768 in addition to one of the groups (RFC 9370), and without it unless ``hybrid_only``.
    """
    exchange = tuple(Transform(TransformType.KE, group) for group in groups)
    suites = [(*_AEAD, _AEAD_128, *_PRFS)] if aead else []
    suites += [(*_CBC, _SHA2, *_PRFS)] if cbc else []
    additional = Transform(TransformType.ADDITIONAL_KE_1, Group.ML_KEM_768)
    rows = [(*suite, *exchange, additional) for suite in suites] if hybrid or hybrid_only else []
    rows += [] if hybrid_only else [(*suite, *exchange) for suite in suites]
    return tuple(Proposal(number, Protocol.IKE, b"", row) for number, row in enumerate(rows, 1))


ESP_ALGORITHMS = (Algorithm.AES_GCM_16, Algorithm.CHACHA20_POLY1305, Algorithm.AES_CBC_HMAC_SHA2_256_128)
"In the order of preference."


def esp_offer(algorithms: Iterable[Algorithm] = ESP_ALGORITHMS, groups: Iterable[Group] = ()) -> tuple[Proposal, ...]:
    """Proposals for ESP. ``groups``: perfect forward secrecy, one of these key exchanges with every rekey."""
    exchange = tuple(Transform(TransformType.KE, group) for group in groups)
    esn = Transform(TransformType.ESN, Esn.NO)
    aead = [each for algorithm in algorithms if algorithm.aead for each in _ESP_TRANSFORMS[algorithm]]
    rows = [tuple(aead)] if aead else []
    rows += [_ESP_TRANSFORMS[algorithm] for algorithm in algorithms if not algorithm.aead]
    return tuple(Proposal(number, Protocol.ESP, b"", (*row, *exchange, esn)) for number, row in enumerate(rows, 1))


_ESP_TRANSFORMS: dict[Algorithm, tuple[Transform, ...]] = {
    Algorithm.AES_GCM_16: (_AEAD[0], _AEAD_128),
    Algorithm.CHACHA20_POLY1305: (_AEAD[1],),
    Algorithm.AES_CBC_HMAC_SHA2_256_128: (*_CBC, _SHA2),
    Algorithm.NULL_HMAC_SHA2_256_128: (Transform(TransformType.ENCR, Encr.NULL), _SHA2),
}


def without_groups(proposals: Iterable[Proposal]) -> tuple[Proposal, ...]:
    """For IKE_AUTH, whose child SA comes from the exchange before it (RFC 7296 section 1.2)."""
    return tuple(
        Proposal(each.number, each.protocol, each.spi, tuple(t for t in each.transforms if t.kind != TransformType.KE))
        for each in proposals
    )


# ---------------------------------------------------------------- choices


@dataclass(frozen=True, slots=True)
class Suite:
    """What was agreed for an IKE SA."""

    encr: Encr
    key_bits: int
    prf: Prf
    integ: Integ
    group: Group
    additional: Group = Group.NONE

    @property
    def aead(self) -> bool:
        return self.integ is Integ.NONE

    def describe(self) -> str:
        """For people, for example ``AES_GCM_16-256/HMAC_SHA2_256/X25519``."""
        words = [f"{self.encr.name}-{self.key_bits}" if self.key_bits else self.encr.name]
        words += [] if self.aead else [self.integ.name]
        words += [self.prf.name, self.group.name]
        words += [self.additional.name] if self.additional is not Group.NONE else []
        return "/".join(words)


def choose(offered: Iterable[Proposal], ours: Iterable[Proposal], prefer: int | None = None) -> Proposal | None:
    """The first offered proposal that one of ours can meet, with one transform of each type; None: none.

    The initiator's order of proposals decides, ours among the transforms of one; ``prefer``: the group that the
    initiator has sent a KE payload of is taken if it is allowed, which saves a round trip.
    """
    mine = tuple(ours)
    for theirs in offered:
        for own in mine:
            chosen = _met(theirs, own, prefer)
            if chosen is not None:
                return Proposal(theirs.number, theirs.protocol, theirs.spi, chosen)
    return None


def _met(theirs: Proposal, own: Proposal, prefer: int | None) -> tuple[Transform, ...] | None:
    if theirs.protocol != own.protocol or len(theirs.spi) not in (0, Protocol(own.protocol).spi_size):
        return None
    chosen: list[Transform] = []
    kinds = {each.kind for each in theirs.transforms}
    allowed = {each.kind for each in own.transforms}
    for kind in sorted(kinds | allowed):
        here = [each for each in theirs.transforms if each.kind == kind and not each.unknown]
        mine = [each for each in own.transforms if each.kind == kind]
        if kind == TransformType.INTEG and not mine and any(each.number == Integ.NONE for each in here):
            continue
        if kind in (TransformType.KE, TransformType.ADDITIONAL_KE_1) and not mine:
            if any(each.number == Group.NONE for each in here):
                continue
        common = [each for each in mine if each in here]
        if not common:
            return None
        wanted = [each for each in common if kind == TransformType.KE and each.number == prefer]
        chosen.append((wanted or common)[0])
    return tuple(chosen)


def suite_of(chosen: Proposal) -> Suite:
    """What a chosen proposal for an IKE SA means. Raises `ValueError`: it is not one that was chosen here."""
    picked = {each.kind: each for each in chosen.transforms}
    if len(picked) != len(chosen.transforms) or not {TransformType.ENCR, TransformType.PRF, TransformType.KE} <= set(
        picked
    ):
        raise ValueError(f"{chosen} is no choice of one algorithm of each type")
    integ, more = picked.get(TransformType.INTEG), picked.get(TransformType.ADDITIONAL_KE_1)
    return Suite(
        Encr(picked[TransformType.ENCR].number),
        picked[TransformType.ENCR].key_bits,
        Prf(picked[TransformType.PRF].number),
        Integ.NONE if integ is None else Integ(integ.number),
        Group(picked[TransformType.KE].number),
        Group.NONE if more is None else Group(more.number),
    )


def answer_to(offer: Iterable[Proposal], answered: SaPayload) -> Proposal | None:
    """What the responder has chosen from our offer; None: something that was not offered, or not one proposal."""
    if len(answered.proposals) != 1:
        return None
    (chosen,) = answered.proposals
    kinds = [each.kind for each in chosen.transforms]
    if len(set(kinds)) != len(kinds):
        return None
    for proposal in offer:
        if proposal.number == chosen.number and proposal.protocol == chosen.protocol:
            return chosen if choose((chosen,), (proposal,)) is not None else None
    return None


def esp_algorithm(chosen: Proposal) -> tuple[Algorithm, int]:
    """The algorithm of a chosen proposal for ESP and the octets of its encryption key, salt included.

    Raises `ValueError`: none that was offered here.
    """
    encr = next((each for each in chosen.transforms if each.kind == TransformType.ENCR), None)
    integ = next((each for each in chosen.transforms if each.kind == TransformType.INTEG), None)
    for algorithm, transforms in _ESP_TRANSFORMS.items():
        if encr in transforms and (integ is None or integ in transforms) and (integ is None) == algorithm.aead:
            salt = 4 if algorithm.aead else 0
            bits = 256 if algorithm is Algorithm.CHACHA20_POLY1305 else encr.key_bits if encr is not None else 0
            return algorithm, bits // 8 + salt
    raise ValueError(f"{chosen} is no algorithm of ESP that is known here")


def group_of(chosen: Proposal) -> Group:
    """The key exchange of a chosen proposal, or NONE."""
    exchange = chosen.of(TransformType.KE)
    return Group(exchange[0].number) if exchange else Group.NONE


def describe(proposals: Iterable[Proposal]) -> str:
    """All of them, for people."""
    return " | ".join(str(each) for each in proposals) or "nothing"
