"""What the engine PJSUA2 cannot do is said before anything is started. Calls: see tests/interop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softphone.accounts.accounts import load
from softphone.config import Account
from softphone.errors import ConfigError, Unsupported
from softphone.media.ice_description import IceSettings
from softphone.media.keying import Keying, SrtpMode
from softphone.pjsua.phone import PjsuaPhone, check
from softphone.sip.transport import Transport

HERE = "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"local_host": "2001:db8::1"}, "without IPv6: 2001:db8::1"),
        ({"domain": "2001:db8::2"}, "without IPv6"),
        ({"outbound_proxy": "sip:[2001:db8::3]"}, "without IPv6"),
        ({"transport": Transport.TLS}, "OpenSSL"),
        ({"transport": Transport.WS}, "does not use ws"),
        ({"codecs": ("opus",)}, "none of these codecs"),
        (
            {"srtp": SrtpMode.MANDATORY, "srtp_keying": (Keying.DTLS,), "srtp_offer": (Keying.DTLS,)},
            "has no DTLS",
        ),
        ({"ice": IceSettings(stun=("192.0.2.1", 3478))}, "ICE"),
    ],
)
def test_contradictions_are_told(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check(Account(**{"user": "alice", "domain": HERE, **settings}))


def test_the_configuration_tells_the_line(tmp_path: Path) -> None:
    file = tmp_path / "softphone.toml"
    file.write_text('[account.work]\naddress = "alice@example.org"\nengine = "pjsua2"\ntransport = "tls"\n')
    with pytest.raises(ConfigError, match=r"softphone.toml:1: account.work: the engine pjsua2 does not use tls"):
        load(file)
    file.write_text('[account.work]\naddress = "alice@example.org"\nengine = "asterisk"\n')
    with pytest.raises(ConfigError, match=r'softphone.toml:3: .*one of "roamphone", "pjsua2"'):
        load(file)
    file.write_text('[account.work]\naddress = "alice@example.org"\nengine = "pjsua2"\n')
    entry = load(file).entries["work"]
    phone = entry.phone(entry.account())
    assert isinstance(phone, PjsuaPhone)


def test_targets_for_the_engine() -> None:
    udp = PjsuaPhone(Account(user="alice", domain="example.org"))
    tcp = PjsuaPhone(Account(user="alice", domain="example.org", transport=Transport.TCP))
    assert udp.uri("bob") == "sip:bob@example.org"
    assert tcp.uri("bob@example.net") == "sip:bob@example.net;transport=tcp"
    assert tcp.uri("sip:bob@192.0.2.1;transport=udp") == "sip:bob@192.0.2.1;transport=udp"
    for target in ("sip:bob@[2001:db8::1]", "sips:bob@example.org"):
        with pytest.raises(Unsupported, match="engine roamphone"):
            udp.uri(target)
