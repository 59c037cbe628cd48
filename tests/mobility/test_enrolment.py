"""New terminals: what both ends get fits together, and what is brought to a terminal is looked at."""

from __future__ import annotations

import io
import stat
import zlib
from base64 import urlsafe_b64encode
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.cli import main
from mobility.config import Configuration, ConfigurationError, Role, Use, load, parse
from mobility.enrolment import SCHEME, Enrolled, Wishes, accept_invitation, enrol, invitation
from mobility.mipv6.tunnel import TunnelForm

HA = """
[node]
role = "ha"
[home_agent]
address = "2001:db8:1::a/64"
interface = "eth0"
"""
AGENT = IPv6Address("2001:db8:1::a")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ha.toml"
    path.touch(0o600)
    path.write_text(HA)
    return path


def agent_with(text: str, *enrolled: Enrolled) -> Configuration:
    files = [(Path(f"{one.name}.toml"), one.home_agent_file) for one in enrolled]
    return parse(text, Path("ha.toml"), lambda _directory: files)


@pytest.mark.parametrize("form", TunnelForm)
def test_both_ends_have_the_same_associations(form: TunnelForm) -> None:
    enrolled = enrol(agent_with(HA), Wishes("alice", tunnel=form, static_keys=True))
    agent = agent_with(HA, enrolled)
    terminal = parse(enrolled.terminal_file, Path("mn.toml"))
    assert agent.home_agent is not None
    assert terminal.mobile_node is not None
    served = agent.home_agent.terminals[0]
    assert (served.name, served.tunnel) == ("alice", form)
    assert served.home_address == terminal.mobile_node.home_address.ip == enrolled.home_address
    assert terminal.mobile_node.home_address.network == IPv6Network("2001:db8:1::/64")
    assert terminal.mobile_node.home_agent == AGENT
    uses = [Use.SIGNALLING, Use.HOME_TEST if form is TunnelForm.PLAIN else Use.TUNNEL]
    assert [pair.use for pair in terminal.associations] == uses
    for use in uses:
        theirs, ours = agent.pair(use, enrolled.home_address), terminal.pair(use, AGENT)
        assert theirs is not None
        assert ours is not None
        assert (theirs.outbound, theirs.inbound) == (ours.inbound, ours.outbound)
        assert ours.inbound.keys != ours.outbound.keys


def test_a_hundred_terminals_share_nothing() -> None:
    made: list[Enrolled] = []
    for number in range(100):
        made.append(enrol(agent_with(HA, *made), Wishes(f"terminal-{number}", static_keys=True)))
    agent = agent_with(HA, *made)
    directions = [side for pair in agent.associations for side in (pair.outbound, pair.inbound)]
    assert len({side.spi for side in directions}) == len({side.keys.encryption for side in directions}) == 400
    assert not {side.spi >> 28 for side in directions} & {0, 4, 6}
    assert len({one.home_address for one in made}) == 100


class Dice:
    """Falls as told, then counts."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)
        self.count = 0

    def __call__(self, length: int) -> bytes:
        if self.values and len(self.values[0]) == length:
            return self.values.pop(0)
        self.count += 1
        return bytes([0xA0]) + self.count.to_bytes(length - 1, "big")


def test_spis_that_are_taken_or_look_like_packets_are_thrown_again() -> None:
    first = enrol(agent_with(HA), Wishes("first", random_address(9), static_keys=True), Dice())
    taken = agent_with(HA, first).associations[0].inbound.spi.to_bytes(4, "big")
    unfit = [taken, b"\x45\0\0\1", b"\x60\0\0\1", b"\0\0\x10\x01", b"\0\0\0\0"]
    wishes = Wishes("second", random_address(8), static_keys=True)
    second = enrol(agent_with(HA, first), wishes, Dice(*unfit, b"\x51\0\0\1"))
    spis = {
        side.spi
        for pair in parse(second.terminal_file, Path("x")).associations
        for side in (pair.inbound, pair.outbound)
    }
    assert 0x51000001 in spis
    assert not spis & {int.from_bytes(one, "big") for one in unfit}


def random_address(number: int) -> IPv6Address:
    return IPv6Network("2001:db8:1::/64")[number]


@given(length=st.integers(100, 127), dice=st.binary(min_size=16, max_size=16))
def test_chosen_addresses_are_free_and_usable(length: int, dice: bytes) -> None:
    text = HA.replace("::a/64", f"::a/{length}").replace("::a/127", "::1/127")
    if length >= 125:
        text = text.replace("::a/", "::1/")
    agent = agent_with(text)
    assert agent.home_agent is not None
    network = agent.home_agent.address.network
    if length == 127:  # the router's anycast address, and the home agent
        with pytest.raises(ConfigurationError, match="--home-address"):
            enrol(agent, Wishes("alice"), Dice(dice))
        return
    address = enrol(agent, Wishes("alice"), Dice(dice)).home_address
    assert address in network
    assert address not in (network.network_address, agent.home_agent.address.ip)


def test_what_the_operator_knows_goes_to_the_terminal() -> None:
    text = HA + 'udp = ["198.51.100.7", "9.9.9.9"]\nudp_port = 4500\nipv4_pool = "10.1.0.0/24"\n'
    wishes = Wishes("alice", home_address4=IPv4Address("10.1.0.7"), dns=(IPv6Address("2001:db8:1::53"),))
    enrolled = enrol(agent_with(text), wishes)
    terminal = parse(enrolled.terminal_file, Path("mn.toml"))
    assert terminal.mobile_node is not None
    assert terminal.host_os is not None
    assert str(terminal.mobile_node.home_agent4) == "9.9.9.9"  # the other is not reachable from everywhere
    assert terminal.mobile_node.udp_port == 4500
    assert terminal.mobile_node.home_address4 is not None
    assert terminal.host_os.dns == (IPv6Address("2001:db8:1::53"),)
    told = enrol(agent_with(text), Wishes("bob", home_agent4=IPv4Address("9.1.1.1")))
    assert 'home_agent4 = "9.1.1.1"' in told.terminal_file


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        (Wishes("a/b"), "cannot name a terminal"),
        (Wishes(""), "cannot name a terminal"),
        (Wishes('x"\n[node]'), "cannot name a terminal"),
        (Wishes("alice"), "there is a terminal alice already"),
        (Wishes("bob", AGENT), "is taken already"),
        (Wishes("bob", IPv6Address("2001:db8:2::1")), "not in the home network"),
        (Wishes("bob", home_address4=IPv4Address("10.1.0.7")), "not in home_agent.ipv4_pool"),
        (Wishes("bob", dns=(IPv4Address("9.9.9.9"),)), "can only be asked with mobile_node.home_address4"),
    ],
)
def test_wishes_that_cannot_be(wishes: Wishes, why: str) -> None:
    agent = agent_with(HA, enrol(agent_with(HA), Wishes("alice")))
    with pytest.raises(ConfigurationError, match=why):
        enrol(agent, wishes)


# ---------------------------------------------------------------- invitations


def made() -> Enrolled:
    return enrol(agent_with(HA), Wishes("alice"))


def test_an_invitation_carries_the_file() -> None:
    enrolled = made()
    line = invitation(enrolled.terminal_file)
    assert line.startswith(SCHEME)
    assert line.isascii()
    broken = "\n ".join(line[at : at + 76] for at in range(0, len(line), 76))
    for received in (line, f" {line}\n", broken, line.replace(SCHEME, "RoamPhone:")):
        text = accept_invitation(received, Path("mn.toml"))
        assert parse(text, Path("x")) == parse(enrolled.terminal_file, Path("x"))


def packed(text: str) -> str:
    return SCHEME + urlsafe_b64encode(zlib.compress(text.encode())).decode()


def test_invitations_that_are_none() -> None:
    line = invitation(made().terminal_file)
    for wrong in ("", "roamphone", "https://example.org/", line.removeprefix(SCHEME)):
        with pytest.raises(ConfigurationError, match="no invitation"):
            accept_invitation(wrong, Path("x"))
    for damaged in (line[:-9], line[:40] + line[44:], SCHEME, SCHEME + "!!!", SCHEME + "ÄÖ", packed("x" * 9_000_000)):
        with pytest.raises(ConfigurationError, match="damaged"):
            accept_invitation(damaged, Path("x"))
    with pytest.raises(ConfigurationError, match="not for a terminal"):
        accept_invitation(packed(HA), Path("x"))
    with pytest.raises(ConfigurationError, match="home_agent: is missing"):
        accept_invitation(packed('[node]\nrole = "mn"\n[mobile_node]\nhome_address = "2001:db8::1/64"'), Path("x"))


@pytest.mark.parametrize("more", ['runtime = "/tmp/x"', 'state = "/etc/cron.d"'])
def test_an_invitation_does_not_say_where_files_go(more: str) -> None:
    text = made().terminal_file.replace('role = "mn"', f'role = "mn"\n{more}')
    with pytest.raises(ConfigurationError, match="more than an operator has to"):
        accept_invitation(packed(text), Path("x"))


@given(st.text(max_size=200))
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    for line in (text, SCHEME + text):
        with pytest.raises(ConfigurationError):
            accept_invitation(line, Path("x"))


# ---------------------------------------------------------------- commands


def test_add_and_remove(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--config", str(config)]
    assert main(["add-terminal", "alice", *where]) == 0
    said = capsys.readouterr()
    terminal = parse(said.out, Path("x"))
    assert terminal.role is Role.MOBILE_NODE
    assert f"mobility reload --config {config}" in said.err
    file = tmp_path / "ha.d" / "alice.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    agent = load(config).home_agent
    assert agent is not None
    assert terminal.mobile_node is not None
    assert [one.home_address for one in agent.terminals] == [terminal.mobile_node.home_address.ip]
    output = tmp_path / "bob.toml"
    assert main(["add-terminal", "bob", *where, "--output", str(output)]) == 0
    assert capsys.readouterr().out == ""
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert load(output).role is Role.MOBILE_NODE
    assert main(["remove-terminal", "alice", *where]) == 0
    assert [one.name for one in sorted(file.parent.iterdir())] == ["bob.toml"]
    assert main(["remove-terminal", "alice", *where]) == 2
    assert "there is no terminal alice; there are: bob" in capsys.readouterr().err


def test_only_files_with_keys_have_to_be_closed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.chmod(0o644)  # its keys are in the files of the terminals
    assert main(["add-terminal", "alice", "--config", str(config)]) == 0
    (tmp_path / "ha.d" / "alice.toml").chmod(0o640)
    assert main(["add-terminal", "bob", "--config", str(config)]) == 2
    assert f"chmod 600 {tmp_path}/ha.d/alice.toml" in capsys.readouterr().err
    (tmp_path / "ha.d" / "alice.toml").chmod(0o600)
    config.write_text(HA + made().home_agent_file.replace("alice", "carol"))
    assert main(["add-terminal", "bob", "--config", str(config)]) == 2
    assert f"chmod 600 {config}" in capsys.readouterr().err


def test_what_fails_leaves_nothing(config: Path, tmp_path: Path) -> None:
    where = ["--config", str(config)]
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert main(["add-terminal", "alice", *where, "--output", str(taken)]) == 1
    assert main(["add-terminal", "alice", *where, "--output", str(tmp_path / "no" / "where")]) == 1
    assert list((tmp_path / "ha.d").iterdir()) == []
    assert taken.read_text() == "mine"
    assert main(["add-terminal", "../alice", *where]) == 2
    assert main(["add-terminal", "alice", "--config", str(tmp_path / "missing.toml")]) == 2


def test_a_terminal_in_the_main_file_is_left_to_its_writer(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(HA + made().home_agent_file)
    assert main(["remove-terminal", "alice", "--config", str(config)]) == 2
    assert f"{config}: alice stands in this file" in capsys.readouterr().err


def test_import(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["add-terminal", "alice", "--config", str(config), "--uri"]) == 0
    line = capsys.readouterr().out
    own = tmp_path / "deep" / "mn.toml"
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    assert main(["import", "--output", str(own)]) == 0
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    first = load(own)
    assert main(["import", line, "--output", str(own)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["import", line.strip()[:-4], "--output", str(own), "--force"]) == 2
    assert load(own) == first
    assert main(["import", line, "--output", str(own), "--force"]) == 0
    assert load(own) == first


def test_the_qr_code_is_of_the_invitation(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add-terminal", "alice", "--config", str(config), "--qr"]) == 0
    *code, line = capsys.readouterr().out.splitlines()
    assert accept_invitation(line, Path("x"))
    width = len(code[0])
    assert {len(row) for row in code} == {width}
    assert len(code) == (width + 1) // 2
    assert width < 120
