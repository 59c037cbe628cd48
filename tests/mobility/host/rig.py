"""A host alone on a link, in simulated time, and the packets that others send to it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from random import Random
from typing import TypeVar

from mobility.discards import Reason
from mobility.host import AddressReady, Host
from mobility.outputs import Arrived, Discarded, Event, Output, Transmit
from mobility.wire import icmp6, ip6, ndisc

OWN_MAC = bytes.fromhex("020000000001")
ROUTER = IPv6Address("fe80::1")
ROUTER_MAC = bytes.fromhex("0200000000aa")
OTHER_ROUTER = IPv6Address("fe80::2")
OTHER_MAC = bytes.fromhex("0200000000bb")
STRANGER = IPv6Address("fe80::bad")
STRANGER_MAC = bytes.fromhex("0200000000ee")
FAR = IPv6Address("2001:db8:ffff::1")
PREFIX = IPv6Address("2001:db8:a::")
OTHER_PREFIX = IPv6Address("2001:db8:b::")

_Event = TypeVar("_Event", bound=Event)


class Rig:
    """One host; `now` moves by `run`; all outputs are kept in `seen`, those of the latest step in `latest`."""

    def __init__(
        self,
        *,
        up: bool = True,
        router: bool = False,
        duplicate_detection: bool = True,
        secret: bytes = b"rig",
        interface_identifier: bytes | None = None,
    ) -> None:
        self.host = Host(
            "wlan0",
            OWN_MAC,
            1500,
            Random(1).randbytes,
            router=router,
            duplicate_detection=duplicate_detection,
            interface_identifier=interface_identifier,
            secret=secret,
        )
        self.now = 0.0
        self.seen: list[Output] = []
        self.latest: list[Output] = []
        if up:
            self.link(True)

    # ---------------------------------------------------------------- steps

    def note(self, outputs: list[Output]) -> list[Output]:
        self.latest = outputs
        self.seen += outputs
        return outputs

    def link(self, up: bool) -> list[Output]:
        return self.note(self.host.link_changed(up, self.now))

    def receive(self, packet: bytes, sender: bytes = ROUTER_MAC) -> list[Output]:
        return self.note(self.host.receive(packet, sender, self.now))

    def send(self, packet: bytes) -> list[Output]:
        return self.note(self.host.send(packet, self.now))

    def run(self, seconds: float) -> list[Output]:
        """Time passes; every alarm rings when it should."""
        end = self.now + seconds
        outputs: list[Output] = []
        while (timer := self.host.timer) is not None and timer <= end:
            self.now = max(self.now, timer)
            outputs += self.host.handle_timer(self.now)
        self.now = end
        return self.note(outputs)

    # ---------------------------------------------------------------- what others send

    def advertise(
        self,
        prefix: IPv6Address | None = PREFIX,
        *,
        router: IPv6Address = ROUTER,
        mac: bytes = ROUTER_MAC,
        lifetime: int = 1800,
        valid: int = 86400,
        preferred: int = 14400,
        on_link: bool = True,
        autonomous: bool = True,
        tell_mac: bool = True,
        options: Sequence[ndisc.Option] = (),
        preference: ndisc.Preference = ndisc.Preference.MEDIUM,
        hop_limit: int = 64,
    ) -> list[Output]:
        """A router advertisement."""
        everything = list(options)
        if tell_mac:
            everything.append(ndisc.SourceLinkAddress(mac))
        if prefix is not None:
            everything.append(ndisc.PrefixInformation(prefix, 64, valid, preferred, on_link, autonomous))
        message = ndisc.RouterAdvertisement(lifetime, hop_limit, preference=preference, options=tuple(everything))
        return self.receive(ndisc.packet(router, ndisc.ALL_NODES, message), mac)

    def neighbour_advertises(
        self,
        target: IPv6Address,
        mac: bytes | None,
        *,
        solicited: bool = True,
        override: bool = True,
        router: bool = False,
        sender: bytes | None = None,
    ) -> list[Output]:
        options = () if mac is None else (ndisc.TargetLinkAddress(mac),)
        message = ndisc.NeighborAdvertisement(target, router, solicited, override, options)
        destination = self.link_local if solicited else ndisc.ALL_NODES
        return self.receive(ndisc.packet(target, destination, message), sender or mac or ROUTER_MAC)

    def neighbour_asks(
        self,
        target: IPv6Address,
        source: IPv6Address = STRANGER,
        mac: bytes = STRANGER_MAC,
        *,
        unicast: bool = False,
        nonce: bytes | None = None,
    ) -> list[Output]:
        """A neighbour solicitation; from the unspecified address: duplicate address detection."""
        options: list[ndisc.Option] = []
        if not source.is_unspecified:
            options.append(ndisc.SourceLinkAddress(mac))
        if nonce is not None:
            options.append(ndisc.Nonce(nonce))
        message = ndisc.NeighborSolicitation(target, tuple(options))
        destination = target if unicast else ndisc.solicited_node(target)
        return self.receive(ndisc.packet(source, destination, message), mac)

    # ---------------------------------------------------------------- what came out

    def events(self, kind: type[_Event]) -> list[_Event]:
        """Events of the latest step."""
        return [output for output in self.latest if isinstance(output, kind)]

    def all_events(self, kind: type[_Event]) -> list[_Event]:
        return [output for output in self.seen if isinstance(output, kind)]

    @property
    def reasons(self) -> list[Reason]:
        """Discards of the latest step."""
        return [output.reason for output in self.latest if isinstance(output, Discarded)]

    @property
    def arrived(self) -> list[bytes]:
        return [output.packet for output in self.latest if isinstance(output, Arrived)]

    @property
    def transmitted(self) -> list[Transmit]:
        return [output for output in self.latest if isinstance(output, Transmit)]

    def discovery(self, kind: type[ndisc.Message] | None = None) -> list[tuple[ndisc.Message, Transmit]]:
        """Neighbour discovery messages of the latest step."""
        found: list[tuple[ndisc.Message, Transmit]] = []
        for output in self.transmitted:
            if output.packet[6] == ip6.ICMPV6 and 133 <= output.packet[40] <= 136:
                message = ndisc.parse(output.packet)
                if kind is None or isinstance(message, kind):
                    found.append((message, output))
        return found

    def solicited_targets(self) -> list[IPv6Address]:
        """Targets of the solicitations of the latest step that are no duplicate address detection."""
        return [
            message.target
            for message, output in self.discovery()
            if isinstance(message, ndisc.NeighborSolicitation) and any(output.packet[8:24])
        ]

    def icmp(self) -> list[object]:
        """ICMPv6 messages of the latest step that are not neighbour discovery."""
        return [
            icmp6.parse(output.packet[40:])
            for output in self.transmitted
            if output.packet[6] == ip6.ICMPV6 and output.packet[40] not in range(133, 138)
        ]

    # ---------------------------------------------------------------- state

    def entries(self, table: str) -> list[dict[str, object]]:
        value = self.host.snapshot(self.now)[table]
        assert isinstance(value, list)
        return value

    @property
    def link_local(self) -> IPv6Address:
        return next(IPv6Address(str(a["address"])) for a in self.entries("addresses") if a["origin"] == "link-local")

    def state_of(self, address: IPv6Address) -> str | None:
        return next((str(a["state"]) for a in self.entries("addresses") if a["address"] == str(address)), None)

    def neighbour(self, address: IPv6Address) -> str | None:
        return next((str(n["state"]) for n in self.entries("neighbours") if n["address"] == str(address)), None)

    def counter(self, name: str) -> int:
        counters = self.host.snapshot(self.now)["counters"]
        assert isinstance(counters, dict)
        return int(counters.get(name, 0))

    @property
    def tables(self) -> dict[str, object]:
        """Everything but the counters."""
        return {key: value for key, value in self.host.snapshot(self.now).items() if key != "counters"}


def settled(*, secret: bytes = b"rig", interface_identifier: bytes | None = None) -> tuple[Rig, IPv6Address]:
    """A host whose link has been up for a while, with an address from `ROUTER`."""
    rig = Rig(secret=secret, interface_identifier=interface_identifier)
    rig.advertise()
    address = rig.events(AddressReady)[0].address
    rig.run(3.0)
    return rig, address


def udp(source: IPv6Address, destination: IPv6Address = FAR, size: int = 20) -> bytes:
    return ip6.packet(source, destination, ip6.UDP, bytes(size))
