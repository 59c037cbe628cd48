"""The network of `tests.mobility.whole` with Linux in the place of one of our nodes."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from pathlib import Path

from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.association import Mode
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.net.memory import Segment
from mobility.terminal import Terminal
from tests.interop.kernel.peer import Kernel, Live, answered, echo_request, policy, state, template
from tests.mobility.whole import CN, CORRESPONDENT, HA, HOME, MN, Network, Pair, keys_of

ROOT = Path(__file__).parents[3]
UP, DOWN = 0x1000, 0x1001
"SPIs of the signalling (see `mobile_pair`), likewise the next two of the tunnel."
OUT, IN = 0x1002, 0x1003
AH_UP, AH_DOWN = 0x1010, 0x1011
INSIDE = IPv6Address("2001:db8:20::2")
"A program on the home agent's own machine."
_AH = Algorithm.HMAC_SHA2_256_128


@dataclass(frozen=True)
class Protection:
    """Of a terminal's signalling and tunnel."""

    form: TunnelForm
    algorithm: Algorithm = Algorithm.AES_GCM_16
    esp: bool = True
    "Whether the signalling is under ESP."
    ah: bool = False
    "And under AH."
    limit: str = "none"
    "Tunnel encapsulation limit that Linux puts into the tunnel (RFC 2473)."

    def __str__(self) -> str:
        layers = "+".join((["ah"] if self.ah else []) + (["esp"] if self.esp else []))
        limit = "" if self.limit == "none" else f"-limit-{self.limit}"
        return f"{self.form.value}-{self.algorithm.value}-{layers or 'bare'}{limit}"


def signalling_of(pair: Pair, protection: Protection) -> Pair:
    """The associations of `mobile_pair` with AH as well, or instead."""
    if not protection.ah:
        return pair

    def end(own: MobileAssociations, out: int, inbound: int) -> MobileAssociations:
        inner_out, inner_in = own.signalling_out, own.signalling_in
        assert not isinstance(inner_out, OutboundAH)
        assert not isinstance(inner_in, InboundAH)
        return replace(
            own,
            signalling_out=OutboundAH(out, _AH, keys_of(out, _AH), inside=inner_out),
            signalling_in=InboundAH(inbound, _AH, keys_of(inbound, _AH), inside=inner_in),
        )

    return Pair(end(pair.terminal, AH_UP, AH_DOWN), end(pair.agent, AH_DOWN, AH_UP))


class Mixed(Network):
    """Our nodes in `Network`, with some taken out by `instead`; its clock is the real one."""

    def __init__(
        self, protection: Protection, *, rules: RouteRules | None = None, application: IpsecProcessing | None = None
    ) -> None:
        """``application``: MN's, instead of one for UDP."""
        self.protection = protection
        self.application = application
        self.rules = rules or RouteRules(RoutePolicy.NEVER)
        super().__init__(protection.form, signalling=protection.esp, algorithm=protection.algorithm, overlap=0.0)
        self.live = Live(self.world)
        self._asked = 0

    def _pair(self, signalling: bool, home_test: bool, algorithm: Algorithm) -> Pair:
        return signalling_of(super()._pair(signalling, home_test, algorithm), self.protection)

    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        plain = super()._terminal(home_address, mac, application, associations)
        settings = replace(plain.settings, route_optimization=self.rules)
        random = self.world.random_bytes(str(home_address))
        return Terminal(settings, self.application or application, associations, random)

    def instead(self, name: str, kernel: Kernel, segment: Segment) -> None:
        """Linux takes the place of a node."""
        self.world.remove(name)
        self.live.add(name, kernel)
        self.world.attach(name, "eth0", segment, kernel.mac)

    def pass_time(self, seconds: float) -> None:
        """Real time."""
        self.live.run(seconds)
        self.count()

    def reach(self, destination: IPv6Address) -> bool:
        """Whether an echo request of MN is answered, or one of those after it: some get lost while it moves."""
        station, first = self.world.stations["mn"], self._asked
        for _ in range(20):
            self._asked += 1
            station.send(echo_request(MN, destination, self._asked))
            if self.live.until(lambda: any(number > first for number in answered(station)), 0.3):
                return True
        return False

    def converse(self, seconds: float) -> bool:
        """Whether all arrives that MN and CN say to each other."""
        before = len(self.to_mn.sent), len(self.to_cn.sent)
        self.talk(seconds)
        self.pass_time(seconds)

        def arrived() -> bool:
            self.count()
            return not self.to_mn.lost() and not self.to_cn.lost()

        said = len(self.to_mn.sent) > before[0] and len(self.to_cn.sent) > before[1]
        return said and self.live.until(arrived, 5.0)


Orders = dict[str, list[str]]
"Commands of ip(8) that ``bind`` a home address to ``{care_of}`` and ``release`` it."


class MobilityDaemon:
    """tests/interop/kernel/daemon.py in a machine of the guest, until the guest ends."""

    def __init__(self, kernel: Kernel, address: IPv6Address) -> None:
        """The machine has the address."""
        self._kernel = kernel
        self._files = f"/run/{kernel.namespace}-{str(address).replace(':', '-')}"
        self._tests = 0
        kernel.run(
            f"cd {ROOT}; {sys.executable} -m tests.interop.kernel.daemon serve {address} {self._files}.json"
            f" >{self._files}.log 2>&1 &"
        )
        deadline = time.monotonic() + 20
        while "listening" not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def obey(self, home: Orders | None = None, direct: Orders | None = None) -> None:
        """Forgets all bindings; what to do for those of home registrations and of route optimization."""
        self._tests += 1
        orders = json.dumps({"test": str(self._tests), "home": home, "direct": direct})
        self._kernel.guest.run(f"cat >{self._files}.json <<'END'\n{orders}\nEND")

    @property
    def log(self) -> str:
        """What it has said, in all tests."""
        return self._kernel.guest.run(f"cat {self._files}.log")


class Daemons(dict[tuple[Kernel, IPv6Address], MobilityDaemon]):
    """One for each machine and address; starting one takes longer than most tests."""

    def __missing__(self, key: tuple[Kernel, IPv6Address]) -> MobilityDaemon:
        self[key] = MobilityDaemon(*key)
        return self[key]


def _anybody(address: IPv6Address) -> list[str]:
    """Whoever sends a binding update says where it is (RFC 6275 section 9.3.1)."""
    templates = ["tmpl src :: dst :: proto hao mode ro level use"]
    return [
        f"xfrm state add src :: dst {address} proto hao reqid 0 mode ro flag wildrecv coa ::",
        policy("in", "::/0", f"{address}/128", templates, "proto 135 type 5 ptype sub priority 1"),
    ]


def linux_home_agent(kernel: Kernel, protection: Protection, daemons: Daemons) -> MobilityDaemon:
    """Configures a machine as home agent of MN: IPsec of the signalling, the tunnel for whoever is bound."""
    interface = kernel.interface
    signalling, up, down = _signalling(protection)
    kernel.ip(
        f"addr add {HA}/64 dev {interface} nodad",
        f"addr add {INSIDE}/128 dev lo nodad",
        f"route add default via {HOME[1]} dev {interface}",
        f"neigh add proxy {MN} dev {interface}",
        *_anybody(HA),
        *signalling,
        policy("in", MN, HA, up, "proto 135 type 5 priority 1"),
        policy("out", HA, MN, down, "proto 135 type 6 priority 1"),
    )
    kernel.run(
        f"cd /proc/sys/net/ipv6; echo 1 >conf/all/forwarding; echo 1 >conf/{interface}/proxy_ndp;"
        f" echo 0 >neigh/{interface}/proxy_delay"
    )
    daemon = daemons[kernel, HA]
    daemon.obey(home=_tunnel_of_agent(kernel, protection))
    return daemon


def _signalling(protection: Protection) -> tuple[list[str], list[str], list[str]]:
    """Associations between MN and HA, and what policies demand of messages up to the home agent and down from it."""
    commands, up, down = [], [], []
    if protection.esp:
        algorithm = protection.algorithm
        commands += [
            state(MN, HA, UP, algorithm, keys_of(UP, algorithm)),
            state(HA, MN, DOWN, algorithm, keys_of(DOWN, algorithm)),
        ]
        up.append(template(MN, HA, UP))
        down.append(template(HA, MN, DOWN))
    if protection.ah:
        commands += [state(MN, HA, AH_UP, _AH, keys_of(AH_UP, _AH)), state(HA, MN, AH_DOWN, _AH, keys_of(AH_DOWN, _AH))]
        up.append(template(MN, HA, AH_UP, ah=True))
        down.append(template(HA, MN, AH_DOWN, ah=True))
    return commands, up, down


def _tunnel_of_agent(kernel: Kernel, protection: Protection) -> Orders:
    care_of, algorithm = "{care_of}", protection.algorithm
    associations = [
        state(care_of, HA, OUT, algorithm, keys_of(OUT, algorithm), Mode.TUNNEL),
        state(HA, care_of, IN, algorithm, keys_of(IN, algorithm), Mode.TUNNEL, "replay-oseq {sequence}"),
    ]
    gone = [
        f"xfrm state delete src {care_of} dst {HA} proto esp spi {OUT}",
        f"xfrm state delete src {HA} dst {care_of} proto esp spi {IN}",
    ]
    inward = [template(care_of, HA, OUT, mode=Mode.TUNNEL)]
    outward = [template(HA, care_of, IN, mode=Mode.TUNNEL)]
    tunnel = [
        f"tunnel add t0 mode ip6ip6 local {HA} remote {care_of} encaplimit {protection.limit} dev {kernel.interface}",
        "link set t0 up",
        f"route add {MN}/128 dev t0",
    ]
    match protection.form:
        case TunnelForm.PLAIN:
            return {"bind": tunnel, "release": ["tunnel del t0"]}
        case TunnelForm.ESP:
            selectors = [("in", f"{MN}/128", "::/0", inward), ("fwd", f"{MN}/128", "::/0", inward)]
            selectors.append(("out", "::/0", f"{MN}/128", outward))
            tunnel = []
        case TunnelForm.ESP_MOBILE:
            selectors = [("in", f"{care_of}/128", f"{HA}/128", inward), ("out", f"{HA}/128", f"{care_of}/128", outward)]
    what = "proto ipv6" if tunnel else ""
    policies = [policy(way, source, to, templates, f"{what} priority 10") for way, source, to, templates in selectors]
    removed = [f"xfrm policy delete src {source} dst {to} {what} dir {way}" for way, source, to, _ in selectors]
    return {
        "bind": [*associations, *policies, *tunnel],
        "release": [*(["tunnel del t0"] if tunnel else []), *removed, *gone],
    }


def linux_correspondent(kernel: Kernel, daemons: Daemons) -> MobilityDaemon:
    """Configures a machine as CN, which terminals may tell where they are."""
    kernel.ip(
        f"addr add {CN}/64 dev {kernel.interface} nodad",
        f"route add default via {CORRESPONDENT[4]} dev {kernel.interface}",
        *_anybody(CN),
    )
    home_address, routing = f"src {MN} dst {CN} proto hao", f"src {CN} dst {MN} proto route2"
    inward = policy("in", f"{MN}/128", f"{CN}/128", [f"tmpl {home_address} mode ro level use"], "ptype sub priority 10")
    outward = policy("out", f"{CN}/128", f"{MN}/128", [f"tmpl {routing} mode ro"], "ptype sub priority 10")
    daemon = daemons[kernel, CN]
    daemon.obey(
        direct={
            "bind": [
                f"xfrm state add {home_address} mode ro coa {{care_of}}",
                f"xfrm state add {routing} mode ro coa {{care_of}}",
                inward,
                outward,
            ],
            "release": [
                f"xfrm policy delete src {MN}/128 dst {CN}/128 dir in ptype sub",
                f"xfrm policy delete src {CN}/128 dst {MN}/128 dir out ptype sub",
                f"xfrm state delete {home_address}",
                f"xfrm state delete {routing}",
            ],
        }
    )
    return daemon


class LinuxTerminal:
    """A machine as MN: it finds its care-of address as any kernel does, a daemon registers, the kernel carries data."""

    def __init__(self, kernel: Kernel, protection: Protection) -> None:
        self._kernel = kernel
        self._protection = protection
        self._registered = 0
        self._before: IPv6Address | None = None
        signalling, up, down = _signalling(protection)
        kernel.ip(
            f"addr add {MN}/128 dev lo nodad home",
            *signalling,
            policy("out", MN, HA, up, "proto 135 type 5 priority 1"),
            policy("in", HA, MN, down, "proto 135 type 6 priority 1"),
            *_with_home_address(HA, "proto 135 type 5", "proto 135 type 6"),
        )

    def arrive(self, network: Mixed, segment: Segment) -> IPv6Address:
        """Its carrier comes up on a link; the care-of address."""
        kernel, world = self._kernel, network.world
        if "eth0" in world.stations["mn"].ports:
            world.detach("mn", "eth0")
        # What the kernel does when a carrier comes: forget, and solicit. Its carrier here never goes.
        conf = f"/proc/sys/net/ipv6/conf/{kernel.interface}/disable_ipv6"
        kernel.run(f"echo 1 >{conf}; echo 0 >{conf}")
        world.attach("mn", "eth0", segment, kernel.mac)
        for _ in range(50):
            network.live.run(0.1)
            found = re.search(r"inet6 (2001:\S+)/64", kernel.ip(f"addr show dev {kernel.interface} scope global"))
            if found:
                return IPv6Address(found[1])
        raise AssertionError("the kernel has no address")

    def register(self, network: Mixed, care_of: IPv6Address) -> int:
        """With the home agent: the status of its answer. The tunnel is there before, as in any terminal."""
        self._registered += 1
        self._kernel.ip(*([] if self._before is None else self._tunnel(self._before, "delete")))
        self._kernel.ip(*self._tunnel(care_of, "add"))
        self._before = care_of
        return self._daemon(network, "register", HA, care_of)

    def optimize(self, network: Mixed, care_of: IPv6Address) -> int:
        """With CN: the status of its answer. From then on data go directly."""
        tunnel = template(care_of, HA, OUT, mode=Mode.TUNNEL), template(HA, care_of, IN, mode=Mode.TUNNEL)
        self._kernel.ip(
            policy("out", MN, CN, [tunnel[0]], "proto 135 type 1 priority 4"),
            # Without a type: of a message without extension headers, Linux 6.1 reads it behind the message.
            policy("in", CN, MN, [tunnel[1] + " level use"], "proto 135 priority 4"),
            policy("out", MN, CN, [], "priority 5"),
            policy("in", CN, MN, [], "priority 5"),
            *_with_home_address(CN, "proto 135 type 5", "proto 135 type 6"),
            *self._care_of(CN, care_of, "add"),
        )
        status = self._daemon(network, "optimize", CN, care_of)
        self._kernel.ip(*_with_home_address(CN, "", "", 2))
        return status

    def reach(self, network: Mixed, destination: IPv6Address) -> str:
        """What ping says: it ends well when the first echo request is answered."""
        return self._run(network, f"/bin/busybox ping6 -c 1 -W 3 -I {MN} {destination}")

    def _daemon(self, network: Mixed, what: str, to: IPv6Address, care_of: IPv6Address) -> int:
        daemon = f"{sys.executable} -m tests.interop.kernel.daemon"
        return int(self._run(network, f"cd {ROOT}; {daemon} {what} {MN} {to} {care_of} {self._registered}"))

    def _run(self, network: Mixed, script: str) -> str:
        """In the machine, while the world goes on."""
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(self._kernel.run, script)
            network.live.until(said.done, 30.0)
            return said.result()

    def _care_of(self, peer: IPv6Address, care_of: IPv6Address, action: str) -> list[str]:
        where = f" mode ro coa {care_of}" if action == "add" else ""
        return [
            f"xfrm state {action} src {MN} dst {peer} proto hao{where}",
            f"xfrm state {action} src {peer} dst {MN} proto route2{where}",
        ]

    def _tunnel(self, care_of: IPv6Address, action: str) -> list[str]:
        algorithm = self._protection.algorithm
        commands = self._care_of(HA, care_of, action)
        if action == "delete":
            return [
                *commands,
                f"xfrm state delete src {care_of} dst {HA} proto esp spi {OUT}",
                f"xfrm state delete src {HA} dst {care_of} proto esp spi {IN}",
                f"xfrm policy delete src {MN}/128 dst ::/0 dir out",
                f"xfrm policy delete src ::/0 dst {MN}/128 dir in",
            ]
        numbers = f"replay-oseq {self._registered * 10_000}"
        return [
            *commands,
            state(care_of, HA, OUT, algorithm, keys_of(OUT, algorithm), Mode.TUNNEL, numbers),
            state(HA, care_of, IN, algorithm, keys_of(IN, algorithm), Mode.TUNNEL),
            policy("out", f"{MN}/128", "::/0", [template(care_of, HA, OUT, mode=Mode.TUNNEL)], "priority 10"),
            policy("in", "::/0", f"{MN}/128", [template(HA, care_of, IN, mode=Mode.TUNNEL)], "priority 10"),
        ]


def _with_home_address(peer: IPv6Address, sent: str, received: str, priority: int = 1) -> list[str]:
    """Home address options on what a terminal sends, type 2 routing headers on what it receives."""
    more = f"ptype sub priority {priority}"
    return [
        policy("out", MN, peer, [f"tmpl src {MN} dst {peer} proto hao mode ro"], f"{sent} {more}"),
        policy("in", peer, MN, [f"tmpl src {peer} dst {MN} proto route2 mode ro level use"], f"{received} {more}"),
    ]
