"""Section ``negotiation``: what keys cost that nobody types (IKEv2), in processor time and in round trips.

``handshakes``: by what is agreed, the first exchanges with their two child SAs at the home agent's end: ``ms`` of its
processor for one (medians), ``per_second`` that one processor does. ``round_trips``: from the first message until the
terminal is bound, in simulated time, the exchange of binding messages (one) included. ``first_packet``: round trips
between terminal and correspondent until the first packet under keys of the application has arrived, of which a half is
its own way: peers of the configuration, and a call that has rung for a second. ``rekeys``: packets of a call of
a minute, 50 a second each way, whose keys are renewed every 10 s and that moves once: ``sent``, ``lost``, ``repeated``,
``renewed``. ``us_rekey``: microseconds of one processor for a new child SA at the end that asks.
"""

from __future__ import annotations

import os
from dataclasses import replace
from statistics import median
from time import process_time

from bench.statistics import measured
from mobility.ipsec.ike.certificates import Trust
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import ChildUp, Output, Send
from mobility.ipsec.ike.proposals import Proposal, ike_offer
from mobility.ipsec.ike.settings import Endpoint, Settings
from mobility.key_source import KeySource
from mobility.mipv6.movement import CareOfAddressChanged
from mobility.mipv6.registration import Bound
from tests.mobility.ipsec.ike.authority import Authority
from tests.mobility.ipsec.ike.world import NOON, SECRET, SIGNALLING, TUNNEL, World, peers
from tests.mobility.protected import away, by_calls, by_token
from tests.mobility.whole import Network

HANDSHAKES = 60
ROUND_TRIP = 0.1
"Seconds, of the simulated path between terminal and home agent."


def measure() -> dict[str, object]:
    plain, hybrid = ike_offer(), ike_offer(hybrid=True)
    return {
        "handshakes": {
            "secret, X25519": _handshakes(plain, certificates=False),
            "secret, X25519 and ML-KEM-768": _handshakes(hybrid, certificates=False),
            "certificates (P-256), X25519 and ML-KEM-768": _handshakes(hybrid, certificates=True),
        },
        "round_trips": _round_trips(),
        "first_packet": {"configured": _first_packet(called=False), "in a call": _first_packet(called=True)},
        "rekeys": _rekeys(),
        **measured("us_rekey", [taken * 1e6 for taken in _rekey_times()], 1),
    }


class _Clocked:
    """An endpoint whose processor time counts."""

    def __init__(self, ike: Ike) -> None:
        self._receive = ike.receive
        self.seconds = 0.0
        ike.receive = self._counted  # type: ignore[method-assign]

    def _counted(self, datagram: bytes, local: Endpoint, remote: Endpoint, now: float) -> list[Output]:
        began = process_time()
        outputs = self._receive(datagram, local, remote, now)
        self.seconds += process_time() - began
        return outputs


def _world(offer: tuple[Proposal, ...], *, certificates: bool, seed: int = 1) -> World:
    known = peers(TUNNEL, SIGNALLING)
    if certificates:
        authority = Authority(at=NOON)
        trust = Trust((authority.certificate,))
        proofs = authority.issue("laptop@example.org"), authority.issue("ha.example.org")
        known = peers(TUNNEL, SIGNALLING, proofs=proofs, beliefs=(trust, trust))
    world = World(seed=seed, settings=Settings(proposals=offer), known=known)
    world.phone.ike.peers["agent"] = replace(known[0], proposals=offer)
    return world


def _handshakes(offer: tuple[Proposal, ...], *, certificates: bool) -> dict[str, object]:
    times = []
    world = _world(offer, certificates=certificates)
    for _ in range(HANDSHAKES):
        world = World(seed=int.from_bytes(os.urandom(4)), settings=world.settings, known=world.known)
        world.phone.ike.peers["agent"] = replace(world.known[0], proposals=offer)
        clocked = _Clocked(world.agent.ike)
        world.begin()
        world.run(1.0)
        if len(world.agent.of(ChildUp)) != 2:
            raise RuntimeError("a handshake did not succeed")
        times.append(clocked.seconds)
    return {**measured("ms", [taken * 1e3 for taken in times], 2), "per_second": round(1 / median(times))}


def _round_trips() -> float:
    network = Network(keys=KeySource(SECRET, SECRET))
    network.core.delay = ROUND_TRIP / 2
    network.start_agent()
    network.plug(network.a)
    network.run(10.0)  # routers on the way know each other now
    network.restart_terminal()
    network.plug(network.a)
    network.run(10.0)
    mn = network.world.stations["mn"]
    began, bound = mn.events_of(CareOfAddressChanged)[0][0], mn.events_of(Bound)[0][0]
    return round((bound - began) / ROUND_TRIP, 1)


def _first_packet(*, called: bool) -> float:
    network = away(by_calls() if called else by_token())
    if called:
        network.offer("mn")
        network.secure("cn", active=True)
        network.run(1.0)
        network.secure("mn")
    network.talk(2.0)
    network.run(3.0)
    if network.in_clear() or network.state("mn") != "protected":
        raise RuntimeError("the correspondent's packets are not protected")
    took = [network.to_cn.received[number] - sent for number, sent in network.to_cn.sent.items()]
    return round(took[0] / (2 * median(took[-20:])), 1)


def _rekeys() -> dict[str, int]:
    network = Network(keys=KeySource(SECRET, SECRET, lifetime=10.0))
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(60.0)
    network.run(30.0)
    network.move(network.b)
    network.run(33.0)
    ways = network.to_mn, network.to_cn
    return {
        "sent": sum(len(way.sent) for way in ways),
        "lost": sum(len(way.lost()) for way in ways),
        "repeated": sum(way.repeated for way in ways),
        "renewed": len(network.world.stations["mn"].events_of(ChildUp)) - 2,
    }


def _rekey_times() -> list[float]:
    world = _world(ike_offer(), certificates=False)
    world.begin()
    world.run(1.0)
    clocked = _Clocked(world.phone.ike)
    times = []
    for _ in range(HANDSHAKES):
        clocked.seconds = 0.0
        began = process_time()
        outputs = world.phone.ike.rekey("agent", world.now, children=True)
        asked = process_time() - began
        if not any(isinstance(each, Send) for each in outputs):
            raise RuntimeError("no rekey was asked for")
        world.carry("phone", outputs)
        world.run(10.0)
        times.append((asked + clocked.seconds) / 2)  # two child SAs
    return times
