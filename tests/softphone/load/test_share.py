"""What one process does, with real phones in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from roamphone_pytest.ports import free_port
from softphone.load.pacing import Offer
from softphone.load.records import CallRecord, Outcome, Progress, Role
from softphone.load.scenario import SOUND_RATE, Behaviour
from softphone.load.share import Party, Running, Share, running
from tests.softphone.support import account, simulate


def a_share(offer: Offer, calling: Behaviour, answering: Behaviour, **more: Any) -> Share:
    port = free_port()
    callers = (Party(account("alice", codecs=("PCMU",))), Party(account("carol", codecs=("PCMU",))))
    answerer = Party(account("bob", codecs=("PCMU",), local_port=port, max_calls=1000))
    share = Share(offer, callers, (answerer,), (f"sip:bob@[::1]:{port}",), calling, answering)
    return replace(share, **more)


def carried_out(share: Share, meanwhile: Callable[[Running], object] | None = None) -> list[CallRecord | Progress]:
    told: list[CallRecord | Progress] = []

    async def work() -> None:
        async with running(share, told.append) as run:
            if meanwhile is not None:
                asyncio.get_running_loop().call_later(1.2, meanwhile, run)

            def when_idle() -> None:
                if told and isinstance(told[-1], Progress) and told[-1].idle:
                    run.finish()
                else:
                    asyncio.get_running_loop().call_later(0.1, when_idle)

            when_idle()
            await run.run()

    simulate(work)
    return told


def records(told: list[CallRecord | Progress], role: Role) -> list[CallRecord]:
    return [one for one in told if isinstance(one, CallRecord) and one.role is role]


TONE = np.asarray(8000 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE) / SOUND_RATE), np.int16)


def test_calls_with_sound_and_digits() -> None:
    share = a_share(
        Offer(4, 20, 1.9, 100), Behaviour(TONE, dtmf="12#", talk=3.0), Behaviour(TONE, ring=0.5)
    )  # fmt: skip
    told = carried_out(share)
    made, taken = records(told, Role.CALLER), records(told, Role.ANSWERER)
    assert len(made) == len(taken) == 8
    assert {record.outcome for record in made} == {Outcome.ANSWERED}
    assert [round(record.began, 2) for record in sorted(made, key=lambda one: one.began)] == [n / 4 for n in range(8)]
    for record in made:
        assert record.post_dial_delay is not None
        assert record.answer_delay is not None
        assert record.post_dial_delay < 0.3 < 0.5 <= record.answer_delay < 1.0
        assert 3.0 < record.ended - record.began < 4.5
        assert not record.dropped
    for record in (*made, *taken):
        assert record.received > 100
        assert record.mos is not None
        assert record.mos > 4
    assert all(record.digits for record in taken)
    last = told[-1]
    assert isinstance(last, Progress) or last in taken


def test_refusals_and_nobody_there() -> None:
    offer = Offer(None, 2, 0.5, 2)
    told = carried_out(a_share(offer, Behaviour(None), Behaviour(None, status=486)))
    assert [(one.outcome, one.status, one.reason) for one in records(told, Role.CALLER)] == [
        (Outcome.REFUSED, 486, "Busy Here")
    ] * 2
    told = carried_out(a_share(offer, Behaviour(None, timeout=2.0), Behaviour(None, ring=30.0)))
    found = records(told, Role.CALLER)
    assert [(one.outcome, one.reason) for one in found] == [(Outcome.TIMEOUT, "not answered within 2 s")] * 2
    nowhere = (f"sip:bob@[::1]:{free_port()}",)
    told = carried_out(a_share(offer, Behaviour(None, timeout=40.0), Behaviour(None), targets=nowhere))
    assert [(one.outcome, one.status in (408, 503)) for one in records(told, Role.CALLER)] == [
        (Outcome.REFUSED, True)
    ] * 2


def test_ending_early_hangs_up() -> None:
    share = a_share(Offer(2, 20, 60.0, 100), Behaviour(None, talk=50.0), Behaviour(None, ring=1.0))
    told = carried_out(share, Running.stop)
    made = records(told, Role.CALLER)
    # One had been answered and was hung up, those that rang were cancelled.
    assert [one.outcome for one in sorted(made, key=lambda one: one.began)] == [
        Outcome.ANSWERED, Outcome.INTERRUPTED, Outcome.INTERRUPTED
    ]  # fmt: skip
    assert not any(record.dropped for record in made)
    assert all(record.ended < 3 for record in made)
