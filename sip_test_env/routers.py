"""Router advertisement: radvd's configuration.

The access routers are ordinary routers that support mobility (RFC 6275 section 7.5): they answer a router solicitation
at once. Measured with radvd 2.19, 0.1 to 0.5 ms from solicitation to advertisement: by unicast when the solicitation
carries its sender's link-layer address, however shortly after the last one; by multicast when it comes from the
unspecified address, and then ``MinDelayBetweenRAs`` (30 ms) matters. The unsolicited ones come so seldom (every one to
three seconds) that a terminal that waits for them is heard to wait.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from sip_test_env.plan import ROUTER_INTERFACE, Plan

_TEMPLATE = """\
interface {interface}
{{
    AdvSendAdvert on;
    MinRtrAdvInterval 1;
    MaxRtrAdvInterval 3;
    MinDelayBetweenRAs 0.03;
    AdvDefaultLifetime 1800;
    AdvIntervalOpt on;          # RFC 6275 section 7.3: a terminal can tell when one is missing
    prefix {address}/{length}
    {{
        AdvOnLink on;
        AdvAutonomous on;
        AdvRouterAddr on;       # RFC 6275 section 7.2: the prefix above is the router's own address
        AdvPreferredLifetime 3600;
        AdvValidLifetime 7200;
    }};
}};
"""


def radvd_config(interface: str, prefix: IPv6Network, address: IPv6Address) -> str:
    """radvd.conf for a router with one advertising interface, on which it has ``address``."""
    return _TEMPLATE.format(interface=interface, address=address, length=prefix.prefixlen)


def advertised(plan: Plan) -> dict[str, tuple[str, IPv6Network, IPv6Address]]:
    """Per node that runs radvd: interface, prefix, the router's address on it."""
    routers = {link.router: (ROUTER_INTERFACE, link.prefix, link.router_address) for link in plan.access_links}
    for router in plan.extension.without_radvd:
        del routers[router]
    return {**routers, "core": ("to-cn", plan.cn_prefix, plan.cn_router)}
