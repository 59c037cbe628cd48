"""How we are to be reached, and how others are: publication and subscriptions, for clients of the daemon."""

from __future__ import annotations

from typing import Any

from softphone.daemon.operations import Ground, Operation
from softphone.daemon.protocol import Arguments, RequestError
from softphone.event_names import shown
from softphone.packages.dialog_info import DialogInfo
from softphone.packages.presence import Presence
from softphone.sip.subscription import Phase
from softphone.telephone import Telephone
from softphone.user_agent.subscriptions import Subscription

MOST_WATCHED = 500
KINDS = ("presence", "calls", "mailbox")
STATUSES = ("open", "closed")


def _begin(phone: Telephone, uri: str, kind: str) -> Subscription[Any]:
    match kind:
        case "calls":
            return phone.watch_calls(uri)
        case "mailbox":
            return phone.watch_mailbox(uri)
        case _:
            return phone.watch_presence(uri)


class Presences:
    """They outlive the clients that asked for them, until `unwatch`."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._watched: dict[tuple[str, str, str], Subscription[Any]] = {}
        "By account, URI and kind."

    @property
    def operations(self) -> dict[str, Operation]:
        return {
            "presence": self._publish, "watch": self._watch, "unwatch": self._unwatch, "watched": self._list,
            "dnd": self._dnd,
        }  # fmt: skip

    async def _publish(self, arguments: Arguments) -> object:
        account, status = arguments.optional("account"), arguments.text("status")
        note, activities = arguments.any_text("note", ""), arguments.texts("activities", [])
        arguments.end()
        if status not in STATUSES:
            raise RequestError(f"status has to be one of {', '.join(STATUSES)}")
        for _, phone in self._ground.some(account):
            phone.publish(Presence(status == "open", note, tuple(activities)))
        return None

    async def _watch(self, arguments: Arguments) -> object:
        """`presence-changed`, `dialogs-changed` or `mailbox-changed` tell the rest."""
        uri, kind, account = self._asked(arguments)
        phone = self._ground.phone(account, uri)
        name = next(name for name, running in self._ground.phones.running.items() if running is phone)
        self._forget()
        key = name, uri, kind
        if key not in self._watched:
            if len(self._watched) >= MOST_WATCHED:
                raise RequestError(f"{MOST_WATCHED} are watched already: unwatch some")
            self._watched[key] = _begin(phone, uri, kind)
        return self._shown(key, self._watched[key])

    async def _unwatch(self, arguments: Arguments) -> object:
        uri, kind, account = self._asked(arguments)
        keys = [key for key in self._watched if key[1:] == (uri, kind) and account in (None, key[0])]
        if not keys:
            raise RequestError(f"{uri} is not watched")
        for key in keys:
            self._watched.pop(key).close()
        return None

    async def _list(self, arguments: Arguments) -> object:
        arguments.end()
        self._forget()
        return {"watched": [self._shown(key, watched) for key, watched in self._watched.items()]}

    async def _dnd(self, arguments: Arguments) -> object:
        account, on = arguments.optional("account"), arguments.flag("on")
        arguments.end()
        for name, phone in self._ground.some(account):
            phone.do_not_disturb = on
            self._ground.tell("do-not-disturb", account=name, on=on)
        return None

    def _asked(self, arguments: Arguments) -> tuple[str, str, str | None]:
        uri, kind, account = arguments.text("uri"), arguments.optional("kind"), arguments.optional("account")
        arguments.end()
        if kind is not None and kind not in KINDS:
            raise RequestError(f"kind has to be one of {', '.join(KINDS)}")
        return uri, kind or KINDS[0], account

    def _forget(self) -> None:
        """Those of accounts that do not run any more, and those that ended: watching begins anew."""
        running = self._ground.phones.running
        for key, watched in list(self._watched.items()):
            if key[0] not in running or watched.phase is Phase.ENDED:
                del self._watched[key]

    def _shown(self, key: tuple[str, str, str], watched: Subscription[Any]) -> dict[str, object]:
        account, uri, kind = key
        state = watched.state
        values: dict[str, object] = {
            "account": account, "uri": uri, "kind": kind, "phase": watched.phase.value, "reason": watched.reason,
            "state": None if state is None else shown(state),
        }  # fmt: skip
        if isinstance(state, DialogInfo):
            values["lamp"] = state.lamp.value
        return values
