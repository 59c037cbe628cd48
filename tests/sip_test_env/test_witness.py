"""What the demo's witness makes of packets that tshark has read."""

from __future__ import annotations

from sip_test_env.witness import Seen, count

MN, CN, PROXY = "2001:db8:1::100", "2001:db8:5::5", "2001:db8:8::8"
ENDS = {MN, CN}


def test_packets_between_the_two_ends_are_told_apart() -> None:
    rows = [
        [MN, CN, "50", ""],
        [CN, MN, "50", ""],
        [CN, MN, "17", "500"],
        [CN, PROXY, "17", "5060"],
        [CN, MN, "17", "4000"],
        [f"{CN},{MN}", f"{MN},{CN}", "58,17", "4000"],  # an ICMPv6 error with a packet in it
    ]
    assert count(rows, ENDS) == Seen(esp=2, ike=1, clear=2)
    assert count([], ENDS) == Seen(0, 0, 0)


def test_clear_packets_and_audio_outside_of_esp_are_complaints() -> None:
    assert Seen(esp=600, ike=4, clear=0).complaints(600) == []
    assert Seen(esp=600, ike=4, clear=0).as_text().endswith("600 packets under ESP, 4 of IKE, none in clear")
    (clear,) = Seen(esp=600, ike=4, clear=2).complaints(600)
    assert clear.startswith("2 packets")
    (missing,) = Seen(esp=0, ike=0, clear=0).complaints(600)
    assert "only 0 passed" in missing
