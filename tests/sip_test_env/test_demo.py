"""What the demo is told to do, before it builds anything."""

from __future__ import annotations

import pytest

from sip_test_env.demo import main


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seconds", "1"], "--seconds"),
        (["--seconds", "6", "--handovers", "3"], "--handovers"),
        (["--capture", "/nowhere/at/all.pcapng"], "--capture"),
        (["--tunnel", "gre"], "--tunnel"),
    ],
)
def test_usage_errors_say_what_to_change(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
