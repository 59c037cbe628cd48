"""All targets by name, and inputs to begin with."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import application, formats, gateways, keys, negotiated, nodes, texts
from tests.softphone.media import fuzzing as media
from tests.softphone.sip import fuzzing

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "ip6": formats.walk,
    "icmp6": formats.icmp,
    "ndisc": formats.neighbour_discovery,
    "mld": formats.multicast_report,
    "mh": formats.mobility_header,
    "mobile-icmp": formats.discovery,
    "ip4": formats.ipv4,
    "udp": formats.datagram,
    "tcp": formats.segment,
    "ike-payloads": keys.message,
    "ike-endpoint": keys.endpoint,
    "ike-peer": keys.peer,
    "ike-nodes": negotiated.nodes,
    "ike-domain": negotiated.domain,
    "application-nodes": application.nodes,
    "application-stranger": application.stranger,
    **nodes.TARGETS,
    "translation": gateways.gateways,
    "configuration": texts.configuration,
    "control": texts.control,
    **fuzzing.TARGETS,
    **media.TARGETS,
}


def fresh(name: str, data: bytes) -> None:
    """Runs a target on one input, without what earlier inputs left behind."""
    nodes.forget()
    TARGETS[name](data)
