"""Microseconds of the two IPsec layers, run by hand: ``python -m bench.ipsec``. Prints medians."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from statistics import median
from time import perf_counter

from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import IpsecProcessing, encapsulate
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.wire import ip6

HOME, AGENT, CARE_OF, PEER = (IPv6Address(f"2001:db8:{n}::1") for n in range(1, 5))
ROUNDS = 41
PACKETS = 500


def _keys(algorithm: Algorithm) -> Keys:
    return Keys(os.urandom(algorithm.key_lengths[0]), os.urandom(algorithm.authentication_key_length))


def _part(keys: Keys, algorithm: Algorithm, mode: Mode, local: IPv6Address, remote: IPv6Address) -> IpsecProcessing:
    out = OutboundSA(0x1000, algorithm, keys, mode, random=os.urandom, fresh_keys=True)
    inbound = InboundSA(0x1000, algorithm, keys, mode)
    selector = Selector(IPv6Network(local), IPv6Network(remote))
    return IpsecProcessing(SecurityPolicyDatabase([Policy(selector, Action.PROTECT, out, inbound)], Action.DISCARD))


def measure(algorithm: Algorithm) -> dict[str, float]:
    """Medians in microseconds for a 200-octet packet through both layers, out of one node and into another."""
    keys, tunnel_keys = _keys(algorithm), _keys(algorithm)
    sender = _part(keys, algorithm, Mode.TRANSPORT, HOME, PEER)
    receiver = _part(keys, algorithm, Mode.TRANSPORT, PEER, HOME)
    tunnel_in = _part(tunnel_keys, algorithm, Mode.TUNNEL, PEER, HOME)
    tunnel_out = _part(tunnel_keys, algorithm, Mode.TUNNEL, HOME, PEER)
    source, destination = CARE_OF.packed, AGENT.packed
    packet = ip6.packet(HOME, PEER, ip6.UDP, bytes((0x13, 0x88, 0x13, 0x88)) + bytes(156))

    def out(packet: bytes) -> bytes:
        inner = sender.protect(packet)
        sa = tunnel_out.tunnel_for(inner)
        return inner if sa is None else encapsulate(inner, sa, source, destination)

    def into(packet: bytes) -> bytes:
        return receiver.accept(tunnel_in.decapsulate(packet))

    def per_packet(function: Callable[[bytes], bytes], packets: list[bytes]) -> float:
        begin = perf_counter()
        for one in packets:
            function(one)
        return (perf_counter() - begin) / len(packets) * 1e6

    if into(out(packet)) != packet:
        raise RuntimeError("the packet did not come through")
    times: dict[str, list[float]] = {"out, both layers": [], "in, both layers": [], "seal": [], "open": []}
    sa = OutboundSA(0x2000, algorithm, keys, Mode.TUNNEL, random=os.urandom, fresh_keys=True)
    opener = InboundSA(0x2000, algorithm, keys, Mode.TUNNEL)
    for _ in range(ROUNDS):
        times["out, both layers"].append(per_packet(out, [packet] * PACKETS))
        times["in, both layers"].append(per_packet(into, [out(packet) for _ in range(PACKETS)]))
        times["seal"].append(per_packet(lambda p: sa.seal(41, p), [packet] * PACKETS))
        sealed = [sa.seal(41, packet) for _ in range(PACKETS)]
        times["open"].append(per_packet(lambda p: opener.open(p)[1], sealed))
        # The numbers sealed for "seal" alone were never opened: the window has jumped over them.
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    for algorithm in Algorithm:
        figures = ", ".join(f"{name} {value:.2f} us" for name, value in measure(algorithm).items())
        sys.stdout.write(f"{algorithm.value:28} {figures}\n")


if __name__ == "__main__":
    main()
