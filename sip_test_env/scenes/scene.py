"""Where the demo's call takes place: the basic network; a base for others."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sip_test_env.agents import PhoneProcess
from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.phones import terminals_phone
from sip_test_env.plan import BASIC, CABLE, Extension, Plan
from sip_test_env.report import PESQ_MARGIN


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    tunnel: str = "esp"
    seconds: float = 12.0
    "How long they talk."
    handovers: int = 1
    capture: Path | None = None
    transport: str = "udp"
    codec: str = "opus"
    instance: str = "demo"
    network: str = BASIC.name
    "Name of the scene."
    unprivileged: bool = False
    "The terminal is the laptop of an ordinary user."
    map_type: int = 1
    "How the terminal registers in the domain of a MAP (network ``hmip``)."
    map_tunnel: str = "plain"
    "Form of the tunnel between terminal and MAP."
    negotiate: bool = True
    "Terminal and home agent negotiate their keys (IKEv2), and so do MAPs, mobile routers and both ends of the call."


class Scene:
    """A network with its mobility processes, and how the terminal moves in it. Made in the order of the methods."""

    extension: ClassVar[Extension] = BASIC
    building: ClassVar[str] = "Kamailio, routers, home link, two visited links, a hotspot behind a NAT"
    whose: str = "terminal"
    "For the line that says what is started."
    pesq_margin: float = PESQ_MARGIN
    captured: str = CABLE
    "The port in ``links`` at which the capture listens."

    settings: Settings
    "As on the command line, or as this network needs them."
    network: TestNetwork
    nodes: MobilityNodes

    def __init__(self, settings: Settings) -> None:
        """Builds nothing yet. Raises ValueError: these settings do not go with this network."""
        self.settings = settings

    @property
    def plan(self) -> Plan:
        return self.network.plan

    @property
    def control(self) -> Path:
        """The control socket of the terminal's mobility process."""
        return self.nodes.runtime("mn") / "control.sock"

    @property
    def controls(self) -> tuple[Path, ...]:
        """Those of all processes whose bindings tell of movements."""
        return (self.control,)

    @property
    def sound(self) -> Path:
        """Where files of sound are that the terminal's phone plays and records."""
        return self.network.directory

    def build(self, stack: ExitStack) -> None:
        """The network, up until the stack is unwound. Raises `EnvironmentFailure`."""
        self.network = stack.enter_context(TestNetwork(self.settings.instance, extension=self.extension))

    def configure(self) -> None:
        """The mobility processes, configured and not started."""
        settings = self.settings
        self.nodes = MobilityNodes(
            self.network,
            settings.tunnel,
            terminal=self.terminal(),
            negotiate=settings.negotiate,
            application="calls" if settings.negotiate else "keys",
        )

    def terminal(self) -> Terminal | None:
        """How the terminal is run; None: as usual."""
        return None

    def start(self, stack: ExitStack) -> None:
        """Starts all processes; they end when the stack is unwound. Raises `EnvironmentFailure`."""
        stack.callback(self.nodes.stop)
        self.nodes.start()

    async def ready(self) -> str:
        """Waits until the terminal can be called; says so in words. Raises `EnvironmentFailure`."""
        await bound(self.control)
        plan = self.plan
        return f"the terminal is bound: {plan.home_address} is reachable in visited-a through {plan.home_agent}"

    def terminals_phone(self) -> PhoneProcess:
        return terminals_phone(self.nodes)

    def proxy(self, role: str) -> str | None:
        """Where the phone of ``mn`` or ``cn`` sends its requests (a SIP URI); None: to the proxy's address."""
        return None

    def keys(self, capture: Path) -> list[Path]:
        """Before the call ends: writes what decrypts the capture in Wireshark, beside it (mode 0600); says where."""
        table = capture.with_name(capture.name + ".esp_sa")
        return self.nodes.esp_sa(table)

    async def move(self, number: int) -> tuple[str, str, float]:
        """The ``number``-th movement of ``mn``: to the other visited link. Returns from where to where, and when."""
        moved = self.network.move("visited-b" if number % 2 == 0 else "visited-a")
        return str(moved.source), moved.target, moved.cut

    async def moved(self, movements: Movements, moment: float) -> float:
        """When the movement that began at ``moment`` was finished (monotonic seconds). Raises TimeoutError."""
        return await movements.bound_after(moment)

    async def complaints(self) -> list[str]:
        """After the call: what did not hold, in words, of what only this network has."""
        return []

    async def facts(self) -> list[str]:
        """After the call: what else was measured, in words."""
        return []
