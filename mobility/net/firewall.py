"""Chains of the kernel's firewall that drop what no rule lets through (nfnetlink, <linux/netfilter/nf_tables.h>).

Asked of the kernel itself and not of `nft`, which need not be there. Rules of the older iptables-legacy are not in it.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from mobility.net import rtnetlink
from mobility.net.netlink import LARGEST_ANSWER

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN = 10, 4, 3
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY, NFTA_HOOK_HOOKNUM = 1, 3, 4, 5, 1
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_GENERIC = Struct("!BBH")
"``struct nfgenmsg``: family, version, resource."
_DROP = 0


class Hook(IntEnum):
    """Where packets come by."""

    INPUT = 1
    FORWARD = 2


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain with the policy to drop."""

    family: str
    table: str
    name: str
    hook: int

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def dropping_chains() -> list[Chain]:
    """Those of IPv4 and IPv6. Raises OSError: no CAP_NET_ADMIN; a kernel without nf_tables has none."""
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN
    found: list[Chain] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as asking:
            asking.settimeout(2.0)
            asking.bind((0, 0))
            asking.send(rtnetlink.request(kind, rtnetlink.NLM_F_DUMP, 1, _GENERIC.pack(0, 0, 0)))
            while True:
                for message in rtnetlink.messages(asking.recv(LARGEST_ANSWER)):
                    if message.kind == rtnetlink.NLMSG_DONE:
                        return found
                    if message.kind == rtnetlink.NLMSG_ERROR:
                        failure = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
                        raise OSError(failure, os.strerror(failure))
                    chain = _chain(message)
                    if chain is not None:
                        found.append(chain)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):  # no nfnetlink, no nf_tables
            return []
        raise


def _chain(message: rtnetlink.Message) -> Chain | None:
    if message.kind != NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN or len(message.body) < _GENERIC.size:
        return None
    family = _FAMILIES.get(message.body[0])
    found = rtnetlink.attributes(message.body, _GENERIC.size)
    if family is None or found.get(NFTA_CHAIN_POLICY) != _DROP.to_bytes(4):
        return None
    hook = rtnetlink.attributes(found.get(NFTA_CHAIN_HOOK, b""), 0).get(NFTA_HOOK_HOOKNUM, b"")
    table, name = (found.get(key, b"").rstrip(b"\0").decode(errors="replace") for key in (1, 3))
    return Chain(family, table, name, int.from_bytes(hook))
