"""What the parts of the daemon share: the phones, who listens, which call is meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from softphone.accounts.accounts import Phones
from softphone.calls.call import Call
from softphone.daemon.protocol import Arguments, RequestError
from softphone.daemon.topics import Audience, Topic
from softphone.telephone import Telephone

Operation = Callable[[Arguments], Awaitable[object]]


class Part(Protocol):
    """Some of what clients may do."""

    @property
    def operations(self) -> dict[str, Operation]:
        """By their names."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all parts stand on."""

    phones: Phones
    audience: Audience

    def tell(self, event: str, **values: object) -> None:
        """Something that happened in the daemon itself and in no phone."""
        self.audience.tell(Topic.EVENTS, {"event": event, **values})

    def calls(self) -> Iterator[tuple[str, Call]]:
        """All of them, with their accounts."""
        for name, phone in self.phones.running.items():
            for call in phone.calls:
                yield name, call

    def find(self, call: str | None, account: str | None) -> list[tuple[str, Call]]:
        """Those with this Call-ID, of this account; None: any."""
        return [(name, one) for name, one in self.calls() if call in (None, one.id) and account in (None, name)]

    def call(self, arguments: Arguments) -> tuple[str, Call]:
        """The call that is named, or the only one; ``account`` tells two with the same Call-ID apart.

        There are no arguments but these left.
        """
        wanted, account = arguments.optional("call"), arguments.optional("account")
        arguments.end()
        found = self.find(wanted, account)
        if len(found) == 1:
            return found[0]
        if found:
            raise RequestError(f"there are {len(found)} calls: say which")
        raise RequestError("there is no call" if wanted is None else f"there is no call {wanted!r}")

    def phone(self, account: str | None, target: str) -> Telephone:
        """Who reaches a target. Raises ConfigError."""
        return self.phones.choose(target) if account is None else self.phones[account]

    def some(self, account: str | None) -> list[tuple[str, Telephone]]:
        """The phone of an account, or all. Raises ConfigError."""
        if account is None:
            return list(self.phones.running.items())
        return [(account, self.phones[account])]


def absolute(file: str) -> Path:
    """Raises RequestError for a path that depends on where the daemon is."""
    path = Path(file)
    if not path.is_absolute():
        raise RequestError(f"{file} has to be an absolute path: the daemon may be in another directory")
    return path


def since_1970(at: float | None, now: float) -> float | None:
    """A time of the event loop's clock; ``now``: seconds since 1970."""
    return None if at is None else round(now - (asyncio.get_running_loop().time() - at), 3)
