"""On real processes: a terminal that knows no home agent finds one, and its home network is renumbered in mid call.

Its keys are negotiated with either.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from mobility.client import HostClient
from sip_test_env.plan import ROUTER_INTERFACE

from .home_agents import FIRST, SECOND, HomeAgents, eventually, home_agents, ip

pytestmark = [pytest.mark.root, pytest.mark.interop]

OLD, NEW = "2001:db8:1::100", "2001:db8:2::100"
OLD_AGENT, NEW_AGENT = "2001:db8:1::a", "2001:db8:2::a"
RADVD = """
interface {interface} {{
    AdvSendAdvert on; MinRtrAdvInterval 1; MaxRtrAdvInterval 2; MinDelayBetweenRAs 0.03;
    prefix 2001:db8:1::1/64 {{ AdvRouterAddr on; AdvPreferredLifetime 0; AdvValidLifetime 7200; }};
    prefix 2001:db8:2::1/64 {{ AdvRouterAddr on; AdvPreferredLifetime 3600; AdvValidLifetime 7200; }};
}};
"""


@pytest.fixture(scope="module")
def agents() -> Iterator[HomeAgents]:
    with home_agents(keys="prefix_intervals = [0.5, 1]\nadvertise = 4", second=True, negotiate=True) as (made, _):
        configure(made)
        yield made


def configure(made: HomeAgents) -> None:
    """The terminal has a token for whichever home agent it is; the second one knows it for the address to come."""
    terminal = made.nodes.configurations["mn"]
    text = terminal.read_text().replace(f'home_agent = "{OLD_AGENT}"', 'home_agent = "discover"')
    terminal.write_text(text.replace(f'peer = "{OLD_AGENT}"\n', ""))
    second = made.configurations[SECOND]
    text = second.read_text().replace(f'address = "{OLD_AGENT}/64"', f'address = "{NEW_AGENT}/64"')
    second.write_text(text.replace(OLD, NEW))
    correspondent = made.nodes.configurations["cn"]  # whose policies name the address that they are about
    row = f'[[policy]]\nname = "later"\nremote = "{NEW}/128"\naction = "protect"\nassociation = "application"\n'
    correspondent.write_text(correspondent.read_text() + row)


def renumber(made: HomeAgents) -> None:
    """What the operator of the home network does: addresses, routes, and then the router says so."""
    network = made.nodes.network
    router, core = (network.plan.namespace(name) for name in (network.plan.home.router, "core"))
    ip("-n", router, "address", "add", "2001:db8:2::1/64", "dev", ROUTER_INTERFACE, "nodad")
    ip("-n", core, "route", "add", "2001:db8:2::/64", "via", str(network.plan.home.backbone[2]))
    name = f"radvd-{network.plan.home.router}"
    (network.directory / f"{name}.conf").write_text(RADVD.format(interface=ROUTER_INTERFACE))
    os.kill(int((network.directory / f"{name}.pid").read_text()), signal.SIGHUP)


def homes(made: HomeAgents) -> dict[str, tuple[object, object]]:
    """Home agent and state of each home address."""
    found = made.ask("mn", "node")["homes"]
    assert isinstance(found, list)
    return {one["home_address"]: (one["home_agent"], one["state"]) for one in found}


def test_found_from_a_cold_start_and_followed_to_other_addresses(agents: HomeAgents) -> None:
    agents.start(FIRST, SECOND)
    agents.begin()
    assert homes(agents) == {OLD: (OLD_AGENT, "bound")}
    host = HostClient(agents.nodes.runtime("mn") / "host.sock")
    assert host.information()["addresses"] == [OLD]
    call = agents.call(
        25.0, disturb=lambda: renumber(agents), until=lambda call: call.sent % 50 == 0 and NEW in homes(agents)
    )
    assert min(len(heard) for heard in call.heard.values()) > call.sent - 5
    eventually(lambda: homes(agents).get(NEW) == (NEW_AGENT, "bound"))
    eventually(lambda: host.information()["addresses"] == [NEW, OLD])
    call = agents.call(1.0)  # the old address is still good for what began with it
    assert min(len(heard) for heard in call.heard.values()) > call.sent - 5

    new = host.socket()  # whichever address the kernel takes
    with new:
        new.connect((agents.cn.getsockname()[0], 4000))
        assert new.getsockname()[0] == NEW
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            new.send(b"from the new address")
            time.sleep(0.1)
            heard = received(agents.cn)
            if any(sender == NEW for sender in heard):
                break
        else:
            raise AssertionError("nothing arrives from the new address")


def received(ours: socket.socket) -> list[str]:
    """Whom the datagrams that are waiting came from."""
    senders = []
    while True:
        try:
            senders.append(ours.recvfrom(100)[1][0])
        except BlockingIOError:
            return senders
