"""The configuration of accounts: what it says, what is wrong in it and where, secrets, several phones at once."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import keyring
import pytest
from keyring import backend

from softphone.accounts.accounts import AccountEntry, Network, Phones, load
from softphone.accounts.editing import add_account, remove_account
from softphone.accounts.passwords import CommandPassword, EnvironmentPassword, FilePassword, KeyringPassword
from softphone.accounts.settings import SETTINGS
from softphone.config import Account, AutoAnswer
from softphone.errors import CallError, ConfigError
from softphone.network.sockets import HomeSockets
from softphone.paths import default_home_socket, default_path
from softphone.people.history import CallResult, History
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.softphone.support import FakeMedia, simulate

FULL = """
default = "work"

[account.home]
address = "sip:alice@example.net"  # at home

[account.work]
address = "alice%2Bsip@example.org"
transport = "tls"
ca_file = "ca.pem"
codecs = [
  "opus",
  "PCMA",
]
media_timeout = false
auto_answer = "asked"
password_env = "SIP_PASSWORD"
network = "home"
home_socket = "/run/other/host.sock"
voicemail = "*97"

[account.work.ice]
stun = "192.0.2.1"
turn = "192.0.2.2:3479"
turn_user = "a"
turn_password_command = ["printf", "geheim"]
"""


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "softphone.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def complaint(directory: Path, text: str) -> str:
    path = written(directory, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).removeprefix(f"{path}:")


def test_what_a_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = load(written(tmp_path, FULL))
    assert list(configuration.entries) == ["home", "work"]
    work = configuration.entries["work"]
    assert work.settings.user == "alice+sip"
    assert work.settings.transport is Transport.TLS
    assert work.settings.ca_file == tmp_path / "ca.pem"
    assert work.settings.codecs == ("opus", "PCMA")
    assert work.settings.media_timeout is None
    assert work.settings.auto_answer is AutoAnswer.ASKED
    assert work.network is Network.HOME
    assert isinstance(work.sockets(), HomeSockets)
    assert work.settings.voicemail == "*97"
    monkeypatch.setenv("SIP_PASSWORD", "geheim1")
    account = work.account()
    assert account.password == "geheim1"
    assert account.ice is not None
    assert account.ice.turn == ("192.0.2.2", 3479)
    assert account.ice.turn_password == "geheim"
    assert "geheim" not in repr(account) + repr(work) + repr(configuration)


def test_every_setting_of_an_account_can_be_configured() -> None:
    other = {"user", "domain", "password", "ice"}  # address, password and its kin, [account.NAME.ice]
    assert {field.name for field in dataclasses.fields(Account)} == set(SETTINGS) | other


ACCOUNT = '[account.a]\naddress = "alice@example.org"\n'


@pytest.mark.parametrize(
    ("text", "start", "why"),
    [
        ('[account.a]\naddress = "alice@example.org', "2:", "Unterminated"),
        (ACCOUNT + 'transprot = "tcp"\n', "3: account.a.transprot:", "did you mean transport?"),
        (ACCOUNT + "zzzzzzzzzz = 1\n", "3: account.a.zzzzzzzzzz:", "there are address, "),
        (ACCOUNT + 'codecs = [\n  "opus",\n  "G.999",\n]\n', "3: account.a.codecs:", "G.999"),
        (ACCOUNT + 'transport = "sctp"\n', "3: account.a.transport:", 'one of "udp", "tcp"'),
        (ACCOUNT + 'x = """\nexpires = 3\n"""\nexpires = -1\n', "6: account.a.expires:", "a number from 1"),
        (ACCOUNT + "password = 7\n", "3: account.a.password:", "this is not a text"),
        (ACCOUNT + 'password = "x"\npassword_env = "P"\n', "4: account.a.password_env:", "beside password"),
        (ACCOUNT + 'certificate = "c.pem"\n', "1: account.a:", "both certificate and private_key"),
        (ACCOUNT + "[account.a.ice]\nstun = 'stun.example.org'\n", "4: account.a.ice.stun:", "numeric address"),
        (ACCOUNT + 'ipsec = "mandatory"\n', "3: account.a.ipsec:", 'network = "home"'),
        (ACCOUNT + 'home_socket = "/x"\n', "3: account.a.home_socket:", "network"),
        ("[account.a]\n", "1: account.a.address:", "is missing; expected is a SIP address"),
        ('[account.a]\naddress = "alice@[::1]:5080"\n', "2: account.a.address:", "port belongs into registrar"),
        ("account = 3\n", "1: account:", "has to be a table"),
        ('default = "b"\n' + ACCOUNT, "1: default:", "there is no account 'b'; there are a"),
        ("acount = 3\n", "1: acount:", "did you mean account?"),
        ("a = 1\n# \x01", "2:", "character"),
        ("a = " + "[" * 20000, "", ""),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, start: str, why: str) -> None:
    told = complaint(tmp_path, text)
    assert told.startswith(start)
    assert why in told
    assert len(told) < 800


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "softphone.toml"
    with pytest.raises(ConfigError, match="No such file"):
        load(path)
    path.write_bytes(b"# fine\n\xff\n")
    with pytest.raises(ConfigError, match=r"softphone.toml:2: is not UTF-8"):
        load(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="more than"):
        load(path)


def test_a_file_with_a_password_is_closed_to_others(tmp_path: Path) -> None:
    path = written(tmp_path, ACCOUNT + 'password = "geheim"\n', 0o640)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        load(path)
    assert "geheim" not in str(caught.value)
    path.chmod(0o600)
    entry = load(path).entries["a"]
    assert entry.account().password == "geheim"
    assert "geheim" not in repr(entry)


def test_passwords_in_files(tmp_path: Path) -> None:
    file = FilePassword(tmp_path / "new" / "password")
    file.write("pässword")
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.read() == "pässword"
    file.path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        file.read()
    with pytest.raises(ConfigError, match="No such file"):
        FilePassword(tmp_path / "nothing").read()
    os.mkfifo(pipe := tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="not a file"):
        FilePassword(pipe).read()


def test_commands_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CommandPassword((sys.executable, "-c", "print('secret'); print('more')")).read() == "secret"
    for arguments, why in [
        ((sys.executable, "-c", "raise SystemExit(3)"), "status 3"),
        (("/nonexistent",), "cannot be run"),
        ((sys.executable, "-c", ""), "first line"),
    ]:
        with pytest.raises(ConfigError, match=why):
            CommandPassword(arguments).read()
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_PASSWORD"):
        EnvironmentPassword("NO_SUCH_PASSWORD").read()


def test_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(backend.KeyringBackend):
        priority = 1

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.kept: dict[tuple[str, str], str] = {}

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            if username == "full":
                raise RuntimeError(f"no room for {password}")
            self.kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.kept[service, username]

    monkeypatch.setattr(keyring.core, "_keyring_backend", Memory())
    kept = KeyringPassword("work/alice")
    with pytest.raises(ConfigError, match="keyring set roamphone work/alice"):
        kept.read()
    kept.write("geheim")
    assert kept.read() == "geheim"
    kept.delete()
    with pytest.raises(ConfigError, match="KeyError"):
        kept.delete()
    with pytest.raises(ConfigError) as caught:
        KeyringPassword("full").write("geheim")
    assert "geheim" not in str(caught.value)


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert default_path() == Path("/c/roamphone/softphone.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # to be ignored, says the specification
    assert default_path() == Path.home() / ".config/roamphone/softphone.toml"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_home_socket() == Path("/run/user/1000/roamphone/mn/host.sock")


def test_editing_keeps_what_people_wrote(tmp_path: Path) -> None:
    path = written(tmp_path, "# mine\n" + FULL)
    add_account(path, "third", {"address": "bob@example.com", "register": False})
    assert load(path).entries["third"].settings.register is False
    assert path.read_text().startswith("# mine\n" + FULL)
    remove_account(path, "work")
    assert path.read_text().startswith('# mine\n\n\n[account.home]\naddress = "sip:alice@example.net"  # at home')
    assert load(path).default is None
    with pytest.raises(ConfigError, match="already"):
        add_account(path, "home", {"address": "x@example.com"})
    with pytest.raises(ConfigError, match="no account 'work'"):
        remove_account(path, "work")
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"softphone.toml:\d+: account.fourth.expires"):
        add_account(path, "fourth", {"address": "x@example.com", "expires": 0})
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == ["softphone.toml"]


def test_several_accounts_run_at_once_and_one_that_cannot_stops_no_other(tmp_path: Path) -> None:
    direct = 'local_host = "::1"\nregister = false\n'
    path = written(
        tmp_path,
        f'default = "two"\n[account.one]\naddress = "a@one.example"\n{direct}'
        f'[account.two]\naddress = "b@two.example"\n{direct}'
        '[account.broken]\naddress = "c@three.example"\npassword_file = "missing"\n'
        '[account.away]\naddress = "d@four.example"\nnetwork = "home"\nhome_socket = "missing.sock"\n',
    )

    async def work() -> None:
        media = FakeMedia.factory([])

        def make(entry: AccountEntry, account: Account) -> Softphone:
            return Softphone(account, entry.sockets(), media=media)

        async with Phones(load(path), make) as phones:
            assert list(phones.running) == ["one", "two"]
            assert "missing" in str(phones.failures["broken"])
            assert "no home address" in str(phones.failures["away"])
            assert phones.choose("sip:x@ONE.example").account.user == "a"
            assert phones.choose("x@elsewhere.example").account.user == "b"
            assert phones.choose("123").account.user == "b"
            assert phones["one"].port != phones["two"].port
            call = await phones["one"].dial(f"sip:b@[::1]:{phones['two'].port}")
            incoming = await anext(phones["two"].incoming())
            await incoming.answer()
            await call.answered(5)
            (tmp_path / "missing").write_text("geheim\n")
            (tmp_path / "missing").chmod(0o600)
            with pytest.raises(ConfigError, match="does not run"):
                phones["nobody"]
            with pytest.raises(ConfigError, match="there are one, two"):
                await phones.start_one("nobody")
        assert not phones.running

    simulate(work)


def test_the_phones_of_all_accounts_share_a_history(tmp_path: Path) -> None:
    path = written(tmp_path, ACCOUNT + 'local_host = "::1"\nregister = false\n')

    async def work() -> None:
        with History(tmp_path / "history.db") as history:
            async with Phones(load(path), history=history) as phones:
                phones["a"].do_not_disturb = True
                call = await phones["a"].dial(f"sip:alice@[::1]:{phones['a'].port}")
                with pytest.raises(CallError):
                    await call.answered(5)
            assert {(each.account, each.result) for each in history.calls()} == {
                ("a", CallResult.REFUSED), ("a", CallResult.FAILED),
            }  # fmt: skip

    simulate(work)
