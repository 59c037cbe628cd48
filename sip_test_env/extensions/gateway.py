"""An enterprise behind a gateway (the source's Fig. 38): home network, proxy and correspondent are inside.

::

    ar-a, ar-b, nat --- core ===|filter|=== home-router, proxy, cn
                          |                   |
                          +---- gw (TLS) -----+

``core`` is the network outside and the enterprise's own; its filter keeps them apart. From outside there is mobility
signalling and the tunnel to the home agent, and whatever the gateway itself lets through. The proxy is only for who is
inside at a fixed place, and for the gateway: terminals do not reach it through their home network.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from sip_test_env import namespace
from sip_test_env.links import in_node, nft
from sip_test_env.plan import Extension, Pair, Plan

NODE = "gw"
OUTSIDE, INSIDE = "wan0", "lan0"
"Interfaces of the gateway."
ADDRESS = IPv6Address("2001:db8:9::9")
ADDRESS4 = IPv4Address("203.0.113.142")
"Of the gateway, for terminals."
PORT = 443

_OUTSIDE_ROUTER, _OUTSIDE_ROUTER4 = IPv6Address("2001:db8:9::1"), IPv4Address("203.0.113.141")
_INSIDE_ROUTER, _INSIDE_ADDRESS = IPv6Address("2001:db8:19::1"), IPv6Address("2001:db8:19::9")
_TO_OUTSIDE, _TO_INSIDE = "to-gw", "to-gw-in"
"Interfaces of the core."


def _configure(plan: Plan) -> None:
    in_node(
        plan,
        "core",
        {
            _TO_OUTSIDE: (IPv6Interface(f"{_OUTSIDE_ROUTER}/64"), IPv4Interface(f"{_OUTSIDE_ROUTER4}/30")),
            _TO_INSIDE: (IPv6Interface(f"{_INSIDE_ROUTER}/64"),),
        },
        {},
        router=True,
    )
    inside = (plan.home.prefix, plan.proxy_prefix, plan.cn_prefix)
    in_node(
        plan,
        NODE,
        {
            OUTSIDE: (IPv6Interface(f"{ADDRESS}/64"), IPv4Interface(f"{ADDRESS4}/30")),
            INSIDE: (IPv6Interface(f"{_INSIDE_ADDRESS}/64"),),
        },
        {"::/0": str(_OUTSIDE_ROUTER), "0.0.0.0/0": str(_OUTSIDE_ROUTER4)}
        | {str(prefix): str(_INSIDE_ROUTER) for prefix in inside},
    )
    namespace.run_in(plan.namespace("core"), lambda: nft(_rules(plan)))


def _rules(plan: Plan) -> str:
    outside = ", ".join(f'"to-{name}"' for name in ("ar-a", "ar-b", "nat", NODE))
    inside = ", ".join(f'"to-{name}"' for name in ("home-router", "proxy", "cn"))
    return f"""\
table inet enterprise {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname {{ {outside} }} ip6 daddr {plan.home_agent} meta l4proto {{ esp, 135, ipv6, ipv6-icmp }} accept
    iifname {{ {outside} }} ip6 daddr {plan.home_agent} udp dport 4191 accept
    iifname {{ {outside} }} ip daddr {plan.home_agent4} udp dport 4191 accept
    iifname {{ {outside} }} oifname {{ {inside}, "{_TO_INSIDE}" }} counter drop
    iifname "to-home-router" oifname "to-proxy" counter reject
  }}
}}
"""


GATEWAY = Extension(
    "gateway",
    "an enterprise with home network, correspondent and Kamailio behind a TLS gateway (Fig. 38); SIP over TLS in TLS",
    nodes=(NODE,),
    cables=(
        Pair((("core", _TO_OUTSIDE), (NODE, OUTSIDE))),
        Pair((("core", _TO_INSIDE), (NODE, INSIDE))),
    ),
    configure=_configure,
)
