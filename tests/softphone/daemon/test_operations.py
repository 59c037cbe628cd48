"""What clients of the daemon may do beyond dialling and hanging up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import DaemonError, RequestError
from softphone.daemon.server import Daemon
from softphone.daemon.topics import Topic
from softphone.media.files import MemorySink, SamplesSource
from softphone.phone import Softphone
from tests.softphone.daemon.support import answered, next_event, running, with_bob
from tests.softphone.support import FakeMedia, account, simulate
from tests.softphone.test_automation import tone


def test_a_call_is_described_muted_noted_and_found_again(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            address = f"sip:bob@[::1]:{bob.port}"
            await client.request("contact-save", name="Bob Builder", reaches=[{"address": address, "kind": "work"}])
            call = await answered(client, bob)
            await client.request("mute", on=True)
            assert (await next_event(client, "call-muted"))["muted"] is True
            await client.request("note", text="wants a new house")
            status: Any = await client.request("status")
            [described] = status["accounts"][0]["calls"]
            assert described["account"] == "work"
            assert described["remote_name"] == "Bob Builder"
            assert described["muted"] is True
            assert described["started"] <= described["answered"]
            assert described["recording"] is described["conference"] is described["suite"] is described["ipsec"] is None
            assert status["accounts"][0]["network"] == "direct"
            await client.request("hangup", account="work")
            await next_event(client, "call-ended")
            found: Any = await client.request("history", search="NEW HOUSE")
            [entry] = found["entries"]
            assert (entry["call_id"], entry["contact"], entry["note"]) == (call, "Bob Builder", "wants a new house")
            await client.request("note", call=call, text="wants a boat")
            assert (await client.request("history", search="house")) == {"entries": []}
            candidates: Any = await client.request("complete", text="bu")
            assert candidates["candidates"] == [{"target": address, "label": "Bob Builder (work)", "source": "contact"}]
            await client.request("contact-remove", name="Bob Builder")
            candidates = await client.request("complete", text="bob")
            assert [one["source"] for one in candidates["candidates"]] == ["history"]
            await client.request("history-remove", entry=entry["id"])
            assert (await client.request("history")) == {"entries": []}
            for operation, arguments, why in (
                ("history-remove", {"entry": entry["id"]}, "no entry"),
                ("note", {"call": call, "text": ""}, "no call"),
                ("contact-remove", {"name": "Bob Builder"}, "nobody called"),
                ("contact-save", {"name": "X", "reaches": [{"address": "nobody"}]}, "no number and no SIP address"),
                ("mute", {"on": True}, "there is no call"),
                ("history", {"limit": 5000}, "from 1 to 1000"),
            ):
                with pytest.raises(RequestError, match=why):
                    await client.request(operation, **arguments)

    with_bob(tmp_path, test)


def test_contacts_that_cannot_be_read_leave_the_history_readable(tmp_path: Path) -> None:
    (tmp_path / "contacts.vcf").mkdir()

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            assert (await client.request("history")) == {"entries": []}
            assert (await client.request("complete", text="bob")) == {"candidates": []}
            with pytest.raises(RequestError, match="cannot be read"):
                await client.request("contacts")

    with_bob(tmp_path, test)


def test_messages_are_kept(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            status: Any = await client.request("status")
            await client.request("message", target=f"sip:bob@[::1]:{bob.port}", text="lunch?")
            await next_event(client, "message-sent")
            await bob.message(f"sip:alice@[::1]:{status['accounts'][0]['port']}", "yes")
            await next_event(client, "message-received")
            kept: Any = await client.request("messages")
            assert [(one["incoming"], one["text"]) for one in kept["messages"]] == [(False, "lunch?"), (True, "yes")]
            kept = await client.request("messages", peer="bob@example.org")
            assert [one["text"] for one in kept["messages"]] == ["yes"]  # his address, not where he is

    with_bob(tmp_path, test)


def test_conferences_and_attended_transfers(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            one, other = await answered(client, bob), await answered(client, bob)
            with pytest.raises(RequestError, match="two calls at least"):
                await client.request("conference", calls=[one, one])
            joined: Any = await client.request("conference", calls=[one, other])
            assert joined["calls"] == [one, other]
            await client.request("mute", call=one, on=True)
            status: Any = await client.request("status")
            calls = status["accounts"][0]["calls"]
            assert {call["conference"] for call in calls} == {joined["conference"]}
            assert all(call["muted"] for call in calls), "in a conference nobody hears us"
            await client.request("conference-leave", call=one)
            with pytest.raises(RequestError, match="in no conference"):
                await client.request("conference-leave", call=one)
            await client.request("conference-leave", call=other)
            assert not daemon.service.calls.conferences
            # the two calls of Bob are connected with each other: he calls himself
            transferring = asyncio.create_task(client.request("transfer", call=one, to_call=other))
            taken = await anext(
                event async for event in bob.events() if type(event).__name__ == "CallTransferRequested"
            )
            asked = next(call for call in bob.calls if call.id == taken.call)  # type: ignore[attr-defined]
            assert asked.transfer_request is not None
            asked.transfer_request.refuse()
            with pytest.raises(RequestError, match="transfer was refused: 603"):
                await transferring

    with_bob(tmp_path, test)


def test_a_transfer_that_the_other_side_wants_waits_for_a_decision(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            call = await answered(client, bob)
            with pytest.raises(RequestError, match="nobody wants to transfer"):
                await client.request("transfer-accept")
            [his] = bob.calls
            transferring = asyncio.create_task(his.transfer(f"sip:carol@[::1]:{bob.port}"))
            await next_event(client, "call-transfer-requested")
            status: Any = await client.request("status")
            assert status["accounts"][0]["calls"][0]["transfer"]["target"].startswith("sip:carol@")
            made: Any = await client.request("transfer-accept", call=call)
            assert made["remote"].startswith("sip:carol@")
            await (await anext(bob.incoming())).answer()
            await transferring

    with_bob(tmp_path, test)


def test_levels_and_quality_are_told_while_somebody_wants_them(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe("levels", "quality")
            call = await answered(client, bob)
            [his] = bob.calls
            his.play(SamplesSource(tone(8.0, 48_000), 48_000))
            levels: Any = None
            for _ in range(20):
                levels = await next_event(client, "levels")
            [level] = levels["calls"]
            assert level["call"] == call
            assert level["sent_dbov"] == -127.0
            assert -20 < level["received_dbov"] < -10  # 8000 of 32768 as a sine: -15.3
            quality = await next_event(client, "quality")
            assert (quality["call"], quality["codec"]) == (call, "opus")
            assert quality["suite"]
            assert int(str(quality["packets_received"])) > 10
            await client.subscribe("events")
            await asyncio.sleep(0.3)
            assert daemon.service.phones.running["work"].calls[0].media.meter is None  # type: ignore[union-attr]

    with_bob(tmp_path, test, real_media=True)


def test_mute_sends_silence_and_what_is_played_goes_on(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await answered(client, bob)
            [ours] = daemon.service.phones.running["work"].calls
            playing = ours.play(SamplesSource(tone(1.0, 48_000), 48_000))
            await client.request("mute", on=True)
            [his] = bob.calls
            heard = MemorySink(16_000)
            his.record(heard)
            await playing
            await asyncio.sleep(0.5)
            muted = len(heard.samples)
            assert np.abs(heard.samples).max() < 100
            await client.request("mute", on=False)
            await ours.play(SamplesSource(tone(1.0, 48_000), 48_000))
            assert np.abs(heard.samples[muted:]).max() > 5000

    with_bob(tmp_path, test, real_media=True)


def test_sip_messages_are_told_kept_and_hold_no_keys(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe("sip", "log")
            call = await answered(client, bob)
            event: Any = await next_event(client, "sip-message")
            assert (event["account"], event["sent"], event["call"]) == ("work", True, call)
            assert event["text"].startswith("INVITE ")
            assert event["remote"] == f"[::1]:{bob.port}"
            await client.request("message", target=f"sip:bob@[::1]:{bob.port}", text="not of the call")
            kept: Any = await client.request("sip-messages", call=call)
            first = [message["text"].partition(" ")[0] for message in kept["messages"]]
            assert first[0] == "INVITE"
            assert "MESSAGE" not in first
            everything: Any = await client.request("sip-messages")
            text = "".join(message["text"] for message in everything["messages"])
            assert "MESSAGE sip:bob" in text
            assert "a=crypto:" in text
            assert text.count("inline:") == text.count("inline:****") > 0
            with pytest.raises(RequestError, match="no topic 'nothing'"):
                await client.subscribe("nothing")

    with_bob(tmp_path, test, real_media=True)


def test_accounts_are_saved_tried_reloaded_and_removed(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        path = tmp_path / "softphone.toml"
        path.chmod(0o600)
        async with DaemonClient(daemon.path) as client:
            values = {"address": "carol@example.com", "register": False, "local_host": "::1"}
            await client.request("account-save", name="home", values=values)
            with pytest.raises(RequestError, match=r"\.toml:\d+: account\.home\.transport: 'pigeon' is not one"):
                await client.request("account-save", name="home", values={"transport": "pigeon"})
            changed: Any = await client.request("reload")
            assert (changed["added"], changed["changed"], changed["waiting"]) == (["home"], [], [])
            assert "NOT_THERE_AT_ALL" in changed["failures"]["broken"]
            listed: Any = await client.request("accounts")
            home = next(one for one in listed["accounts"] if one["name"] == "home")
            assert home["values"] == values
            assert home["running"]
            assert {key["name"] for key in listed["keys"]} >= {"address", "transport", "password"}
            tried: Any = await client.request("account-test", name="home")
            assert tried["ok"], tried
            tried = await client.request("account-test", name="broken")
            assert (tried["ok"], tried["result"]) == (False, "usage")
            # with a call under way the account waits
            await answered(client, bob)
            await client.request("account-save", name="work", values={"display_name": "Alice"})
            changed = await client.request("reload")
            assert changed["waiting"] == ["work"]
            await client.subscribe()
            await client.request("hangup")
            assert (await next_event(client, "reloaded", None))["waiting"] == []
            assert daemon.service.phones.running["work"].account.display_name == "Alice"
            await client.request("account-remove", name="home")
            changed = await client.request("reload")
            assert changed["removed"] == ["home"]
            assert list(daemon.service.phones.running) == ["work"]

    with_bob(tmp_path, test)


def test_a_password_goes_into_a_file_and_is_shown_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softphone.accounts.passwords.keyring_works", lambda: False)

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.request("account-save", name="broken", values={"password": "geheim", "transport": "tls"})
            assert (tmp_path / "broken.password").read_text() == "geheim\n"
            listed: Any = await client.request("accounts")
            assert "geheim" not in str(listed)
            broken = next(one for one in listed["accounts"] if one["name"] == "broken")
            assert broken["values"]["password_file"] == "broken.password"
            assert "password_env" not in broken["values"]

    with_bob(tmp_path, test)


def test_settings_are_read_and_saved(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.request("settings-save", name="default", value="broken")
            settings: Any = await client.request("settings")
            assert next(one for one in settings["settings"] if one["name"] == "default")["value"] == "broken"
            for name, value, why in (
                ("default", "nobody", "there is no account 'nobody'"), ("default", 7, "7 is not a text"),
                ("colour", "red", "is no setting"),
            ):  # fmt: skip
                with pytest.raises(RequestError, match=why):
                    await client.request("settings-save", name=name, value=value)
            await client.request("settings-save", name="default", value=None)
            settings = await client.request("settings")
            assert next(one for one in settings["settings"] if one["name"] == "default")["value"] is None

    with_bob(tmp_path, test)


def test_presence_is_published_and_watched(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            await client.request("presence", status="open", note="at my desk")
            target = f"sip:bob@[::1]:{bob.port}"
            await client.request("watch", uri=target, kind="calls")
            ended: Any = {"phase": ""}
            while ended["phase"] in ("", "trying"):
                ended = await next_event(client, "subscription-changed")
            assert (ended["uri"], ended["package"], ended["phase"]) == (target, "dialog", "ended"), "a phone refuses it"
            assert (await client.request("watched")) == {"watched": []}
            with pytest.raises(RequestError, match="status has to be one of"):
                await client.request("presence", status="perhaps")
            with pytest.raises(RequestError, match="is not watched"):
                await client.request("unwatch", uri=target)

    with_bob(tmp_path, test)


def test_a_client_that_reads_slowly_misses_levels_and_is_told_of_missed_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softphone.daemon.server.ROOM", 4000)

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe("levels", "sip")
            for _ in range(2000):
                daemon.tell(Topic.LEVELS, {"event": "levels", "calls": ["x" * 400]})
                daemon.tell(Topic.SIP, {"event": "sip-message", "text": "x" * 400})
            missed = daemon.counters["sip-missed"]
            assert missed
            assert daemon.counters["levels-missed"]
            assert not daemon.counters["client-does-not-read"]
            await client.request("status")  # everything before it was read
            daemon.tell(Topic.SIP, {"event": "sip-message", "text": "the next one"})
            assert (await next_event(client, "sip-missed"))["count"] == missed
            assert (await next_event(client, "sip-message"))["text"] == "the next one"

    with_bob(tmp_path, test)


def test_a_daemon_that_is_to_end_when_idle_does_not_while_there_is_a_program_or_a_call(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            Softphone(account("bob"), media=FakeMedia.factory([])) as bob,
            running(tmp_path, exit_idle_time=60) as daemon,
        ):
            async with DaemonClient(daemon.path) as client:
                await asyncio.sleep(100)
                await answered(client, bob)
            await asyncio.sleep(100)
            assert daemon.path.exists()
            [his] = bob.calls
            await his.hangup()
            async with asyncio.timeout(121):
                await daemon.service.on_shutdown.wait()

    simulate(work)


def test_a_daemon_that_stays_does(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, exit_idle_time=60) as daemon:
            async with DaemonClient(daemon.path) as client:
                await client.request("stay")
            await asyncio.sleep(1000)
            assert not daemon.service.on_shutdown.is_set()

    simulate(work)


def test_shutdown_ends_the_daemon(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            await answered(client, bob)
            [his] = bob.calls
            await client.request("shutdown")
            await his.ended(5)
            assert [event["event"] async for event in client.events()][-1] == "call-ended"
            with pytest.raises(DaemonError, match="has gone"):
                await client.request("status")

    with_bob(tmp_path, test)
