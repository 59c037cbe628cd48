"""Mobile routers for the people who run them: enrolment, status."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path

import pytest

from mobility.commands.view import overview
from mobility.config import ConfigurationError, Role, parse
from mobility.enrolment import Wishes, accept_invitation, enrol, invitation
from tests.mobility.nemo.test_configuration import HA
from tests.mobility.nemo.train import TRAIN, Train

NETWORKS = (IPv6Network("2001:db8:9:1::/64"), IPv6Network("2001:db8:9:2::/64"))


def test_both_ends_of_a_router_are_written() -> None:
    agent = parse(HA, Path("ha.toml"))
    made = enrol(agent, Wishes("train", mobile_networks=NETWORKS, ingress="car0"))
    theirs = parse(accept_invitation(invitation(made.terminal_file), Path("router.toml")), Path("router.toml"))
    assert theirs.role is Role.MOBILE_ROUTER
    assert theirs.mobile_router is not None
    assert theirs.mobile_router.interfaces == {"car0": NETWORKS}
    ours = parse(HA + made.home_agent_file, Path("ha.toml")).home_agent
    assert ours is not None
    assert ours.terminals[0].mobile_networks == NETWORKS


def test_a_router_needs_networks_of_64_bits() -> None:
    with pytest.raises(ConfigurationError, match=r"mobile_router.network\[0\].prefix"):
        enrol(parse(HA, Path("ha.toml")), Wishes("train", mobile_networks=(IPv6Network("2001:db8:9::/48"),)))


def test_status_of_router_and_home_agent() -> None:
    train = Train()
    train.start_agent()
    train.run(1.0)
    router = {"node": train.router.snapshot(train.world.now)}
    assert f"networks   {TRAIN} on lan0" in "\n".join(overview(router))
    assert "no way out: nodes are told to use another router" in "\n".join(overview(router))
    train.couple("mr1", train.a)
    train.run(1.0)
    assert "no way out" not in "\n".join(overview({"node": train.router.snapshot(train.world.now)}))
    assert f"takes along {TRAIN}" in "\n".join(overview({"node": train.agent.snapshot(train.world.now)}))
