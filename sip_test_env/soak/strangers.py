"""Packets of somebody without keys, as unpleasant as he can make them without seeing anybody else's."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv6Address
from random import Random

from mobility.mipv6.signalling import UNPROTECTED, from_terminal, to_terminal
from mobility.wire import ip6, mh
from sip_test_env import namespace
from sip_test_env.plan import Plan

_SPIS = (0x1001, 0x1002, 0x2001, 0x2002, 0x3001, 0x3002, 0xDEADBEEF)
"Those that are in use (see `sip_test_env.mobility_nodes`), and another."


def packets(plan: Plan, care_of: IPv6Address, dice: Random) -> list[bytes]:
    """For home agent, correspondent and terminal (``care_of``)."""
    home, agent, cn, here = plan.home_address, plan.home_agent, plan.cn, plan.proxy
    flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
    number = dice.getrandbits(16)
    found = [
        from_terminal(mh.BindingUpdate(number, flags, 400), home, here, agent, UNPROTECTED),
        from_terminal(mh.BindingUpdate(number, flags, 0), home, here, agent, UNPROTECTED),
        from_terminal(mh.BindingUpdate(number, mh.UpdateFlag.ACKNOWLEDGE, 400), home, here, cn, UNPROTECTED),
        to_terminal(mh.BindingAcknowledgement(0, number, 400), agent, home, care_of, UNPROTECTED),
        ip6.packet(here, care_of, ip6.MOBILITY, mh.payload(mh.BindingError(1, home), here, care_of)),
        ip6.packet(here, agent, ip6.IPV6, ip6.packet(home, cn, ip6.UDP, dice.randbytes(64))),
    ]
    for to in (agent, cn, care_of):
        for spi in _SPIS:
            esp = spi.to_bytes(4) + dice.getrandbits(32).to_bytes(4) + dice.randbytes(dice.randrange(24, 200, 4))
            found.append(ip6.packet(here, to, ip6.ESP, esp))
        found.append(ip6.packet(here, to, dice.randrange(256), dice.randbytes(dice.randrange(1, 100))))
    for packet in list(found):
        changed = bytearray(packet)
        changed[dice.randrange(40, len(changed))] ^= 1 << dice.randrange(8)
        found.append(bytes(changed))
    return found


def send(plan: Plan, care_of: IPv6Address, seed: int) -> int:
    """Sends them once from the proxy's machine; how many."""
    made = packets(plan, care_of, Random(seed))

    def run() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for packet in made:
                with suppress(OSError):  # what the kernel itself refuses to send
                    raw.sendto(packet, (str(IPv6Address(packet[24:40])), 0))

    namespace.run_in(plan.namespace("proxy"), run)
    return len(made)
