"""Where the telephone system is: `--accounts FILE` has accounts of it, as in softphone.toml; without it a Kamailio."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from roamphone_pytest.recorder import Recorder
from roamphone_pytest.stage import Stage
from softphone import Phones, Softphone, WavSource


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accounts", type=Path, help="accounts of the system that is tested: alice, bob, carol")


class Pbx(Stage):
    """The system of the accounts."""

    def __init__(self, accounts: Path, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._entries = Phones.configured(accounts).configuration.entries

    def phone(self, user: str, **settings: Any) -> Softphone:
        entry = self._entries[user]
        return self.recorder.phone(entry.account(), entry.sockets())


@pytest.fixture
def pbx(request: pytest.FixtureRequest) -> Stage:
    accounts = request.config.getoption("--accounts")
    if accounts is not None:
        return Pbx(accounts, request.getfixturevalue("sip_recorder"))
    stage: Stage = request.getfixturevalue("sip_proxy")
    return stage


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> WavSource:
    """Something to say."""
    path = tmp_path_factory.mktemp("speech") / "hello.wav"
    subprocess.run(["espeak-ng", "-w", str(path), "Good evening. This is the nightly test."], check=True)
    return WavSource(path)
