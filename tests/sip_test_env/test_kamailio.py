"""Kamailio does what the phones need of it: looked at from outside, over every transport and both IP versions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sip_test_env.network import TestNetwork
from tests.sip_test_env.sip_peer import Message, Peer, authorization, challenge_parameters

pytestmark = [pytest.mark.root, pytest.mark.interop]

ALICE = {"node": "ar-a", "local": "2001:db8:a::1", "user": "6001"}
BOB = {"node": "home-router", "local": "2001:db8:1::1", "user": "6002"}


def peer(network: TestNetwork, who: dict[str, str], transport: str = "UDP") -> Peer:
    return Peer(network, transport=transport, **who)  # type: ignore[arg-type]  # all values are strings


@pytest.fixture
def pair(network: TestNetwork, request: pytest.FixtureRequest) -> Iterator[tuple[Peer, Peer]]:
    """Two registered peers; the parameter gives the transports."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(peer(network, who, transport))
            for who, transport in zip((ALICE, BOB), request.param, strict=True)
        )
        for each in (first, second):
            assert each.register().status == 200
            each.call_id += "-call"
        yield first, second
        for each in (first, second):
            each.call_id += "-end"
            assert each.register(expires=0).status == 200


@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS"])
def test_options_is_answered_over_ipv6(network: TestNetwork, transport: str) -> None:
    with peer(network, ALICE, transport) as alice:
        assert alice.transact("OPTIONS", f"sip:{network.plan.sip_domain}", "<sip:roamphone.test>").status == 200


@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS"])
def test_options_is_answered_over_ipv4(network: TestNetwork, transport: str) -> None:
    plan = network.plan
    with Peer(network, "cn", str(plan.cn4), transport, proxy=str(plan.proxy4)) as phone:
        assert phone.transact("OPTIONS", f"sip:{plan.proxy4}", f"<sip:{plan.proxy4}>").status == 200


@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS"])
def test_registration_with_the_right_password(network: TestNetwork, transport: str) -> None:
    with peer(network, ALICE, transport) as alice:
        accepted = alice.register()
        assert accepted.status == 200
        assert f"{alice.host}:{alice.port}" in accepted.first("contact")
        removed = alice.register(expires=0)
        assert removed.status == 200
        assert not removed.all("contact")


def test_registration_with_a_wrong_password_is_challenged_again(network: TestNetwork) -> None:
    with peer(network, ALICE) as alice:
        assert alice.register(password="not-the-password").status == 401


def test_registration_of_somebody_else_is_refused(network: TestNetwork) -> None:
    with peer(network, ALICE) as alice:
        account = network.account("6002")
        uri, to = f"sip:{account.domain}", f"<sip:6002@{account.domain}>"
        challenge = alice.transact("REGISTER", uri, to).first("www-authenticate")
        mine = network.account("6001")
        answer = authorization(mine, mine.password, "REGISTER", uri, challenge)
        assert alice.transact("REGISTER", uri, to, f"Authorization: {answer}").status in (401, 403)


@pytest.mark.parametrize(("user", "status"), [("nobody", 404), ("6004", 480)])
def test_users_who_cannot_be_reached(network: TestNetwork, user: str, status: int) -> None:
    with peer(network, ALICE) as alice:
        alice.invite(user)
        assert alice.receive().status == status


def test_no_relay_for_strangers(network: TestNetwork) -> None:
    with peer(network, ALICE) as stranger:
        stranger.domain = "elsewhere.invalid"
        stranger.request("INVITE", "sip:victim@[2001:db8:5::5]", "<sip:victim@[2001:db8:5::5]>")
        assert stranger.receive().status == 403


@pytest.mark.parametrize(
    "pair",
    [("UDP", "UDP"), ("UDP", "TCP"), ("TCP", "UDP"), ("TLS", "TCP"), ("UDP", "TLS")],
    indirect=True,
    ids="-".join,
)
def test_call(pair: tuple[Peer, Peer]) -> None:
    """INVITE, 180, 200, ACK, BYE by the called side: through the proxy all the way, by its Record-Route."""
    alice, bob = pair
    alice.invite("6002")
    invite = bob.receive()
    assert invite.method == "INVITE"
    assert invite.all("record-route")
    assert "proxy-authorization" not in dict(invite.headers)
    bob.answer(invite, "180 Ringing")
    assert alice.receive().status == 180
    bob.answer(invite, "200 OK")
    accepted = alice.receive()
    assert accepted.status == 200

    routes = [f"Route: {route}" for route in reversed(accepted.all("record-route"))]
    target = accepted.first("contact").split("<")[1].split(">")[0]
    alice.request("ACK", target, accepted.first("to"), *routes, sequence=alice.sequence)
    assert bob.receive().method == "ACK"

    bye = hang_up(bob, invite)
    received = alice.receive()
    assert (received.method, received.first("call-id")) == ("BYE", bye)
    alice.answer(received, "200 OK")
    assert bob.receive().status == 200


def hang_up(bob: Peer, invite: Message) -> str:
    """BYE from the called side of a dialog; returns the Call-ID."""
    target = invite.first("contact").split("<")[1].split(">")[0]
    lines = [
        f"BYE {target} SIP/2.0",
        f"Via: SIP/2.0/{bob.transport} {bob.host}:{bob.port};branch={bob.branch()};rport",
        "Max-Forwards: 70",
        *(f"Route: {route}" for route in invite.all("record-route")),
        f"From: {invite.first('to')};tag={bob.tag}",
        f"To: {invite.first('from')}",
        f"Call-ID: {invite.first('call-id')}",
        "CSeq: 1 BYE",
        "Content-Length: 0",
    ]
    bob.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return invite.first("call-id")


@pytest.mark.parametrize("pair", [("UDP", "UDP"), ("TCP", "TLS")], indirect=True, ids="-".join)
def test_cancel(pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    branch = alice.invite("6002")
    invite = bob.receive()
    bob.answer(invite, "180 Ringing")
    assert alice.receive().status == 180

    alice.request(
        "CANCEL", "sip:6002@roamphone.test", "<sip:6002@roamphone.test>", branch=branch, sequence=alice.sequence
    )
    cancelled = alice.receive()
    assert (cancelled.status, cancelled.first("cseq").split()[1]) == (200, "CANCEL")
    cancel = bob.receive()
    assert cancel.method == "CANCEL"
    bob.answer(cancel, "200 OK")
    bob.answer(invite, "487 Request Terminated")
    assert bob.receive().method == "ACK"
    ended = alice.receive()
    assert ended.status == 487
    alice.request("ACK", "sip:6002@roamphone.test", ended.first("to"), branch=branch, sequence=alice.sequence)


@pytest.mark.parametrize("parameters", ["lr", "transport=udp;lr"])
def test_the_proxy_as_outbound_proxy(network: TestNetwork, parameters: str) -> None:
    """A Route that names the proxy itself, as phones with a fixed outbound proxy send it."""
    plan = network.plan
    route = f"Route: <sip:[{plan.proxy}]:{plan.sip_port};{parameters}>"
    with peer(network, ALICE) as alice:
        assert alice.transact("OPTIONS", f"sip:{plan.sip_domain}", f"<sip:{plan.sip_domain}>", route).status == 200
        register = alice.transact("REGISTER", f"sip:{plan.sip_domain}", f"<sip:6001@{plan.sip_domain}>", route)
        assert register.status == 401
        assert alice.transact("INVITE", f"sip:6002@{plan.sip_domain}", "<sip:6002@x>", route).status == 407


def test_routes_to_elsewhere_are_refused(network: TestNetwork) -> None:
    plan = network.plan
    route = f"Route: <sip:[{plan.proxy}]:{plan.sip_port};lr>,<sip:[2001:db8:5::5];lr>"
    with peer(network, ALICE) as alice:
        assert alice.transact("INVITE", f"sip:6002@{plan.sip_domain}", "<sip:6002@x>", route).status == 403


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"INVITE", b"INVITE sip: SIP/2.0\r\n\r\n", b"\r\n\r\n"])
def test_garbage_does_no_harm(network: TestNetwork, garbage: bytes) -> None:
    with peer(network, ALICE) as alice:
        alice.socket.sendall(garbage)
    test_options_is_answered_over_ipv6(network, "UDP")


def test_sha_256_and_a_restart(network: TestNetwork) -> None:
    """Kamailio comes and goes as a crash and a restart would have it; registrations are forgotten."""
    with peer(network, ALICE) as alice:
        network.stop_proxy()
        with pytest.raises(ConnectionRefusedError):
            alice.transact("OPTIONS", "sip:roamphone.test", "<sip:roamphone.test>")
        network.start_proxy("SHA-256")
        try:
            challenge = alice.transact("REGISTER", "sip:roamphone.test", "<sip:6001@roamphone.test>")
            assert challenge_parameters(challenge.first("www-authenticate"))["algorithm"] == "SHA-256"
            assert alice.register(password="wrong").status == 401
            assert alice.register().status == 200
        finally:
            network.stop_proxy()
            network.start_proxy("MD5")


def test_registrations_can_be_listed_with_kamcmd(network: TestNetwork) -> None:
    with peer(network, ALICE) as alice:
        assert alice.register().status == 200
        listing = subprocess.run(
            ["kamcmd", "-s", f"unix:{network.directory}/kamailio/ctl", "ul.dump"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout
        assert "6001" in listing
        assert alice.register(expires=0).status == 200
