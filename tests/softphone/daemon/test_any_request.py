"""Whatever a client asks for with whatever arguments: it gets an answer, and the daemon does not fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import RequestError, decoded, encoded
from softphone.daemon.server import Daemon
from softphone.phone import Softphone
from tests.softphone.daemon.support import answered, with_bob

ARGUMENTS = {
    "answer": ("call", "account"), "reject": ("call", "account", "status"), "hold": ("call", "account"),
    "resume": ("call", "account"), "mute": ("call", "account", "on"), "transfer": ("call", "target", "to_call"),
    "transfer-accept": ("call",), "transfer-refuse": ("call",), "conference": ("calls",),
    "conference-leave": ("call", "account"), "dtmf": ("digits",), "play": ("file",), "record": ("file",),
    "note": ("call", "account", "text"), "messages": ("peer", "account", "limit"),
    "history": ("limit", "account", "search", "result", "before"), "history-remove": ("entry",),
    "contacts": ("search", "limit"), "contact-save": ("name", "reaches", "uid", "instead_of"),
    "contact-remove": ("name",), "complete": ("text",), "presence": ("status", "note", "activities", "account"),
    "unwatch": ("uri", "kind", "account"), "watched": (), "dnd": ("on", "account"), "sip-messages": ("call", "limit"),
    "accounts": (), "account-save": ("name", "values"), "account-remove": ("name",), "settings": (),
    "settings-save": ("name", "value"), "reload": (), "subscribe": ("topics",), "status": (),
}  # fmt: skip
"Not those that reach for a network."
WORDS = st.sampled_from(
    ["work", "broken", "open", "missed", "calls", "events", "hooks.missed", "hooks.timeout", "default", "sip:[::1",
     "1#", "bob@example.org", "/nowhere/x.wav", "", "\ud800", "\0", "a\nb", "x" * 5000]
)  # fmt: skip
EXTREMES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 1, 2**70, -(2**70), float("nan"), "", "\ud800", "\0", "work", [], {}]
)
KEYS = st.sampled_from(["address", "kind", "password", "transport", "expires", "codecs", "ice", "stun", "local_host"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-1, 9) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | WORDS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    operation = draw(st.sampled_from(sorted(ARGUMENTS)))
    names = ARGUMENTS[operation]
    wanted = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    return operation, {name: draw(EXTREMES | VALUES) for name in wanted}


@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(st.lists(requests(), min_size=5, max_size=40))
def test_any_request(tmp_path: Path, asked: list[tuple[str, dict[str, object]]]) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        assert set(ARGUMENTS) <= daemon.service.operations.keys() | {"subscribe"}
        async with DaemonClient(daemon.path) as client:
            await answered(client, bob)
            for operation, arguments in asked:
                why = ""
                try:
                    await client.request(operation, **arguments)
                except RequestError as exc:
                    why = str(exc)
                assert "the daemon failed" not in why, (operation, arguments, why)
            await client.request("status")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softphone.accounts.passwords.keyring_works", lambda: False)
        with_bob(tmp_path, test)


@given(st.dictionaries(st.text(), VALUES))
def test_every_text_survives_the_line(message: dict[str, object]) -> None:
    line = encoded(message)
    assert line.count(b"\n") == 1
    assert str(decoded(line)) == str(message)  # as text: NaN is not equal to itself
