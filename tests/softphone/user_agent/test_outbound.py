"""Flows of a registration (RFC 5626), the address of one phone (RFC 5627), keepalives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aioice import stun

import softphone.config
from softphone.config import Account
from softphone.errors import ConfigError
from softphone.events import Registered, RegistrationFailed
from softphone.sip.headers import Headers
from softphone.sip.transport import KEEPALIVE, Address, Connection
from softphone.user_agent.flow_keeper import FlowKeeper
from tests.softphone.support import Registrar, account, counting, simulate
from tests.softphone.test_endpoint import Station
from tests.softphone.user_agent.test_registration import phone

OUTBOUND = (("Require", "outbound"),)


class Reflector:
    """Answers STUN at the registrar's port: tells ``mapped``, or nothing."""

    def __init__(self, registrar: Registrar, port: int) -> None:
        self.registrar = registrar
        self.peer = Address("::1", port)
        self.mapped: Address | None = self.peer
        self.asked = 0
        registrar.endpoint.keepers[self.peer] = self.received

    def received(self, data: bytes) -> None:
        self.asked += 1
        if self.mapped is None:
            return
        question = stun.parse_message(data)
        answer = stun.Message(
            stun.Method.BINDING, stun.Class.RESPONSE, question.transaction_id, {"XOR-MAPPED-ADDRESS": self.mapped}
        )
        self.registrar.endpoint.connections.udp_flow(*self.peer).send(bytes(answer))


@pytest.mark.parametrize("outbound", [True, False])
def test_the_phone_names_itself_and_its_flow(outbound: bool) -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        async with phone(registrar, outbound=outbound, instance="urn:uuid:1-2") as alice:
            await alice.registered(5)
            [contact] = registrar.contacts
            assert contact.parameter("+sip.instance") == ("<urn:uuid:1-2>" if outbound else None)
            assert contact.parameter("reg-id") == ("1" if outbound else None)
            assert registrar.log[-1].headers.values("Supported") == ["path", *(["outbound"] if outbound else [])]
        await registrar.endpoint.close()

    simulate(work)


def test_a_first_hop_without_outbound_is_asked_without() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        refuse = registrar.endpoint._on_request

        def lacking(transaction: object) -> None:
            registrar.answer_with = 439 if "reg-id" in str(transaction.request.headers) else None  # type: ignore[attr-defined]
            refuse(transaction)  # type: ignore[arg-type]

        registrar.endpoint._on_request = lacking
        async with phone(registrar) as alice:
            await alice.registered(5)
            assert "reg-id" not in str(registrar.log[-1].headers)
        await registrar.endpoint.close()

    simulate(work)


@pytest.mark.parametrize("change", ["none", "mapping", "silence"])
def test_a_datagram_flow_is_watched_by_stun(change: str) -> None:
    async def work() -> None:
        registrar = await Registrar("secret", granted=3000).start()
        registrar.extra = Headers.of(*OUTBOUND)
        async with phone(registrar) as alice:
            reflector = Reflector(registrar, alice.port)
            await alice.registered(5)
            await asyncio.sleep(100)
            assert reflector.asked == 4  # at once, and every 29 seconds
            before = len(registrar.log)
            if change == "mapping":
                reflector.mapped = Address("::1", 9)
            elif change == "silence":
                reflector.mapped = None
            await asyncio.sleep(29 + 40)
            assert len(registrar.log) == before + (change != "none")
            assert alice.counters["flow-failed"] == (change != "none")
            if change == "silence":
                reflector.mapped = reflector.peer
            await asyncio.sleep(100)
            assert alice.counters["flow-failed"] == (change != "none")
        await registrar.endpoint.close()

    simulate(work)


def test_a_server_that_only_says_that_it_knows_outbound_gets_empty_lines() -> None:
    async def work() -> None:
        registrar = await Registrar("secret", granted=3000).start()
        registrar.extra = Headers.of(*OUTBOUND, ("Flow-Timer", "soon"))
        async with phone(registrar) as alice:
            await alice.registered(5)
            await asyncio.sleep(39 + 3 * KEEPALIVE)
            assert registrar.endpoint.counters == {"stun-stray": 7, "keepalive": 3}
            assert alice.counters["flow-failed"] == 0
        await registrar.endpoint.close()

    simulate(work)


def test_a_lost_flow_is_made_anew_at_once_and_then_with_the_pauses_of_outbound() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        registrar.extra = Headers.of(*OUTBOUND, ("Flow-Timer", "20"))
        port = registrar.endpoint.port
        async with phone(None, uri=registrar.uri + ";transport=tcp") as alice:
            await alice.registered(5)
            [flow] = alice.endpoint.connections.open
            assert isinstance(flow, Connection)
            assert flow.keepalive == 18
            events = alice.events()
            for connection in list(registrar.endpoint.connections.open):
                connection.abort()
            assert await events.wait_for(Registered, 1)
            await registrar.endpoint.close()
            pauses = [(await events.wait_for(RegistrationFailed)).retry_in for _ in range(7)]
            assert pauses == [60, 120, 240, 480, 960, 1800, 1800]
            registrar = await Registrar("secret").start(port=port)
            await alice.registered(1801)
        await registrar.endpoint.close()

    simulate(work)


def test_calls_go_over_the_registered_flow_and_say_so() -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        registrar.extra = Headers.of(*OUTBOUND)
        seen = []
        proxy = registrar.uri + ";transport=tcp"
        async with phone(None, uri=proxy, outbound_proxy=proxy) as alice:
            await alice.registered(5)
            register = registrar.endpoint._on_request
            registrar.endpoint._on_request = lambda t: seen.append(t) if t.request.method == "INVITE" else register(t)
            call = await alice.dial("bob")
            await asyncio.sleep(1)
            assert len(alice.endpoint.connections.open) == 1
            [invite] = seen
            assert str(invite.request.contacts[0].uri).endswith(";transport=tcp;ob")
            assert "outbound" in invite.request.headers.values("Supported")
            invite.respond(603)
            await call.ended(5)
        await registrar.endpoint.close()

    simulate(work)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_address_of_this_phone_alone(wanted: bool) -> None:
    async def work() -> None:
        registrar = await Registrar("secret").start()
        gruu = "sip:alice@example.org;gr=urn:uuid:1-2"
        grant = registrar.endpoint._on_request

        def granting(transaction: object) -> None:
            grant(transaction)  # type: ignore[arg-type]
            registrar.contacts = [c.with_parameter("pub-gruu", f'"{gruu}"') for c in registrar.contacts]
            registrar.extra = Headers.of(*(("Contact", str(c)) for c in registrar.contacts))

        registrar.endpoint._on_request = granting
        async with Station() as bob, phone(registrar, gruu=wanted, expires=40) as alice:
            bob._on_request = lambda transaction: bob.seen.append(transaction) or transaction.respond(486)  # type: ignore[func-returns-value,assignment]
            await alice.registered(5)
            await asyncio.sleep(40)
            assert ("gruu" in registrar.log[-1].headers.values("Supported")) is wanted
            call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
            await call.ended(5)
            assert (str(bob.seen[0].request.contacts[0].uri) == gruu) is wanted
        await registrar.endpoint.close()

    simulate(work)


def test_empty_lines_keep_a_nat_open() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            flow = a.connections.udp_flow("::1", b.port)
            keeper = FlowKeeper(
                a, flow, outbound=False, translated=True, seconds=None, random=counting(), jitter=lambda: 1.0,
                failed=lambda why: None,
            )  # fmt: skip
            await asyncio.sleep(3 * KEEPALIVE + 1)
            keeper.close()
            await asyncio.sleep(3 * KEEPALIVE)
            assert b.counters == {"keepalive": 4}

    simulate(work)


def test_stun_from_nowhere_is_counted() -> None:
    async def work() -> None:
        async with Station() as a, Station() as b:
            question = bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST, bytes(12)))
            a.connections.udp_flow("::1", b.port).send(question)
            await asyncio.sleep(1)
            assert b.counters == {"stun-stray": 1}

    simulate(work)


def test_a_phone_has_the_same_name_after_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softphone.config, "MACHINE_ID", tmp_path / "machine-id")
    (tmp_path / "machine-id").write_text("0123\n")
    name = account().instance_urn
    assert name.startswith("urn:uuid:")
    assert name == account().instance_urn != account("bob").instance_urn
    (tmp_path / "machine-id").write_text("4567\n")
    assert account().instance_urn != name
    assert account(instance="urn:uuid:1").instance_urn == "urn:uuid:1"
    (tmp_path / "machine-id").unlink()
    assert account().instance_urn == account().instance_urn
    with pytest.raises(ConfigError, match="must be a URN"):
        Account(user="a", domain="b", instance='x"')
