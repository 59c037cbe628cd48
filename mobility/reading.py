"""A configuration read anew beside the data plane, which meanwhile carries packets.

A thousand terminals take 0.4 s to read and check, longer than calls bear and than a lease lasts. So a child process
does it, and hands over only what is different.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from ipaddress import IPv6Address

from mobility.config import Configuration, ConfigurationError, load
from mobility.net.loop import Loop
from mobility.settings import MOBILE_USES, AssociationPair, HomeAgentSettings, KeyExchange, ServedTerminal

log = logging.getLogger(__name__)

LIVE = frozenset({"terminals", "directory"})
"Keys of [home_agent] that can be changed while it serves."
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """What a home agent that serves has to know of a configuration that was read anew."""

    home_agent: HomeAgentSettings
    "Without terminals."
    removed: frozenset[IPv6Address]
    terminals: tuple[ServedTerminal, ...]
    "Those that are new, or other than before."
    pairs: tuple[AssociationPair, ...]
    "Theirs."
    exchanges: tuple[KeyExchange, ...] = ()
    "Likewise."


def difference(before: Configuration, after: Configuration) -> Difference:
    """Raises ConfigurationError: what differs cannot be changed while the home agent runs; or there is none."""
    if before.home_agent is None or after.home_agent is None:
        raise ConfigurationError(f"{before.path}: only a home agent can read its configuration anew; start this again")
    if fixed := needing_restart(before, after):
        raise ConfigurationError(f"{before.path}: needs a restart, and nothing has changed: {', '.join(fixed)}")
    known = {each.home_address: each for each in before.home_agent.terminals}
    changed = [
        each
        for each in after.home_agent.terminals
        if known.pop(each.home_address, None) != each
        or any(before.pair(use, each.home_address) != after.pair(use, each.home_address) for use in MOBILE_USES)
        or before.key_exchange(each.home_address) != after.key_exchange(each.home_address)
    ]
    pairs = [after.pair(use, each.home_address) for each in changed for use in MOBILE_USES]
    return Difference(
        replace(after.home_agent, terminals=()),
        frozenset(known),
        tuple(changed),
        tuple(pair for pair in pairs if pair is not None),
        tuple(found for each in changed if (found := after.key_exchange(each.home_address)) is not None),
    )


def applied(before: Configuration, new: Difference) -> Configuration:
    """The configuration that was read anew, made of the former one and the difference."""
    terminals = {} if before.home_agent is None else {each.home_address: each for each in before.home_agent.terminals}
    terminals |= {each.home_address: each for each in new.terminals}
    replaced = new.removed | {each.home_address for each in new.terminals}
    return replace(
        before,
        home_agent=replace(
            new.home_agent, terminals=tuple(each for home, each in terminals.items() if home not in new.removed)
        ),
        associations=(*(pair for pair in before.associations if pair.peer not in replaced), *new.pairs),
        key_exchanges=(*(each for each in before.key_exchanges if each.peer not in replaced), *new.exchanges),
    )


def needing_restart(before: Configuration, after: Configuration) -> list[str]:
    """Names of the keys that differ and that a running home agent cannot change."""
    names = ("runtime", "state", "store", "metrics", "log")
    different = [name for name in names if getattr(before, name) != getattr(after, name)]
    old, new = before.home_agent, after.home_agent
    if old is not None and new is not None:
        different += [
            f"home_agent.{field.name}"
            for field in fields(old)
            if field.name not in LIVE and getattr(old, field.name) != getattr(new, field.name)
        ]
    return different


class Reading:
    """One reading. ``done`` is called from the loop with the difference, or with the text that says what is wrong."""

    def __init__(self, loop: Loop, before: Configuration, done: Callable[[Difference | str], None]) -> None:
        """Starts it. Raises OSError: no process can be had."""
        self._loop = loop
        self._done = done
        self._answer = bytearray()
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _read(before, theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        loop.watch(self._pipe, self._ready)

    def close(self) -> None:
        """Gives it up; `done` is not called any more."""
        if self._pipe >= 0:
            self._loop.unwatch(self._pipe)
            os.close(self._pipe)
            os.kill(self._pid, signal.SIGKILL)  # it has said what it had to say, or nobody listens any more
            os.waitpid(self._pid, 0)
            self._pipe = -1

    def _ready(self, _events: int) -> None:
        data = os.read(self._pipe, _READ_AT_ONCE)
        if data:
            self._answer += data
            return
        self.close()
        try:
            answer = pickle.loads(self._answer)  # of our own child
        except (pickle.UnpicklingError, EOFError):
            answer = "the process that read the configuration died"
        self._done(answer)


def _read(before: Configuration, out: int) -> None:
    """In the child: reads, compares, tells."""
    os.closerange(3, out)
    os.closerange(out + 1, os.sysconf("SC_OPEN_MAX"))  # locks and sockets are the parent's
    os.set_blocking(out, True)
    answer: Difference | str
    try:
        answer = difference(before, load(before.path, role=before.role))
    except ConfigurationError as error:
        answer = str(error)
    except Exception as error:
        log.exception("the configuration cannot be read anew")
        answer = f"internal error: {error}"
    with os.fdopen(out, "wb") as pipe:
        pickle.dump(answer, pipe, protocol=pickle.HIGHEST_PROTOCOL)
