"""Scenarios: what may stand in the file, and what is told about mistakes."""

from __future__ import annotations

import importlib
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from softphone.errors import ConfigError
from softphone.load.pacing import Offer
from softphone.load.scenario import SOUND_RATE, read_scenario
from softphone.load.share import shares

ACCOUNTS = """
[account.alice]
address = "alice@home.test"
[account.bob]
address = "bob@home.test"
[account.carol]
address = "carol@home.test"
register = false
local_host = "::1"
local_port = 5070
"""


def written(folder: Path, text: str, accounts: str = ACCOUNTS) -> Path:
    path = folder / "evening.toml"
    path.write_text(text + accounts)
    return path


def test_a_whole_one(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "hello.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    path = written(tmp_path, """
name = "Evening"
callers = ["alice"]
answerers = ["bob", "carol"]
[call]
say = "hello.wav"
dtmf = "12#a"
talk = 2
think = 0.5
timeout = 7
[answer]
say = "tone:440"
ring = 0.1
[expect]
answered = 0.99
loss = 0.01
""")  # fmt: skip
    scenario = read_scenario(path)
    assert scenario.name == "Evening"
    assert scenario.targets == ("sip:bob@home.test", "sip:carol@[::1]:5070")
    assert (scenario.calling.dtmf, scenario.calling.talk, scenario.calling.timeout) == ("12#A", 2.0, 7.0)
    assert scenario.calling.sound is not None
    assert len(scenario.calling.sound) == pytest.approx(SOUND_RATE / 2, abs=100)
    tone = scenario.answering.sound
    assert tone is not None
    assert int(np.abs(np.fft.rfft(tone)).argmax()) == 440
    assert (scenario.expected.answered, scenario.expected.loss, scenario.expected.mos_p05) == (0.99, 0.01, None)


def test_whoever_does_not_answer_calls(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, 'answerers = ["bob"]\n'))
    assert [entry.name for entry in scenario.callers] == ["alice", "carol"]
    assert scenario.name == "evening"
    assert scenario.calling.sound is None


def test_accounts_of_the_phone(tmp_path: Path) -> None:
    configuration = tmp_path / "softphone.toml"
    configuration.write_text(ACCOUNTS)
    path = written(tmp_path, 'callers = ["bob"]\ntargets = ["sip:6002@home.test"]\n', "")
    assert [entry.name for entry in read_scenario(path, configuration).callers] == ["bob"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"nobody is called: add targets, or answerers"),
        ('answerers = ["bob", "alice", "carol"]', "nobody calls"),
        ('answerers = ["dave"]', r"evening.toml:1: answerers: there is no account 'dave'; there are alice, bob, carol"),
        ('targets = ["tel"]', r"evening.toml:1: targets: .* is not a list of SIP URIs"),
        ('targets = ["sip:x@y"]\n[call]\nsay = "nothing.wav"', r"evening.toml:3: call.say: .*No such file"),
        ('targets = ["sip:x@y"]\n[call]\nsay = "tone:5"', "a tone is .*20 to 20000 Hz"),
        ('targets = ["sip:x@y"]\n[call]\ndtmf = "12x"', "is not .*on the keypad|is not keys of the keypad"),
        ('targets = ["sip:x@y"]\n[call]\ntalk = -1', "is not a number of seconds"),
        ('targets = ["sip:x@y"]\n[call]\nstatus = 486', "call.status: is not known here"),
        ('targets = ["sip:x@y"]\n[answer]\nstatus = 204', "is not 200, or the status of a refusal"),
        ('targets = ["sip:x@y"]\n[expect]\nanswered = 99', "is not a share from 0 to 1"),
        ('targets = ["sip:x@y"]\n[expect]\nmos = 4', "did you mean mos_p05"),
        ('target = ["sip:x@y"]', "did you mean targets"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_scenario(written(tmp_path, f"{text}\n"))


def test_answerers_without_a_port_cannot_be_called(tmp_path: Path) -> None:
    accounts = ACCOUNTS.replace("local_port = 5070\n", "")
    with pytest.raises(ConfigError, match="carol does not register; give it local_host and local_port, or say targets"):
        read_scenario(written(tmp_path, 'answerers = ["carol"]\n', accounts))


def test_accounts_are_dealt_out(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, 'answerers = ["carol"]\n'))
    work = shares(scenario, Offer(3, 30, 10.0, 100), 3)
    assert [[party.account.user for party in share.callers] for share in work] == [["alice"], ["bob"], ["alice"]]
    assert [len(share.answerers) for share in work] == [1, 0, 0]
    assert [share.offer.rate for share in work] == [1, 1, 1]


def test_a_cluster_without_dask_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "softphone.load.cluster", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'roamphone\[cluster\]'"):
        importlib.import_module("softphone.load.cluster")


def test_another_engine_is_refused(tmp_path: Path) -> None:
    accounts = ACCOUNTS.replace("[account.bob]", 'local_host = "127.0.0.1"\nengine = "pjsua2"\n[account.bob]')
    scenario = read_scenario(written(tmp_path, 'answerers = ["carol"]\n', accounts))
    with pytest.raises(ConfigError, match="account alice: load is for the phone's own engine"):
        shares(scenario, Offer(3, 30, 10.0, 100), 3)
