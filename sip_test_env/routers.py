"""Router advertisement: radvd's configuration.

The access routers are ordinary routers that support mobility (RFC 6275 section 7.5): they answer a router solicitation
at once, because radvd may send the next multicast advertisement 30 ms after the last (``MinDelayBetweenRAs``). The
unsolicited ones come seldom enough (every one to three seconds) that a terminal that waits for them is heard to wait.
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
    prefix {prefix}
    {{
        AdvOnLink on;
        AdvAutonomous on;
        AdvRouterAddr on;       # RFC 6275 section 7.2: the router's own address in place of the bare prefix
        AdvPreferredLifetime 3600;
        AdvValidLifetime 7200;
    }};
}};
"""


def radvd_config(interface: str, prefix: IPv6Network) -> str:
    """radvd.conf for a router with one advertising interface."""
    return _TEMPLATE.format(interface=interface, prefix=prefix)


def advertised(plan: Plan) -> dict[str, tuple[str, IPv6Network, IPv6Address]]:
    """Per node that runs radvd: interface, prefix, the router's address on it."""
    routers = {link.router: (ROUTER_INTERFACE, link.prefix, link.router_address) for link in plan.access_links}
    return {**routers, "core": ("to-cn", plan.cn_prefix, plan.cn_router)}
