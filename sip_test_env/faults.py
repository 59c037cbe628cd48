"""What access networks do to their guests: captive portals, blocked UDP, NATs that forget."""

from __future__ import annotations

import socket
import struct
from enum import StrEnum

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.links import nft
from sip_test_env.plan import Plan

_NETLINK_NETFILTER = 12
_CTNETLINK_DELETE = (1 << 8) | 2
"Subsystem and message of <linux/netfilter/nfnetlink.h>."
_REQUEST_ACK = 1 | 4
_HEADER = struct.Struct("=IHHII")


class Access(StrEnum):
    """What the router of a link forwards. It is found, and answers, in any case."""

    OPEN = "open"
    NO_UDP = "no-udp"
    CAPTIVE = "captive"
    "Nothing, until somebody logs in at a portal."


_RULES = {
    Access.OPEN: "",
    Access.NO_UDP: "meta l4proto udp drop",
    Access.CAPTIVE: "drop",
}


def set_access(plan: Plan, name: str, access: Access) -> None:
    """From now on, for running flows too. ValueError: there is no such link."""
    router = plan.link(name).router
    rules = f"""\
table inet access
delete table inet access
table inet access {{
  chain forward {{
    type filter hook forward priority filter
    {_RULES[access]}
  }}
}}
"""
    namespace.run_in(plan.namespace(router), lambda: nft(rules))


def nat_rebind(plan: Plan) -> None:
    """The NAT of the hotspot forgets its mappings, as after a restart: flows get other ports, and what comes for the
    old ones is dropped.
    """

    def run() -> bytes:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(2)
            body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)  # no attributes: all entries of the table
            netlink.send(_HEADER.pack(_HEADER.size + len(body), _CTNETLINK_DELETE, _REQUEST_ACK, 1, 0) + body)
            return netlink.recv(4096)

    answer = namespace.run_in(plan.namespace(plan.hotspot.router), run)
    (number,) = struct.unpack_from("=i", answer, _HEADER.size)
    if number:
        raise EnvironmentFailure(f"the kernel does not flush its table of connections: error {-number}")
