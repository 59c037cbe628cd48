"""Networks that have something beside the basic one: names, registry, scenes."""

from __future__ import annotations

from itertools import combinations

import pytest

from sip_test_env.extensions import EXTENSIONS
from sip_test_env.plan import CABLES, HOME_AGENT_PORT, Extension, Plan
from sip_test_env.scenes import SCENES


@pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS)
def test_names_fit_each_other_and_the_kernel(extension: Extension) -> None:
    plan = Plan("default", extension)
    ends = [end for cable in extension.cables for end in cable.ends]
    ports = [("links", port) for port in (HOME_AGENT_PORT, *(cable.port for cable in CABLES.values()))]
    assert len({*ends, *ports}) == len(ends) + len(ports), "an interface comes twice"
    assert len(set(plan.nodes)) == len(plan.nodes)
    assert {node for node, _ in ends} <= set(plan.nodes)
    assert max(len(name) for name in [*(end[1] for end in ends), *(place.bridge for place in plan.places)]) <= 15
    assert {link.upstream for link in extension.links} <= set(plan.nodes)


@pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS)
def test_prefixes_of_further_links_are_their_own(extension: Extension) -> None:
    plan = Plan("default", extension)
    prefixes = [plan.cn_prefix, plan.proxy_prefix]
    prefixes += [prefix for link in plan.access_links for prefix in (link.prefix, link.backbone)]
    assert not [pair for pair in combinations(prefixes, 2) if pair[0].overlaps(pair[1])]


def test_every_network_has_a_scene_and_the_other_way_round() -> None:
    assert SCENES.keys() == EXTENSIONS.keys()
    assert {name: kind.extension.name for name, kind in SCENES.items()} == {name: name for name in SCENES}
