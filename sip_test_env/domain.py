"""The mobility processes of a MAP domain: the MAP, and on each access router an announcer of it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from mobility.client import MobilityError, wait_ready
from mobility.ipsec.algorithms import Algorithm
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.extensions.hmip import DOMAIN, MAP, ROUTER
from sip_test_env.mobility_nodes import Keyring, MobilityNodes, negotiated_with
from sip_test_env.plan import INTERFACE, ROUTER_INTERFACE, AccessLink

TYPES = (1, 2, 3)


class Domain:
    """Beside `MobilityNodes`; they end with the network."""

    def __init__(self, nodes: MobilityNodes, kind: int, tunnel: str = "plain") -> None:
        """``kind``: type of the registration; ``tunnel``: form of the tunnel between terminal and MAP.

        Adds to the terminal's configuration what it has to know of the MAP.
        """
        self.nodes = nodes
        self.kind = kind
        self.tunnel = tunnel
        self._configurations: dict[str, Path] = {}
        self._configure()

    def runtime(self, node: str) -> Path:
        """Directory with ``control.sock`` and log of the MAP (``map``) or of an access router."""
        return self.nodes.network.directory / "mobility" / node

    def start(self) -> None:
        """Returns when all serve. Raises `EnvironmentFailure`."""
        network = self.nodes.network
        for node, path in self._configurations.items():
            with (self.runtime(node) / "log").open("ab") as log:
                network.popen(
                    node,
                    [sys.executable, "-m", "mobility", "map", "--config", str(path)],
                    name=f"mobility-{node}",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        for node in self._configurations:
            try:
                wait_ready(self.runtime(node), timeout=15)
            except MobilityError as error:
                said = (self.runtime(node) / "log").read_text(errors="replace")[-2000:]
                raise EnvironmentFailure(f"mobility map on {node} did not start: {error}\n{said}") from error

    def _configure(self) -> None:
        plan = self.nodes.network.plan
        anchor = (
            f'[map]\naddress = "{MAP}"\ninterface = "{INTERFACE}"\n\n'
            f'[[map.terminal]]\nhome_address = "{plan.home_address}"\ntunnel = "{self.tunnel}"\n\n'
        )
        terminal = f'\n[[mobile_node.map]]\naddress = "{MAP}"\ntunnel = "{self.tunnel}"\n\n'
        if self.nodes.negotiate:
            token = secrets.token_hex(32)
            anchor += negotiated_with(plan.home_address, token, Algorithm.AES_GCM_16)
            terminal += negotiated_with(MAP, token, Algorithm.AES_GCM_16, use="map")
        else:
            ring = Keyring(Algorithm.AES_GCM_16)
            spis = {"signalling": 0x5001} if self.tunnel == "plain" else {"signalling": 0x5001, "tunnel": 0x7001}
            for use, spi in spis.items():
                up, down = ring.association(spi), ring.association(spi + 1)
                anchor += ring.pair(use, plan.home_address, down, up)
                terminal += ring.pair(use, MAP, up, down, f"{use}-map")
        self._write("map", anchor)
        for link in DOMAIN:
            self._write(link.router, self._advertised(link))
        own = self.nodes.configurations["mn"]
        text = own.read_text().replace("[mobile_node]\n", '[mobile_node]\nmaps = "farthest"\n')
        own.write_text(text + terminal)

    def _advertised(self, link: AccessLink) -> str:
        return (
            f'[[map.advertise]]\ninterface = "{ROUTER_INTERFACE}"\nrouter = "{ROUTER}"\n'
            f'prefixes = ["{link.prefix}"]\n\n'
            f'[[map.advertise.map]]\naddress = "{MAP}"\ntype = {self.kind}\n'
        )

    def _write(self, node: str, text: str) -> None:
        folder = self.runtime(node)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._configurations[node] = folder / "map.toml"
        path.touch(mode=0o600)
        path.write_text(f'[node]\nrole = "map"\nruntime = "{folder}"\nstate = "{folder / "state"}"\n\n' + text)
