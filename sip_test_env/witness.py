"""What protected a call: what the nodes say that they negotiated, and what a foreign program saw on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from mobility.client import ControlClient
from sip_test_env.capture import Capture, dissect
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork

_ESP, _IKE = "50", "500"


@dataclass(frozen=True, slots=True)
class Seen:
    """Packets between terminal and correspondent on the correspondent's wire, where no tunnel is around them."""

    esp: int
    ike: int
    clear: int

    def complaints(self, received: int) -> list[str]:
        """What did not hold, in words; ``received``: packets of audio that arrived."""
        found = []
        if self.clear:
            found.append(f"{self.clear} packets between terminal and correspondent were in clear")
        if self.esp < received:
            found.append(f"{received} packets of audio arrived, but only {self.esp} passed under ESP")
        return found

    def as_text(self) -> str:
        return (
            f"On the correspondent's wire, between the two: {self.esp} packets under ESP, {self.ike} of IKE, "
            f"{self.clear or 'none'} in clear"
        )


class Witness:
    """dumpcap at the correspondent's wire, as a context manager; what it saw is read by tshark, without any key."""

    def __init__(self, network: TestNetwork) -> None:
        self._network = network
        self._path = network.directory / "witness.pcapng"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(Capture(self._network.plan.namespace("core"), "to-cn", self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def seen(self) -> Seen:
        """Ends the capture. Raises RuntimeError."""
        self._stack.close()
        plan = self._network.plan
        return count(
            dissect(self._path, None, ["ipv6.src", "ipv6.dst", "ipv6.nxt", "udp.dstport"]),
            {str(plan.home_address), str(plan.cn)},
        )


def count(rows: Iterable[list[str]], ends: set[str]) -> Seen:
    """``rows``: source, destination, next header, port; outermost header first, as `dissect` gives them."""
    found = {"esp": 0, "ike": 0, "clear": 0}
    for source, destination, following, port in rows:
        if {_first(source), _first(destination)} == ends:
            kind = "esp" if _first(following) == _ESP else "ike" if _first(port) == _IKE else "clear"
            found[kind] += 1
    return Seen(**found)


def _first(joined: str) -> str:
    return joined.split(",", 1)[0]


async def negotiated(nodes: MobilityNodes) -> list[str]:
    """In the middle of a call: who has keys with whom that were negotiated, as the terminal tells it, in words."""
    async with ControlClient(nodes.runtime("mn") / "control.sock") as client:
        status: dict[str, Any] = await client.status()
    node = status["node"]
    plan = nodes.network.plan
    names = {str(plan.home_agent): "home agent", str(plan.cn): "correspondent"}
    calls = {row["peer"]: row for row in node["application_keys"]}
    return [_agreed(row, names, calls) for row in node["ike"] if row["state"] == "established"]


def _agreed(row: Mapping[str, Any], names: Mapping[str, str], calls: Mapping[str, Any]) -> str:
    peer = str(row["peer"])
    how = "for the call, by the fingerprints in its SDP" if peer in calls else "by their token"
    children = ", ".join(f"{child['name']} {child['algorithm']} ({child['mode']})" for child in row["children"])
    return f"Keys            terminal and {names.get(peer, peer)}, {how}: {row['suite']}; {children}"
