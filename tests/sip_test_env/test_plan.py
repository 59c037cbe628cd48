"""Names and addresses fit together."""

from __future__ import annotations

from itertools import combinations

import pytest

from sip_test_env.plan import CABLE, NODES, Plan


def test_addresses_lie_in_their_prefixes() -> None:
    plan = Plan()
    for link in plan.access_links:
        assert link.router_address in link.prefix
    assert plan.home_agent in plan.home.prefix
    assert plan.home_address in plan.home.prefix
    assert plan.cn in plan.cn_prefix
    assert plan.cn_router in plan.cn_prefix
    assert plan.proxy in plan.proxy_prefix
    assert plan.proxy_router in plan.proxy_prefix
    assert plan.cn4 in plan.cn_network4
    assert plan.proxy4 in plan.proxy_network4


def test_prefixes_do_not_overlap() -> None:
    plan = Plan()
    prefixes = [plan.cn_prefix, plan.proxy_prefix]
    for link in plan.access_links:
        prefixes += [link.prefix, link.backbone]
    assert not [pair for pair in combinations(prefixes, 2) if pair[0].overlaps(pair[1])]


def test_names_of_interfaces_fit_the_kernel() -> None:
    plan = Plan()
    names = [CABLE, *(link.bridge for link in plan.access_links), *(f"to-{link.router}" for link in plan.access_links)]
    assert max(map(len, names)) <= 15


@pytest.mark.parametrize("instance", ["", "-x", "a/b", "..", "Über", "a" * 33, "a b"])
def test_instance_names_that_could_do_harm_are_refused(instance: str) -> None:
    with pytest.raises(ValueError, match="instance name"):
        Plan(instance)


def test_instances_share_no_namespace() -> None:
    assert not set(Plan("one").namespaces) & set(Plan("two").namespaces)
    assert len(set(Plan("one").namespaces)) == len(NODES)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="visited-b"):
        Plan().link("visited-c")
    with pytest.raises(ValueError, match="home-router"):
        Plan().namespace("nowhere")
