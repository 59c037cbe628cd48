"""Configurations in files: who may read them, and files of their own for terminals."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from mobility.config import ConfigurationError, Role, Use, default_runtime, default_state, load
from tests.mobility.configurations import HA, MN, PAIRS, agent, pair


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mn.toml"
    path.touch(0o600)
    path.write_text(MN + PAIRS)
    assert load(path, role=Role.MOBILE_NODE).path == path
    with pytest.raises(ConfigurationError, match=f"is for role mn: start it with `mobility mn --config {path}`"):
        load(path, role=Role.HOME_AGENT)


def test_directories_of_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_runtime(Role.HOME_AGENT) == Path("/run/roamphone/ha")
    assert default_state(Role.HOME_AGENT) == Path("/var/lib/roamphone/ha")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_runtime(Role.MOBILE_NODE) == Path("/run/user/1000/roamphone/mn")
    assert default_state(Role.MOBILE_NODE) == Path("/home/u/state/roamphone/mn")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_runtime(Role.MOBILE_NODE) == Path("/home/u/state/roamphone/mn/run")


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mn.toml"
    path.write_text(MN + PAIRS)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        load(path)
    path.write_text(MN + 'tunnel = "plain"\nsignalling = "none"\n')
    assert load(path).associations == ()


def terminal_file(number: int, *, pairs: bool = True) -> str:
    peer = f"2001:db8:1::{number}"
    text = f'[[home_agent.terminal]]\nhome_address = "{peer}"\nname = "t{number}"\n'
    if pairs:
        text += pair("signalling", 0x1000 + number, f'peer = "{peer}"') + pair(
            "tunnel", 0x2000 + number, f'peer = "{peer}"'
        )
    return text


def agent_files(tmp_path: Path, files: dict[str, str], keys: str = "", directory: str = "ha.d") -> Path:
    path = tmp_path / "ha.toml"
    path.touch(0o600)
    path.write_text(agent(keys))
    (tmp_path / directory).mkdir(mode=0o700)
    for name, text in files.items():
        file = tmp_path / directory / name
        file.touch(0o600)
        file.write_text(text)
    return path


def test_terminals_have_files_of_their_own(tmp_path: Path) -> None:
    files = {
        "b.toml": terminal_file(300),
        "a.toml": terminal_file(200),
        "c.toml.new": "= half written",
        ".d.toml": "= an editor's",
    }
    read = load(agent_files(tmp_path, files))
    assert read.home_agent is not None
    assert read.home_agent.directory == tmp_path / "ha.d"
    assert [terminal.name for terminal in read.home_agent.terminals] == ["2001:db8:1::100", "t200", "t300"]
    assert len(read.associations) == 6
    tunnel = read.pair(Use.TUNNEL, IPv6Address("2001:db8:1::300"))
    assert tunnel is not None
    assert (tunnel.inbound.spi, tunnel.where) == (0x2000 + 301, f"{tmp_path}/ha.d/b.toml: association[1]")


def test_the_directory_of_terminals_may_be_anywhere(tmp_path: Path) -> None:
    path = agent_files(tmp_path, {"a.toml": terminal_file(200)}, 'terminals = "people"', "people")
    read = load(path)
    assert read.home_agent is not None
    assert len(read.home_agent.terminals) == 2


TERMINAL_MISTAKES = {
    "no toml": ("=", "a.toml: is not TOML"),
    "other tables": (
        terminal_file(200) + "[node]\n",
        "a.toml: node: is not known here; there are association, home_agent",
    ),
    "other keys": (
        "[home_agent]\nudp_port = 1\n",
        "a.toml: home_agent.udp_port: is not known here; there are terminal",
    ),
    "no keys": (
        terminal_file(200, pairs=False),
        'a.toml: association: one with use = "signalling" and peer = "2001:db8:1:',
    ),
    "taken": (terminal_file(100), "a.toml: home_agent.terminal[0].home_address: 2001:db8:1::100 is taken already"),
    "taken SPI": (
        terminal_file(200).replace("= 4297,", "= 4098,"),
        "a.toml: association[0].inbound.spi: 0x1002 is taken",
    ),
    "application": (
        terminal_file(200) + pair("application", 0x7000, 'peer = "2001:db8::1"'),
        "a.toml: association[2].use: a home agent has no applications",
    ),
}


@pytest.mark.parametrize(("text", "expected"), TERMINAL_MISTAKES.values(), ids=TERMINAL_MISTAKES.keys())
def test_mistakes_in_files_of_terminals_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(agent_files(tmp_path, {"a.toml": text}))
    assert str(caught.value).startswith(f"{tmp_path}/ha.d/")
    assert expected in str(caught.value)


def test_files_of_terminals_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = agent_files(tmp_path, {"a.toml": terminal_file(200)})
    (tmp_path / "ha.d/a.toml").chmod(0o604)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {tmp_path}/ha.d/a.toml"):
        load(path)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ha.toml"
    bare = HA + 'tunnel = "plain"\nsignalling = "none"\n'
    path.write_text(bare + '[store]\nkind = "redis"\nurl = "redis://:word@h"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load(path)
    path.write_text(bare + '[store]\nkind = "redis"\nurl = "redis://h"\n')
    assert load(path).store is not None


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "nothing.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xe4\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load(path)
