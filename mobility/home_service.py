"""What the data plane of a home agent has beside its node: bindings that are kept, metrics, reading anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from mobility.agent import HomeAgentNode, ServiceChanged
from mobility.assembly import authorised_terminals
from mobility.attachments import routed_prefixes
from mobility.config import Configuration, ConfigurationError, StoreKind
from mobility.control import Later, Refused
from mobility.floating import Floating, FloatingAddresses, FloatingRoutes
from mobility.home_metrics import HomeMetrics
from mobility.host.events import AddressConflict
from mobility.ipsec.algorithms import KeyingError
from mobility.logs import EventLog
from mobility.metrics import MetricsServer
from mobility.mipv6.binding_events import BindingChanged
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node import Node
from mobility.outputs import Event, Output
from mobility.reading import Difference, Reading, applied
from mobility.sequences import SequenceFile, SequenceFileError
from mobility.store.numbers import SharedSequences
from mobility.store.redis import Redis, RedisUrl
from mobility.store.shared import SharedAgent
from mobility.store.sqlite import BindingFile
from mobility.trace import Trace

log = logging.getLogger(__name__)


def sequence_file(configuration: Configuration) -> SequenceFile:
    """The sequence numbers of a node; those of several home agents that are one need grants."""
    path = configuration.state / "sequences"
    shared = configuration.store is not None and configuration.store.kind is StoreKind.REDIS
    return SharedSequences(path) if shared else SequenceFile(path)


class KeptBindings:
    """Bindings in a file: written as they change, read at the start."""

    def __init__(self, node: HomeAgentNode, file: BindingFile, wall_offset: Callable[[], float]) -> None:
        self._node = node
        self._file = file
        self._wall_offset = wall_offset
        self._changed: dict[IPv6Address, None] = {}

    def start(self, now: float) -> list[Output]:
        """The bindings of the process before go on."""
        self._file.open()
        offset = self._wall_offset()
        records = self._file.load(now + offset)
        if records:
            log.info("%d bindings of before go on", len(records))
        return self._node.restore(records, offset, now)

    def changed(self, home_address: IPv6Address) -> None:
        """The record of this home address is another one now; it is written by `flush`."""
        self._changed[home_address] = None

    def flush(self) -> None:
        """Writes changed records."""
        if self._changed:
            offset = self._wall_offset()
            if self._file.write([(home, self._node.record(home, offset)) for home in self._changed]):
                self._changed.clear()

    @property
    def failures(self) -> int:
        """Writes that did not succeed."""
        return self._file.failures

    def close(self) -> None:
        self.flush()
        self._file.close()


class HomeService:
    """Puts it together. Order of calls: `around` the node, `attach`, `start`, `turned` after each turn, `close`."""

    def __init__(self, configuration: Configuration, loop: Loop, sequences: SequenceFile, owner: str) -> None:
        self._configuration = configuration
        self._loop = loop
        self._sequences = sequences
        self._owner = owner
        self._agent: HomeAgentNode | None = None
        self._terminals: tuple[AuthorisedTerminal, ...] = ()
        self._plane: DataPlane | None = None
        self._kept: KeptBindings | None = None
        self._redis: Redis | None = None
        self._shared: SharedAgent | None = None
        self._floating: list[Floating] = []
        self._metrics: HomeMetrics | None = None
        self._server: MetricsServer | None = None
        self._reading: Reading | None = None

    def around(self, node: Node) -> Node:
        """The node that the data plane is to run. Raises ConfigurationError."""
        settings, store = self._configuration.home_agent, self._configuration.store
        if not isinstance(node, HomeAgentNode) or settings is None or store is None:
            return node
        self._agent, self._terminals = node, node.settings.home_agent.terminals
        if settings.udp_interface is not None:
            addresses = [address for address in settings.udp if isinstance(address, IPv4Address)]
            self._floating.append(FloatingAddresses(settings.udp_interface, addresses))
        wanted = routed_prefixes(self._configuration)
        if wanted is not None:
            self._floating.append(FloatingRoutes(wanted.interface, wanted.prefixes))
        if store.kind is StoreKind.SQLITE:
            self._kept = KeptBindings(node, BindingFile(store.path), self._wall_offset)
        elif store.url is not None and isinstance(self._sequences, SharedSequences):
            redis = self._redis = Redis(self._loop, RedisUrl.parse(store.url), self._now, _nothing, _nothing)
            self._shared = SharedAgent(
                node,
                settings.address.ip,
                self._sequences,
                redis,
                self._owner,
                self._act,
                self._wall_offset,
                store.unreachable,
            )
            return self._shared
        return node

    def attach(self, plane: DataPlane, trace: Trace) -> None:
        """``plane`` runs the node."""
        self._plane = plane
        if self._agent is None:
            return
        kept = self._kept
        self._metrics = HomeMetrics(self._agent, plane, self._shared, lambda: 0 if kept is None else kept.failures)
        events = EventLog(self._now)
        trace.listen(self._happened)
        trace.listen(events.happened)
        trace.subscribe(events.noted)
        if self._configuration.metrics is not None:
            self._server = MetricsServer(self._loop, self._configuration.metrics, self.metrics, self._now)

    def start(self) -> None:
        """The data plane has started."""
        if self._kept is not None:
            self._act(self._kept.start)
        if self._agent is not None:
            self._follow(self._agent.active)
        if self._server is not None:
            self._server.open()

    def turned(self) -> None:
        """The loop has turned: what changed is written after the packets of the turn went."""
        if self._kept is not None:
            self._kept.flush()
        if self._shared is not None:
            self._shared.flush(self._now())
        for floating in self._floating:
            floating.turned(self._now())
        if self._server is not None:
            self._server.tidy()

    def close(self) -> None:
        """Another home agent may serve at once."""
        if self._reading is not None:
            self._reading.close()
        if self._server is not None:
            self._server.close()
        self._follow(False)
        if self._kept is not None:
            self._kept.close()
        if self._shared is not None:
            self._shared.release(self._now())
        if self._redis is not None:
            self._redis.close()

    def metrics(self) -> str:
        """The text that Prometheus fetches. Raises Refused: this is no home agent."""
        if self._metrics is None:
            raise Refused("this node is no home agent")
        return self._metrics.text(self._terminals)

    # ------------------------------------------------------------ the configuration read anew

    def reload(self) -> Later:
        """Reads the configuration anew and applies what can be; packets go on meanwhile.

        The answer: home addresses that were ``added``, ``removed`` and ``changed``; or a refusal that says why, and
        then nothing has changed. Raises Refused: not now, or not here.
        """
        if self._agent is None:
            raise Refused("only a home agent can read its configuration anew; start this node again")
        if self._reading is not None:
            raise Refused("the configuration is being read at the moment; ask again")
        later = Later()

        def done(new: Difference | str) -> None:
            self._reading = None
            if isinstance(new, str):
                later.refuse(new)
                return
            try:
                later.finish(self._apply(new))
            except (ConfigurationError, SequenceFileError) as error:
                later.refuse(str(error))
            except (KeyingError, ValueError) as error:
                later.refuse(f"{self._configuration.path}: {error}")

        try:
            self._reading = Reading(self._loop, self._configuration, done)
        except OSError as error:
            raise Refused(f"no process can be started: {error.strerror}") from error
        return later

    def _apply(self, new: Difference) -> object:
        """Raises ConfigurationError, KeyingError, SequenceFileError, ValueError; then nothing has changed."""
        if self._agent is None or self._plane is None:
            raise ConfigurationError("the node has ended")
        before, present = self._configuration, self._terminals
        after = applied(before, new)
        terminals = authorised_terminals(after, self._sequences, before, present)
        outputs = self._agent.reconfigure(terminals, self._now())
        self._configuration, self._terminals = after, terminals
        self._plane.carry_out(outputs)
        if self._metrics is not None:
            used = {id(terminal.associations) for terminal in terminals}
            self._metrics.replaced(terminal for terminal in present if id(terminal.associations) not in used)
        known = {terminal.home_address for terminal in present}
        homes = {terminal.home_address for terminal in new.terminals}
        changes = {"added": homes - known, "removed": new.removed, "changed": homes & known}
        counts = ", ".join(f"{len(homes)} {what}" for what, homes in changes.items())
        log.info("the configuration was read anew: terminals: %s", counts)
        return {what: [str(home) for home in sorted(homes)] for what, homes in changes.items()}

    # ------------------------------------------------------------ inside

    def _happened(self, event: Event) -> None:
        if self._metrics is not None:
            self._metrics.happened(event)
        if isinstance(event, BindingChanged):
            if self._kept is not None:
                self._kept.changed(event.home_address)
            if self._shared is not None:
                self._shared.changed(event.home_address)
        elif isinstance(event, ServiceChanged):
            self._follow(event.active)
        elif isinstance(event, AddressConflict) and self._shared is not None and self._agent is not None:
            if event.address == self._agent.settings.home_agent.address:
                self._act(self._shared.conflict)

    def _follow(self, active: bool) -> None:
        """Addresses and routes of the kernel are where the home agent serves."""
        for floating in self._floating:
            if active:
                floating.take(self._now())
            else:
                floating.leave()

    def _act(self, method: Callable[[float], list[Output]]) -> None:
        if self._plane is not None:
            self._plane.call(method)

    def _now(self) -> float:
        return 0.0 if self._plane is None else self._plane.now()

    def _wall_offset(self) -> float:
        return time.time() - self._now()


def _nothing(*_: object) -> None:
    """The connection to the store tells by itself what matters."""
