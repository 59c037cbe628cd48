"""IPsec from end to end for one call (RFC 6193): from what the descriptions say to packets that are protected.

The mobility process makes keys and policies (`HomeNetwork`). Once IPsec is agreed on, the media session sends nothing
until `let_flow` says that it is in force. Who answers begins, while it rings; who offers lets strangers negotiate in
advance. Where SIP itself goes directly between the two addresses, the answerer begins after its 200: a CANCEL in clear
would not be let in any more.
"""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from mobility.client import MobilityError
from softphone.errors import CallError
from softphone.events import CallIpsec, EndedBy, IpsecState
from softphone.media.ike_description import IkePeer, IpsecMode
from softphone.media.offer_answer import NotAcceptable
from softphone.user_agent.agent import Media
from softphone.user_agent.alarm import Alarm

if TYPE_CHECKING:
    from softphone.calls.dialog_call import DialogCall
    from softphone.calls.leg import Leg

READY_SECONDS = 2.0
"How long an answer waits for the keys."
KEYS_SECONDS = 10.0
"How long an answered call may be without keys; then it goes on without IPsec, or ends where that is mandatory."


class Protection:
    """Of one call: of all its dialogs until one of them counts."""

    def __init__(self, call: DialogCall) -> None:
        self.status: CallIpsec | None = None
        "How it stands; None: there is nobody here who makes keys, or nothing was agreed on yet."
        self._call = call
        self._home = call._agent.home
        self._mode = call._agent.account.ipsec
        self._peers: dict[str, IkePeer] = {}
        "Whom the mobility process was told of, by the names of the dialogs."
        self._media: Media | None = None
        "The session that `status` is about."
        self._name = ""
        self._offered = False
        self._one_at_a_time = asyncio.Lock()
        self._once_protected = False
        self.given_up = False
        "We go on without, whatever the descriptions said before."
        self._alarm = Alarm(self._no_keys)

    async def offer(self, media: Media) -> None:
        """Before an offer of ours is made. Raises CallError: there will be no keys, and they are mandatory."""
        if self._home is None or not media.offers_ike:
            self._must("this account does not use the home network" if self._home is None else self._home.why)
            return
        try:
            self._offered = True
            await self._home.offer(self._call.id)
        except MobilityError as error:
            self._must(str(error))
            media.give_up_ike()

    async def agreed(self, leg: Leg) -> None:
        """After every agreement: what it says is in force when this returns. Raises NotAcceptable: it has to be, but
        cannot."""
        async with self._one_at_a_time:  # what comes of a second agreement must not be in force before the first is
            await self._enforce(leg)

    async def _enforce(self, leg: Leg) -> None:
        media = leg.media
        if self._home is None or media is None:
            return
        name, peer = f"{self._call.id}/{leg.dialog.id.remote_tag}", media.ike
        self._name, self._media = name, media
        if peer is None:
            await self._without(name, media)
            return
        if peer != self._peers.get(name) and not self.given_up:
            self._once_protected = False
            self._tell(IpsecState.NEGOTIATING, str(peer.address))
            self._peers[name] = peer
            try:
                await self._home.secure(name, peer, partial(self._told, name, peer))
            except MobilityError as error:
                self._peers.pop(name, None)
                if self._mode is IpsecMode.MANDATORY:
                    raise NotAcceptable(f"IPsec is mandatory for this account: {error}") from error
                self.give_up(str(error))
                return
        media.let_flow(peer)
        self._settle()

    async def ready(self) -> str:
        """Until the keys are there, as long as one may wait with an answer; why they are not, else empty."""

        def settled() -> bool:
            return self.status is None or self.status.state is not IpsecState.NEGOTIATING

        try:
            await self._call._changes.until(settled, READY_SECONDS)
        except TimeoutError:  # mandatory: it may be answered, but nothing goes in clear
            return "" if self._mode is IpsecMode.MANDATORY else f"no keys within {READY_SECONDS:.0f} s"
        if self._peers and self.status is not None and self.status.state is IpsecState.NONE:
            return self.status.reason
        return ""

    def confirmed(self) -> None:
        """The call is answered."""
        if self._media is not None:  # else offer and answer are still to come
            self._settle()

    def give_up(self, why: str) -> None:
        """Go on without. The other side has to learn it, or it would wait for keys: by the answer, if that is not out
        yet, else by a new offer."""
        call, media = self._call, self._media
        assert media is not None
        self.given_up = True
        self._alarm.cancel()
        self._tell(IpsecState.NONE, "", why)
        peer = media.ike
        media.give_up_ike()
        if self._peers.pop(self._name, None) is not None and self._home is not None:
            self._home.release(self._name)
        media.let_flow(peer)
        if not call._answer_open:
            call._agent.spawn(call._renegotiation.without_ipsec(), f"no IPsec {call.id}")

    def _settle(self) -> None:
        """Other dialogs of an answered call do not count any more, and its keys have to come."""
        if self._home is None or self._call.answered_at is None:
            return
        if self._offered:
            self._offered = False
            self._home.release(self._call.id)
        for name in [name for name in self._peers if name != self._name]:
            del self._peers[name]
            self._home.release(name)
        if self.status is not None and self._peers:
            if self.status.state is IpsecState.NONE:
                self._failed(self.status.reason)
            elif self.status.state is IpsecState.NEGOTIATING and not self._once_protected:
                self._alarm.set(asyncio.get_running_loop().time() + KEYS_SECONDS)

    def over(self) -> None:
        """The call has ended."""
        self._alarm.cancel()
        if self._home is not None:
            for name in (*self._peers, self._call.id):
                self._home.release(name)
            self._peers.clear()

    def _must(self, why: str) -> None:
        if self._mode is IpsecMode.MANDATORY:
            raise CallError(f"IPsec is mandatory for this account, but there are no keys: {why}")

    async def _without(self, name: str, media: Media) -> None:
        home, agreed = self._home, media.agreed
        assert home is not None
        if self._peers.pop(name, None) is not None:
            home.release(name)
        self._alarm.cancel()
        media.let_flow(None)
        self._settle()
        known = self.status is not None and self.status.state is IpsecState.NONE
        if not known and media.offers_ike:
            if media.ike_refusal:
                self._call._agent.endpoint.counters["ipsec-section-unusable"] += 1
            address = "" if agreed is None else agreed.remote_address
            if await home.configured(address):
                self._tell(IpsecState.PROTECTED, address)
                return
            self._tell(IpsecState.NONE, "", media.ike_refusal or "the other side does not take part")

    def _told(self, name: str, peer: IkePeer, state: IpsecState, algorithm: str, reason: str) -> None:
        """What the mobility process says of the keys with a peer."""
        if name != self._name or self._peers.get(name) != peer:
            return
        if state is IpsecState.PROTECTED:
            self._once_protected = True
            self._alarm.cancel()
        elif state is IpsecState.NONE and self._once_protected:
            # Who could break the keys in mid call must not bring us to speak without them.
            state = IpsecState.NEGOTIATING
        self._tell(state, str(peer.address), reason, algorithm)
        if state is IpsecState.NONE and self._call.answered_at is not None:
            self._failed(reason)

    def _no_keys(self) -> None:
        self._failed(f"no keys within {KEYS_SECONDS:.0f} s")

    def _failed(self, why: str) -> None:
        """Nothing has come of it in an answered call."""
        call = self._call
        if self._mode is IpsecMode.MANDATORY:
            text = f"IPsec is mandatory for this account: {why}"
            call._agent.spawn(call._bye(text, EndedBy.FAILURE, 488), f"BYE {call.id}")
        else:
            self.give_up(why)

    def _tell(self, state: IpsecState, peer: str, reason: str = "", algorithm: str = "") -> None:
        status = CallIpsec(self._call.id, state, peer, algorithm, reason)
        if self.status is not None and not algorithm and (status.state, status.peer) == (state, self.status.peer):
            status = CallIpsec(self._call.id, state, status.peer, self.status.algorithm, reason)
        if status != self.status:
            self.status = status
            self._call._agent.hub.emit(status)
            self._call._changes.tell()


def is_direct(peer: IkePeer | None, *hosts: str | None) -> bool:
    """Whether SIP itself goes to the address that IKE is at."""
    return peer is not None and any(_address(host) == peer.address for host in hosts if host is not None)


def _address(host: str) -> IPv6Address | None:
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return address if isinstance(address, IPv6Address) else None
