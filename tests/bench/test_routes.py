"""The section on routes: octets are those of the headers that RFCs prescribe; the detour is really spared."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bench import octets, routes
from mobility.ipsec.algorithms import Algorithm
from sip_test_env.report import Stream

IPV6, IPV4, UDP = 40, 20, 8
FORMS = {"tunnel": "esp native", "direct": "direct"}
DIRECTLY = 24
"The Home Address option with its header, and the type 2 routing header."


def esp(length: int, *, inside: int = 0) -> int:
    """Octets of ESP (AES-GCM: SPI, sequence number, initialisation vector, trailer to a multiple of 4, tag)."""
    return 4 + 4 + 8 + -(-(length + inside + 2) // 4) * 4 + 16


def test_every_form_has_the_octets_that_its_headers_have() -> None:
    measured = cast(dict[str, Any], octets.measure())
    packet, found = measured["packet"], measured["on_the_wire"]
    speech = UDP + packet["udp_payload"]
    assert packet["ipv6"] == IPV6 + speech == 156
    expected = {}
    for name, protected in (("application_esp", True), ("without", False)):
        program = IPV6 + (esp(speech) if protected else speech)
        bodies = {"plain": program, "esp-mobile": esp(program, inside=IPV6), "esp": esp(program)}
        expected["direct", name] = program + DIRECTLY
        for form, body in bodies.items():
            expected[f"{form} native", name] = IPV6 + body
            expected[f"{form} udp6", name] = IPV6 + UDP + body
            expected[f"{form} udp4", name] = IPV4 + UDP + body
    assert {(form, name): row[name]["out"] for form, row in found.items() for name in row} == expected
    assert {(form, name): row[name]["in"] for form, row in found.items() for name in row} == expected
    assert found["direct"]["without"]["added"] == DIRECTLY
    assert Algorithm.AES_GCM_16.room(esp(1000)) >= 1000, "the test counts as the engine does"


def test_translation_changes_the_header_and_nothing_else() -> None:
    measured = cast(dict[str, Any], octets.translation())
    assert measured["octets"] == {"program": 136, "sent": 156, "added": 20}
    assert 0 < measured["us_out"] < 1000
    assert 0 < measured["us_in"] < 1000


def test_delays_are_of_the_packets_sent_meanwhile_at_their_first_arrival() -> None:
    sent = [(float(number), number) for number in range(5)]
    arrived = [(0.5, 0), (1.04, 1), (2.05, 2), (2.9, 2), (4.9, 4)]
    assert routes._delay(Stream(sent, arrived), 1.0, 4.0) == {"p50": 50.0, "p95": 50.0}


def test_overtaken_is_what_comes_after_a_later_one() -> None:
    assert routes._overtaken([0, 1, 4, 2, 3, 5]) == 2
    assert routes._overtaken([]) == 0


@pytest.mark.root
@pytest.mark.alone
@pytest.mark.interop
def test_the_detour_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "SECONDS", 1.5)
    measured = cast(dict[str, Any], routes.measure())
    delay, wire = measured["delay"], measured["octets"]["on_the_wire"]
    for name, apart in (("detour", 0.0), ("triangle", 40.0)):
        figures = delay[name]
        assert figures["lost"] == 0
        assert figures["packets"] > 200
        expected = {way: wire[form]["application_esp"]["out"] for way, form in FORMS.items()}
        assert figures["octets"] == expected, "the network in memory has other packets than the real one"
        for direction in ("to_mn", "to_cn"):
            assert apart <= figures["direct"][direction]["p50"] < apart + 10
            assert 40 <= figures["tunnel"][direction]["p50"] - figures["direct"][direction]["p50"] < 50
        assert figures["optimized_ms"] > 80, "the test of the home address goes through the home agent and back"
