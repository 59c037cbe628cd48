"""Datagrams of the mobile tunnel, as our nodes make them, and Linux's ESP in UDP (RFC 3948), over IPv4 and IPv6.

Data only: the kernel takes all datagrams of the port for ESP, so it cannot be the other end of the signalling, which
RFC 5555 sends to the same port.
"""

from __future__ import annotations

import select
import sys
import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.association import Mode
from mobility.links import MOBILITY_PORT
from mobility.mipv6.tunnel import TunnelForm, from_datagram, seal, terminal_policies
from mobility.wire import icmp6
from tests.interop.kernel.network import IN, INSIDE, OUT, ROOT
from tests.interop.kernel.peer import Kernel, echo_request, policy, state, template
from tests.mobility.whole import HA, MN, keys_of, mobile_pair

pytestmark = pytest.mark.interop

MAC = "02:00:00:00:00:77"
ENDS = [
    (IPv4Address("192.0.2.7"), IPv4Address("192.0.2.1")),
    (IPv6Address("2001:db8:d::7"), IPv6Address("2001:db8:d::1")),
]
ALGORITHM = Algorithm.AES_GCM_16


@pytest.mark.parametrize("ends", ENDS, ids=["ipv4", "ipv6"])
def test_there_and_back(kernel: Kernel, ends: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]) -> None:
    ours, theirs = ends
    any_address = "0.0.0.0" if ours.version == 4 else "::"
    more = f"flag af-unspec encap espinudp {MOBILITY_PORT} {MOBILITY_PORT} {any_address}"
    kernel.ip(
        f"addr add {INSIDE}/128 dev lo nodad",
        f"addr add {theirs}/{24 if ours.version == 4 else 64} dev {kernel.interface}",
        f"neigh replace {ours} lladdr {MAC} dev {kernel.interface} nud permanent",
        f"route add {MN}/128 dev {kernel.interface}",
        state(ours, theirs, OUT, ALGORITHM, keys_of(OUT), Mode.TUNNEL, more),
        state(theirs, ours, IN, ALGORITHM, keys_of(IN), Mode.TUNNEL, more),
        policy("in", f"{MN}/128", "::/0", [template(ours, theirs, OUT, mode=Mode.TUNNEL)]),
        policy("out", "::/0", f"{MN}/128", [template(theirs, ours, IN, mode=Mode.TUNNEL)]),
        family="",
    )
    files = f"/run/{kernel.namespace}-encap"
    command = f"{sys.executable} -m tests.interop.kernel.daemon esp-in-udp {MOBILITY_PORT}"
    kernel.run(
        f"cd {ROOT}; {command} >{files} 2>&1 & echo $! >{files}.pid; until grep open {files}; do sleep 0.05; done"
    )
    try:
        security = terminal_policies(MN, HA, TunnelForm.ESP, mobile_pair(TunnelForm.ESP).terminal)
        _, payload = seal(echo_request(MN, INSIDE, 5), MN.packed + HA.packed, TunnelForm.ESP, security)
        outer = (IP if ours.version == 4 else IPv6)(src=str(ours), dst=str(theirs))
        datagram = UDP(sport=MOBILITY_PORT, dport=MOBILITY_PORT) / Raw(payload)
        kernel.frames.send(bytes(Ether(src=MAC, dst=kernel.mac.hex(":")) / outer / datagram))
        answer = _answer(kernel)
        assert answer is not None, kernel.refusals()
        remade = answer.copy()  # with a checksum of scapy's own
        if ours.version == 6:
            del remade[UDP].chksum
            assert Ether(bytes(remade))[UDP].chksum == answer[UDP].chksum
        inner = from_datagram(bytes(answer[UDP].payload), HA.packed + MN.packed, TunnelForm.ESP, security)
        assert icmp6.Echo.parse(inner[40:]).sequence == 5
        assert (inner[8:24], inner[24:40]) == (INSIDE.packed, MN.packed)
        assert kernel.refusals() == {}
    finally:
        kernel.guest.run(f"kill $(cat {files}.pid)")


def _answer(kernel: Kernel) -> Ether | None:
    """The next datagram."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if select.select([kernel.frames], [], [], 0.1)[0]:
            frame = Ether(kernel.frames.recv(65_536))
            if UDP in frame and ARP not in frame:
                return frame
    return None
