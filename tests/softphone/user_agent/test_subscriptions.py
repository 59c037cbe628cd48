"""Subscriptions, publications and messages of a phone, against a peer that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from softphone.errors import CallError, CallRejected, SubscriptionError
from softphone.events import (
    DialogsChanged,
    MailboxChanged,
    MessageReceived,
    MessageSent,
    PresenceChanged,
    PublicationFailed,
    Published,
)
from softphone.packages.dialog_info import Lamp
from softphone.packages.presence import PRESENCE, Presence, parse_pidf, print_pidf
from softphone.phone import Softphone
from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response
from softphone.sip.subscription import BURST, Phase
from softphone.sip.transport import Transport
from tests.softphone.packages.test_packages import dialogs, one
from tests.softphone.peers import Peer, with_peer
from tests.softphone.support import FakeMedia, account, simulate

PIDF_TYPE = "application/pidf+xml"


class Notifier:
    """The other side of a subscription."""

    def __init__(self, peer: Peer, subscribe: Request, tag: str = "n1") -> None:
        self.peer = peer
        self.subscribe = subscribe
        self.tag = tag
        self.sequence = 0

    async def notify(
        self, body: bytes = b"", *, state: str = "active;expires=600", content_type: str = PIDF_TYPE,
        event: str | None = None, call_id: str | None = None, to_tag: str | None = None,
    ) -> Response:  # fmt: skip
        self.sequence += 1
        asked = self.subscribe
        to = asked.from_ if to_tag is None else asked.from_.with_parameter("tag", to_tag)
        lines = [
            ("From", str(asked.to.with_parameter("tag", self.tag))), ("To", str(to)),
            ("Call-ID", call_id or asked.call_id), ("CSeq", f"{self.sequence} NOTIFY"),
            ("Contact", str(self.peer.contact)), ("Event", event or asked.headers.get("Event") or ""),
            ("Subscription-State", state), *([("Content-Type", content_type)] if body else []),
        ]  # fmt: skip
        target = asked.contacts[0].uri
        request = Request(method="NOTIFY", uri=target, headers=Headers.of(*lines), body=body)
        flow = await self.peer.endpoint.flow((await self.peer.endpoint.locate(target, Transport.UDP))[0])
        return await (await self.peer.endpoint.request(request, flow)).final()


def pidf(note: str) -> bytes:
    return print_pidf(Presence(True, note), "sip:peer@example.org", "d")


def with_notifier(test: Callable[[Peer, Softphone], Coroutine[Any, Any, None]], **settings: Any) -> None:
    with_peer(lambda peer, bob, media: test(peer, bob), **settings)


async def accepted(peer: Peer, expires: int = 600) -> Notifier:
    """The next SUBSCRIBE, answered."""
    subscribe = await peer.requests.get()
    assert subscribe.request.method == "SUBSCRIBE"
    subscribe.respond(200, to_tag="n1", headers=Headers.of(("Expires", str(expires)), ("Contact", str(peer.contact))))
    return Notifier(peer, subscribe.request)


def test_presence_is_watched_refreshed_and_left() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        events = bob.events()
        watched = bob.watch_presence(str(peer.contact.uri))
        notifier = await accepted(peer)
        assert notifier.subscribe.headers.get("Event") == "presence"
        assert notifier.subscribe.headers.get("Accept") == PIDF_TYPE
        assert watched.phase is Phase.TRYING
        assert (await notifier.notify(pidf("here"))).status == 200
        await watched.active(1)
        assert await watched.told(1) == Presence(True, "here")
        changed = await events.wait_for(PresenceChanged, 1)
        assert changed == PresenceChanged(str(peer.contact.uri), Presence(True, "here"))
        await notifier.notify(pidf("there"))
        assert (await events.wait_for(PresenceChanged, 1)).presence.note == "there"

        refresh = await peer.requests.get()  # after 450 s of simulated time
        assert refresh.request.to.tag == "n1"
        assert refresh.request.cseq.number == notifier.subscribe.cseq.number + 1
        refresh.respond(200, headers=Headers.of(("Expires", "600"), ("Contact", str(peer.contact))))
        watched.close()
        goodbye = await peer.requests.get()
        assert goodbye.request.headers.get("Expires") == "0"
        goodbye.respond(200, headers=Headers.of(("Expires", "0")))
        assert (await notifier.notify(state="terminated;reason=timeout")).status == 200
        await watched.over(1)
        assert (await notifier.notify(pidf("late"))).status == 481

    with_notifier(test)


def test_a_notify_before_the_answer_counts() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        watched = bob.watch_presence(str(peer.contact.uri))
        subscribe = await peer.requests.get()
        notifier = Notifier(peer, subscribe.request)
        assert (await notifier.notify(pidf("quick"))).status == 200
        assert watched.phase is Phase.ACTIVE
        subscribe.respond(200, to_tag="n1", headers=Headers.of(("Expires", "600"), ("Contact", str(peer.contact))))
        await asyncio.sleep(1)
        assert (await watched.told(1)).note == "quick"

    with_notifier(test)


def test_strangers_and_forks_are_refused() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        watched = bob.watch_presence(str(peer.contact.uri))
        notifier = await accepted(peer)
        assert (await notifier.notify(pidf("no"), call_id="other")).status == 481
        assert (await notifier.notify(pidf("no"), to_tag="other")).status == 481
        assert (await notifier.notify(pidf("no"), event="dialog")).status == 481
        assert (await notifier.notify(pidf("no"), event="presence;id=7")).status == 481
        assert watched.state is None
        assert (await notifier.notify(pidf("yes"))).status == 200
        fork = Notifier(peer, notifier.subscribe, "n2")
        assert (await fork.notify(pidf("no"))).status == 481
        notifier.sequence = 1
        assert (await notifier.notify(pidf("old"))).status == 500
        assert (await watched.told(1)).note == "yes"

    with_notifier(test)


def test_bad_documents_are_refused_and_counted() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        watched = bob.watch_presence(str(peer.contact.uri))
        notifier = await accepted(peer)
        await notifier.notify(pidf("good"))
        assert (await notifier.notify(b"<presence>")).status == 400
        assert (await notifier.notify(b"<!DOCTYPE x><presence/>")).status == 400
        assert (await notifier.notify(b"{}", content_type="application/json")).status == 415
        assert (await notifier.notify(state="")).status == 400
        assert (await notifier.notify(state="active;expires=soon")).status == 400
        assert bob.counters["notify-malformed"] == 2
        assert (await watched.told(1)).note == "good"
        assert watched.phase is Phase.ACTIVE

    with_notifier(test)


def test_a_flood_is_bounded() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        bob.watch_presence(str(peer.contact.uri))
        notifier = await accepted(peer)
        answers = [(await notifier.notify(pidf(str(number)))).status for number in range(int(BURST) + 20)]
        assert answers.count(200) == BURST
        assert answers.count(500) == 20
        assert bob.counters["notify-flood"] == 20
        await asyncio.sleep(2)
        assert (await notifier.notify(pidf("after"))).status == 200

    with_notifier(test)


def test_refused_and_unanswered_subscriptions() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        watched = bob.watch_presence(str(peer.contact.uri))
        (await peer.requests.get()).respond(489)
        for waiting in (watched.told(1), watched.active(1)):
            with pytest.raises(SubscriptionError, match="refused with 489"):
                await waiting
        again = bob.watch_presence(str(peer.contact.uri))
        (await peer.requests.get()).respond(503, headers=Headers.of(("Retry-After", "7")))
        await asyncio.sleep(5)
        assert again.phase is Phase.WAITING
        await (await accepted(peer)).notify(pidf("at last"))
        assert (await again.told(1)).note == "at last"

    with_notifier(test)


def test_fetching_once() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        fetched = bob.subscribe(str(peer.contact.uri), PRESENCE, PresenceChanged, expires=0)
        notifier = await accepted(peer, 0)
        assert notifier.subscribe.headers.get("Expires") == "0"
        await notifier.notify(pidf("once"), state="terminated;reason=timeout")
        assert (await fetched.told(1)).note == "once"
        assert fetched.phase is Phase.ENDED

    with_notifier(test)


def test_a_busy_lamp_asks_for_everything_when_it_missed_something() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        events = bob.events()
        kind = "application/dialog-info+xml"
        watched = bob.watch_calls(str(peer.contact.uri))
        notifier = await accepted(peer)
        await notifier.notify(dialogs(0), content_type=kind)
        assert (await watched.told(1)).lamp is Lamp.FREE
        await notifier.notify(dialogs(1, one("a", "confirmed"), state="partial"), content_type=kind)
        assert (await events.wait_for(DialogsChanged, 1)).dialogs.lamp is Lamp.FREE
        assert (await events.wait_for(DialogsChanged, 1)).dialogs.lamp is Lamp.BUSY
        assert (await notifier.notify(dialogs(3, one("b", "early"), state="partial"), content_type=kind)).status == 200
        refresh = await asyncio.wait_for(peer.requests.get(), 1)
        refresh.respond(200, headers=Headers.of(("Expires", "600")))
        await notifier.notify(dialogs(4), content_type=kind)
        assert (await events.wait_for(DialogsChanged, 1)).dialogs.lamp is Lamp.FREE

    with_notifier(test)


def test_the_own_mailbox() -> None:
    async def work() -> None:
        async with Peer() as peer:
            settings = account("bob", outbound_proxy=str(peer.contact.uri), message_waiting=True)
            async with Softphone(settings, media=FakeMedia.factory([])) as bob:
                events = bob.events()
                assert bob.voicemail is None
                notifier = await accepted(peer)
                assert str(notifier.subscribe.uri) == "sip:bob@example.org"
                body = b"Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.org\r\nVoice-Message: 3/1\r\n"
                await notifier.notify(body, content_type="application/simple-message-summary")
                assert (await events.wait_for(MailboxChanged, 1)).summary.voice.new == 3
                assert bob.voicemail == "sip:*97@example.org"

    simulate(work)
    assert Softphone(account(voicemail="*98")).voicemail == "*98"


def test_published_presence() -> None:
    async def work() -> None:
        async with Peer() as peer:
            settings = account("bob", outbound_proxy=str(peer.contact.uri))
            async with Softphone(settings, media=FakeMedia.factory([])) as bob:
                events = bob.events()
                bob.publish(Presence(True, "at work", ("on-the-phone",)))
                publish = await peer.requests.get()
                assert publish.request.method == "PUBLISH"
                assert publish.request.headers.get("SIP-If-Match") is None
                assert parse_pidf(publish.request.body) == Presence(True, "at work", ("on-the-phone",))
                publish.respond(200, headers=Headers.of(("SIP-ETag", "e1"), ("Expires", "3600")))
                assert (await events.wait_for(Published, 1)).expires == 3600
                bob.publish(Presence(False))
                publish = await peer.requests.get()
                assert publish.request.headers.get("SIP-If-Match") == "e1"
                publish.respond(403)
                assert (await events.wait_for(PublicationFailed, 1)).status == 403

    simulate(work)


def test_texts_are_sent_and_received() -> None:
    async def test(peer: Peer, bob: Softphone) -> None:
        events = bob.events()
        sending = asyncio.create_task(bob.message(str(peer.contact.uri), "grüß dich"))
        message = await peer.requests.get()
        assert message.request.body.decode() == "grüß dich"
        message.respond(202)
        await sending
        assert await events.wait_for(MessageSent, 1) == MessageSent(str(peer.contact.uri), "grüß dich")
        sending = asyncio.create_task(bob.message(str(peer.contact.uri), "x"))
        (await peer.requests.get()).respond(404)
        with pytest.raises(CallRejected, match="404"):
            await sending
        with pytest.raises(CallError, match="1300"):
            await bob.message(str(peer.contact.uri), "x" * 1301)

        text = peer.invite(("Content-Type", "text/plain"), ("CSeq", "1 MESSAGE"), method="MESSAGE", body=b"hi")
        assert (await peer.final(text, bob)).status == 200
        assert await events.wait_for(MessageReceived, 1) == MessageReceived("sip:peer@example.org", "text/plain", b"hi")
        image = peer.invite(("Content-Type", "image/png"), ("Call-ID", "two"), method="MESSAGE", body=b"\x89PNG")
        refused = await peer.final(image, bob)
        assert refused.status == 415
        assert "text/plain" in (refused.headers.get("Accept") or "")

    with_notifier(test)
