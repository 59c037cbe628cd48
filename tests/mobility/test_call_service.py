"""Keys for calls, as phones ask for them by the control socket; and what a restarted data plane knows of them."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from mobility.application_events import ApplicationKeysFailed, ApplicationProtected, ApplicationUnprotected
from mobility.application_keys import MOST_CALLS, CallLease
from mobility.assembly import utc
from mobility.call_service import FILE, LONGEST_LEASE, CallService
from mobility.control import Refused
from mobility.correspondent import CorrespondentNode, CorrespondentSettings
from mobility.ipsec.ike.fingerprint import Fingerprint
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.key_source import ApplicationKeySettings
from mobility.links import LinkSettings
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node_certificate import self_signed
from mobility.terminal_parts import HostMtuChanged
from mobility.trace import Trace
from tests.mobility.whole import CN, HA, MN, randomness

OTHER = str(Fingerprint.of(self_signed(MN).certificate))
SECURE = {"call": "a", "peer": str(MN), "fingerprints": [OTHER], "active": False, "lease": 300}


class Plane:
    """A data plane without links, on clocks that we set."""

    def __init__(self, node: CorrespondentNode, directory: Path, *, boot: float = 1000.0, wall: float = 1.7e9) -> None:
        self.boot, self.wall = boot, wall
        self.node = node
        self.trace = Trace()
        self.plane = DataPlane(Loop(), node, {}, self.trace, clock=lambda: self.boot)
        self.service = CallService(node, directory, lambda: self.wall)
        self.service.start(self.plane)

    def ask(self, operation: str, **arguments: object) -> object:
        answer = self.service.operations()[operation](arguments)
        self.service.turned()
        return answer

    def calls(self) -> list[str]:
        return [each.call for each in self.leases()]

    def leases(self) -> list[CallLease]:
        keys = self.node.application_keys
        assert keys is not None
        return keys.calls()


def correspondent(settings: ApplicationKeySettings | None) -> CorrespondentNode:
    link = LinkSettings("eth0", bytes.fromhex("02000000cc01"), 1500)
    application = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
    return CorrespondentNode(
        CorrespondentSettings(CN, link, application_keys=settings), application, randomness("cn"), utc
    )


def with_calls() -> CorrespondentNode:
    return correspondent(ApplicationKeySettings(self_signed(CN)))


def test_a_phone_learns_what_to_tell_of_this_node(tmp_path: Path) -> None:
    node = with_calls()
    answer = Plane(node, tmp_path).ask("application-keys")
    keys = node.application_keys
    assert keys is not None
    assert keys.settings.credential is not None
    own = Fingerprint.of(keys.settings.credential.certificate)
    assert answer == {"address": str(CN), "fingerprint": str(own)}


def test_who_has_no_keys_for_calls_says_so(tmp_path: Path) -> None:
    for node in (correspondent(None), correspondent(ApplicationKeySettings(calls=False))):
        plane = Plane(node, tmp_path)
        for operation in ("application-keys", "offer-call", "secure-call", "release-call", "protection"):
            with pytest.raises(Refused, match=r"no keys for calls: it takes .*calls = false"):
                plane.ask(operation, **SECURE)


def test_a_call_is_secured_and_released(tmp_path: Path) -> None:
    plane = Plane(with_calls(), tmp_path)
    assert plane.ask("offer-call", call="offer", lease=60) == {}
    assert plane.ask("secure-call", **SECURE) == {"state": "negotiating", "algorithm": ""}
    assert plane.ask("secure-call", **{**SECURE, "call": "b", "active": True, "lease": 1}) == {
        "state": "negotiating",
        "algorithm": "",
    }
    assert plane.calls() == ["a", "b"]
    assert plane.ask("protection", peer=SECURE["peer"]) == {"state": "negotiating", "algorithm": ""}
    assert plane.ask("release-call", call="a") == {}
    assert plane.ask("release-call", call="nobody knows it") == {}
    assert plane.calls() == ["b"]
    kept = json.loads((tmp_path / FILE).read_text())
    assert [each["call"] for each in kept["calls"]] == ["b"]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"call": ""}, "call names the call"),
        ({"call": 7}, "call names the call"),
        ({"call": "x" * 257}, "call names the call"),
        ({"call": "a\nb"}, "call names the call"),
        ({"lease": 0}, "1 to 3600 seconds"),
        ({"lease": True}, "1 to 3600 seconds"),
        ({"lease": float("nan")}, "1 to 3600 seconds"),
        ({"lease": 3601}, "1 to 3600 seconds"),
        ({"lease": None}, "1 to 3600 seconds"),
        ({"peer": "example.org"}, "peer is the home address"),
        ({"peer": "192.0.2.1"}, "peer is the home address"),
        ({"peer": "fe80::1%eth0"}, "peer is the home address"),
        ({"peer": 1}, "peer is the home address"),
        ({"peer": str(CN)}, "is this node itself"),
        ({"peer": "ff02::1"}, "no address that keys"),
        ({"peer": "fe80::1"}, "no address that keys"),
        ({"peer": "::"}, "no address that keys"),
        ({"peer": "::1"}, "no address that keys"),
        ({"active": 1}, "active is true or false"),
        ({"fingerprints": []}, "1 to 16 texts"),
        ({"fingerprints": "sha-256 AA"}, "1 to 16 texts"),
        ({"fingerprints": [OTHER] * 17}, "1 to 16 texts"),
        ({"fingerprints": [7]}, "a fingerprint is a text"),
        ({"fingerprints": ["sha-1 " + ":".join(["AA"] * 20)]}, "only sha-256"),
        ({"fingerprints": ["sha-256 AA:BB"]}, "32 octets"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, wrong: Mapping[str, object], why: str) -> None:
    plane = Plane(with_calls(), tmp_path)
    with pytest.raises(Refused, match=why):
        plane.ask("secure-call", **{**SECURE, **wrong})
    assert plane.calls() == []
    assert not (tmp_path / FILE).exists()


def test_calls_are_limited(tmp_path: Path) -> None:
    plane = Plane(with_calls(), tmp_path)
    secure = plane.service.operations()["secure-call"]
    for number in range(MOST_CALLS):
        secure({**SECURE, "call": str(number)})
    with pytest.raises(Refused, match="release those that are over"):
        plane.ask("secure-call", **SECURE)
    plane.ask("secure-call", **{**SECURE, "call": "7"})
    plane.ask("release-call", call="7")
    plane.ask("secure-call", **SECURE)


def test_a_data_plane_that_is_started_again_knows_the_calls_of_before(tmp_path: Path) -> None:
    before = Plane(with_calls(), tmp_path)
    before.ask("secure-call", **SECURE)
    before.ask("secure-call", **{**SECURE, "call": "b", "active": True, "lease": 20})
    after = Plane(with_calls(), tmp_path, boot=5.0, wall=1.7e9 + 30)  # the machine was started anew
    assert after.calls() == ["a"]
    (lease,) = after.leases()
    assert (lease.peer, [str(each) for each in lease.fingerprints], lease.active) == (MN, [OTHER], False)
    assert lease.until == pytest.approx(5.0 + 270)
    assert after.ask("secure-call", **SECURE) == {"state": "negotiating", "algorithm": ""}
    # Nobody's clock makes a lease longer than it may be.
    assert Plane(with_calls(), tmp_path, wall=1.0e9).leases()[0].until == 1000 + LONGEST_LEASE
    assert Plane(with_calls(), tmp_path, wall=1.8e9).calls() == []


def test_calls_of_another_home_address_are_forgotten(tmp_path: Path) -> None:
    Plane(with_calls(), tmp_path).ask("secure-call", **SECURE)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace(f'"address": "{CN}"', f'"address": "{HA}"'))
    assert Plane(with_calls(), tmp_path).calls() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"7",
        b"[" * 100_000,
        f'{{"address": "{CN}"}}'.encode(),
        f'{{"address": "{CN}", "calls": [7]}}'.encode(),
        f'{{"address": "{CN}", "calls": [{{"call": "a"}}]}}'.encode(),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    plane = Plane(with_calls(), tmp_path)
    assert plane.calls() == []
    assert "is now" in caplog.text
    assert (tmp_path / f"{FILE}.broken").read_bytes() == content
    plane.ask("secure-call", **SECURE)
    assert Plane(with_calls(), tmp_path).calls() == ["a"]


def test_a_full_disk_is_no_reason_not_to_talk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("no directory")
    plane = Plane(with_calls(), tmp_path / "state")
    assert plane.ask("secure-call", **SECURE) == {"state": "negotiating", "algorithm": ""}
    assert "cannot be written" in caplog.text


def test_the_log_tells_what_becomes_of_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    service = Plane(with_calls(), tmp_path).service
    for event, words in (
        (ApplicationProtected(str(MN), "aes-gcm-16", "a, b"), "protected from now on (aes-gcm-16), for call a, b"),
        (ApplicationProtected(str(MN), "aes-gcm-16", ""), "protected from now on (aes-gcm-16)"),
        (ApplicationUnprotected(str(MN), "the call is over"), f"the keys with {MN} have ended: the call is over"),
        (ApplicationKeysFailed(str(MN), "it has another key"), f"no keys with {MN}: it has another key; packets wait"),
        (HostMtuChanged(1400), ""),
    ):
        caplog.clear()
        service.happened(event)
        assert words in caplog.text
        assert bool(caplog.records) is bool(words)
