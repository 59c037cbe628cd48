"""What an instance leaves on disk while it stands: ``/run/roamphone/env/<instance>/``.

``state.json`` names the owner and every process, so that anybody (the owner, its guardian, the next ``up``) can take
the instance down. Configuration, keys, logs of the daemons live beside it and go with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.plan import BASIC, INSTANCE_NAME, Plan
from sip_test_env.processes import Process, end

ROOT = Path("/run/roamphone/env")


@dataclass(frozen=True, slots=True)
class State:
    """The contents of ``state.json``."""

    owner: Process | None = None
    "The instance goes when this process does; None: it stays until ``down``."
    processes: tuple[Process, ...] = field(default=())
    extension: str = BASIC.name
    "Which one the network has."
    namespaces: tuple[str, ...] = ()
    "All that it is made of, and those that mobility processes may make."

    @property
    def stale(self) -> bool:
        """The owner has died and nobody has taken the instance down yet."""
        return self.owner is not None and not self.owner.alive


class Store:
    """The directory of one instance."""

    def __init__(self, instance: str) -> None:
        """Raises ValueError for a name that no instance can have."""
        self.instance = Plan(instance).instance
        self.directory = ROOT / instance

    @property
    def _file(self) -> Path:
        return self.directory / "state.json"

    @property
    def exists(self) -> bool:
        """Whether the instance stands (or lies in ruins)."""
        return self.directory.exists()

    def claim(self, owner: Process | None, plan: Plan) -> None:
        """Makes the directory; raises `EnvironmentFailure` if the instance is up. Ruins are cleared first."""
        clear_ruins()
        try:
            self.directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700)
        except FileExistsError:
            holder = self.read().owner
            by = f"process {holder.pid}" if holder else "`up`"
            raise EnvironmentFailure(
                f"instance {self.instance!r} is up already (made by {by}): take it down with "
                f"`python -m sip_test_env down --instance {self.instance}`, or choose another --instance"
            ) from None
        except PermissionError as error:
            raise EnvironmentFailure(f"{error}; the test network needs root (try sudo)") from None
        self._write(State(owner, extension=plan.extension.name, namespaces=(*plan.namespaces, *plan.host_namespaces)))

    def read(self) -> State:
        """The state; an empty one if there is no file yet."""
        try:
            values = json.loads(self._file.read_text())
        except FileNotFoundError:
            return State()
        owner = values["owner"]
        return State(
            Process(**owner) if owner else None,
            tuple(Process(**item) for item in values["processes"]),
            values.get("extension", BASIC.name),
            tuple(values.get("namespaces", ())),
        )

    def _write(self, state: State) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(state), indent=2))
        draft.replace(self._file)

    def record(self, process: Process) -> None:
        """Adds a process that goes with the instance."""
        state = self.read()
        self._write(replace(state, processes=(*(item for item in state.processes if item.alive), process)))

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Holds the directory for oneself; yields False if it has gone."""
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            here = os.fstat(descriptor)
            try:
                yield os.path.samestat(here, self.directory.stat())
            except FileNotFoundError:
                yield False
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Ends every process of the instance and every other one that lives in its namespaces, removes the namespaces
        and the directory. Nothing there: nothing to do. Safe to call from several processes at once.
        """
        with self._locked() as held:
            if not held:
                return
            state = self.read()
            namespaces = state.namespaces
            inside = [Process.find(pid) for pid in namespace.processes(namespaces) if pid != os.getpid()]
            end([*state.processes, *(process for process in inside if process)])
            for name in namespaces:
                namespace.remove(name)
            shutil.rmtree(self.directory, ignore_errors=True)
        for directory in (ROOT, ROOT.parent):
            with suppress(OSError):  # another instance is there
                directory.rmdir()


def instances() -> list[str]:
    """Names of all instances that have a directory."""
    with suppress(FileNotFoundError):
        return sorted(entry.name for entry in ROOT.iterdir() if INSTANCE_NAME.fullmatch(entry.name))
    return []


def clear_ruins() -> None:
    """Takes down every instance whose owner has died."""
    for name in instances():
        store = Store(name)
        if store.read().stale:
            store.remove()
