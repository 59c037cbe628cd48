"""One other end with which keys of the application are negotiated: its associations, their policy, what waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import Belief, Proof
from mobility.ipsec.ike.fingerprint import Fingerprint
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.proposals import ESP_ALGORITHMS, esp_offer, ike_offer
from mobility.ipsec.ike.settings import ChildSettings, Peer
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.renewable import RenewableInbound, RenewableOutbound
from mobility.ipsec.sa import Mode
from mobility.ipsec.spd import Action, Policy, Selector
from mobility.key_source import KeySource
from mobility.negotiated import Ends, Renewal
from mobility.outputs import Deliver, Discarded, Output
from mobility.waiting import WaitingRoom

CHILD = "application"
"Name of the child SA."
MOST_WAITING, MOST_EARLY = 256, 64
"Packets for one partner, and of one, that wait for keys."
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"Seconds until it is tried again; doubled each time."


@dataclass(frozen=True, slots=True)
class CallLease:
    """A call's wish that all between us and its peer is protected, for as long as it says."""

    call: str
    peer: IPv6Address
    fingerprints: tuple[Fingerprint, ...]
    "Of certificates; the peer has one of these."
    active: bool
    "We begin."
    until: float
    "On the clock of the node."


class Partner:
    """Everything between us and it goes under one child SA, once there is one."""

    def __init__(
        self,
        name: str,
        here: IPv6Address,
        address: IPv6Address,
        algorithms: tuple[Algorithm, ...],
        application: IpsecProcessing,
        random: Callable[[int], bytes],
        source: KeySource | None = None,
    ) -> None:
        """``name``: what IKE calls it; ``algorithms``: that may be agreed on, the preferred one first; ``source``: of
        keys, by the configuration."""
        self.name = name
        self.address = address
        self.source = source
        self.algorithms = algorithms
        self.out = RenewableOutbound(algorithms[0], Mode.TRANSPORT, random)
        self.into = RenewableInbound(algorithms[0], Mode.TRANSPORT)
        self.renewal = Renewal(
            {CHILD: Ends(self.out, self.into)},
            lambda _name, spi, sa: application.learn(spi, sa),
            lambda _name, spi: application.forget(spi),
        )
        selector = Selector(IPv6Network(here), IPv6Network(address))
        self.policy = Policy(selector, Action.PROTECT, self.out, self.into, f"keys negotiated with {address}")
        self.waiting = WaitingRoom(MOST_WAITING, reason=Reason.KEYS_AWAITED, where="app-ipsec")
        self.early = WaitingRoom(MOST_EARLY, reason=Reason.KEYS_AWAITED, where="app-ipsec")
        "ESP of the other end, which has the keys already."
        self.nudged_at = 0.0
        self.leases: dict[str, CallLease] = {}
        self.since: float | None = None
        "When it got its keys."
        self.ends_at: float | None = None
        "When it is parted with, unless another call comes."
        self.sorted_at: float | None = None
        "When all IKE SAs but one end."
        self.again_at = 0.0
        "Not begun before."
        self.anew_at = 0.0
        "Not begun before because somebody says that it does not know us."
        self._retry = FIRST_RETRY

    def begun(self, now: float) -> None:
        """It is tried now, and not again for a while."""
        self.again_at = now + self._retry
        self._retry = min(2 * self._retry, LONGEST_RETRY)

    def succeeded(self) -> None:
        """The next time it is tried at once."""
        self.again_at, self._retry = 0.0, FIRST_RETRY

    def send_waiting(
        self, application: IpsecProcessing, put: Callable[[bytes, float], list[Output]], now: float
    ) -> list[Output]:
        """There are keys: what waited for them goes on its way, by ``put``."""
        outputs: list[Output] = []
        for packet in self.waiting.take():
            try:
                outputs += put(application.protect(packet), now)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "app-ipsec"))
        return outputs

    def open_early(self, application: IpsecProcessing) -> list[Output]:
        """There are keys: what came under them before."""
        outputs: list[Output] = []
        for packet in self.early.take():
            try:
                outputs.append(Deliver(application.accept(packet)))
            except Discard as discard:
                outputs.append(Discarded.of(discard, "app-ipsec"))
        return outputs

    @property
    def calls(self) -> str:
        """Names of the calls with it."""
        return ", ".join(self.leases)


def check_lease(lease: CallLease, here: IPv6Address) -> None:
    """Raises `ValueError`, for people: its peer can have no keys with us, or anybody could be it."""
    peer = lease.peer
    if not lease.fingerprints:
        raise ValueError("a call needs a fingerprint of its peer's certificate, else anybody could be the peer")
    if peer == here:
        raise ValueError(f"{peer} is this node itself: nothing between it and itself goes over a wire")
    if peer.is_multicast or peer.is_unspecified or peer.is_loopback or peer.is_link_local:
        raise ValueError(f"{peer} is no address that keys could be agreed with: it has to be one of a single node")


def algorithms_of(preferred: Algorithm) -> tuple[Algorithm, ...]:
    """What is agreed on with peers whose configuration nobody has made to suit ours.

    Both AEADs take the same room, so either does where one is preferred.
    """
    return tuple(dict.fromkeys((preferred, *(each for each in ESP_ALGORITHMS if each.aead and preferred.aead))))


def peer_of(partner: Partner, here: IPv6Address, proof: Proof, belief: Belief, lifetime: float) -> Peer:
    """A partner as IKE has to know it: named by its address, like us; ``lifetime``: of keys of ESP."""
    ours, theirs = (TrafficSelector.of(IPv6Network(each)) for each in (here, partner.address))
    proposals = esp_offer(partner.algorithms)
    child = ChildSettings(CHILD, (ours,), (theirs,), Mode.TRANSPORT, proposals=proposals, lifetime=lifetime)
    names = Identity.of(str(here)), Identity.of(str(partner.address))
    return Peer(partner.name, *names, proof, belief, (child,), proposals=ike_offer(hybrid=True), follow=False)
