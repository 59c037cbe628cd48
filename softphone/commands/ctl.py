"""``softphone ctl``: one request to the daemon, its result as a JSON line."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.commands.common import complain, say_json, socket_option
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import RequestError
from softphone.exit_code import ExitCode, code_named, code_of

if TYPE_CHECKING:
    from softphone.commands.common import Commands

Parser = argparse.ArgumentParser
CALL, ACCOUNT, LIMIT = "--call", "--account", "--limit"


class Finished(Exception):
    """It ended with this code, which was told."""

    def __init__(self, code: ExitCode, text: str = "") -> None:
        super().__init__(text)
        self.code = code


def add(commands: Commands) -> None:
    controlling = commands.add_parser(
        "ctl", help="have the daemon do something; results are JSON lines",
        description="Have the daemon do something. The result is a JSON line; docs/daemon.md says what is in it.",
    )  # fmt: skip
    socket_option(controlling)
    inner = controlling.add_subparsers(dest="operation", required=True, metavar="OPERATION")

    def of(operation: str, words: str, *options: str) -> Parser:
        parser = inner.add_parser(operation, help=words, description=f"{words[0].upper()}{words[1:]}.")
        for option in options:
            _option(parser, option)
        return parser

    of("status", "accounts and calls")
    _calls(of)
    _people(of)
    _accounts(of)
    of("sip-messages", "SIP messages of all accounts, or of one call", CALL, LIMIT)
    of("devices", "sound devices")
    of("device", "choose a sound device").add_argument("name")
    of("headset", "serve the page that makes a browser the headset")
    _json(of("mobility", "ask the mobility process of an account's network", ACCOUNT), "request", 'as {"op": "status"}')
    capture = of("capture", "write what mobility sends and receives into a pcapng file")
    capture.add_argument("file", type=_file_or_none, metavar="FILE", help="none: end it")
    events = of("events", "tell what happens, until Ctrl-C")
    events.add_argument(
        "topics", nargs="*", metavar="TOPIC", help="events, levels, quality, sip, log, mobility, packets"
    )
    of("stay", "let the daemon go on without programs")
    of("shutdown", "end the daemon, politely")
    controlling.set_defaults(run=control)


def _calls(of: Callable[..., Parser]) -> None:
    dial = of("dial", "call somebody", ACCOUNT)
    dial.add_argument("target", metavar="TARGET")
    dial.add_argument("--anonymous", action="store_true", default=None, help="hide who calls")
    dial.add_argument(
        "--wait", type=float, metavar="SECONDS", help="for the answer; the exit status says what became of the call"
    )
    of("answer", "take a call", CALL, ACCOUNT)
    of("reject", "refuse it", CALL, ACCOUNT).add_argument("--status", type=int, help="default: 486")
    for operation, words in (("hangup", "end a call"), ("hold", "put on hold"), ("resume", "end the hold")):
        of(operation, words, CALL, ACCOUNT)
    _switch(of("mute", "let the other side hear nothing of us", CALL, ACCOUNT))
    transfer = of("transfer", "hand a call on", CALL, ACCOUNT)
    transfer.add_argument("target", nargs="?", metavar="TARGET", help="to whom")
    transfer.add_argument("--to-call", metavar="ID", help="to the other side of this call")
    of("transfer-accept", "do what the other side wants", CALL, ACCOUNT)
    of("transfer-refuse", "stay in the call", CALL, ACCOUNT)
    of("dtmf", "send digits", CALL, ACCOUNT).add_argument("digits", metavar="DIGITS")
    for operation, words in (("play", "play a file into a call"), ("record", "record both sides into a file")):
        parser = of(operation, words, CALL, ACCOUNT)
        parser.add_argument("file", type=_file_or_none, metavar="FILE", help="none: end it")
    of("note", "write something down about a call", CALL, ACCOUNT).add_argument("text", metavar="TEXT")
    of("conference", "let calls hear each other").add_argument("calls", nargs="+", metavar="ID")
    of("conference-leave", "take a call out of its conference", CALL, ACCOUNT)


def _people(of: Callable[..., Parser]) -> None:
    message = of("message", "send a text", ACCOUNT)
    message.add_argument("target", metavar="TARGET")
    message.add_argument("text", metavar="TEXT")
    of("messages", "texts that came and went", ACCOUNT, LIMIT).add_argument("--peer", metavar="ADDRESS")
    history = of("history", "the latest calls", ACCOUNT, LIMIT)
    history.add_argument("--search", metavar="TEXT", help="in addresses, names and notes")
    of("history-remove", "forget one call").add_argument("entry", type=int, metavar="ID")
    of("contacts", "the address book", LIMIT).add_argument("search", nargs="?", metavar="TEXT")
    of("complete", "whom this may mean").add_argument("text", metavar="TEXT")
    presence = of("presence", "tell the server how we are to be reached", ACCOUNT)
    presence.add_argument("status", choices=("open", "closed"))
    presence.add_argument("--note", metavar="TEXT")
    for operation, words in (("watch", "be told of somebody's presence, calls or mailbox"), ("unwatch", "no longer")):
        parser = of(operation, words, ACCOUNT)
        parser.add_argument("uri", metavar="ADDRESS")
        parser.add_argument("--kind", choices=("presence", "calls", "mailbox"))
    of("watched", "who is watched, and what is known")
    _switch(of("dnd", "refuse calls as busy", ACCOUNT))


def _accounts(of: Callable[..., Parser]) -> None:
    of("accounts", "settings of the accounts, without passwords")
    of("account-test", "find the server of an account and register").add_argument("name", metavar="NAME")
    of("settings", "what may be set beyond accounts")
    setting = of("settings-save", "set it; reload makes it count")
    setting.add_argument("name", metavar="NAME")
    _json(setting, "value", "a JSON value, or a text; null takes it out")
    of("reload", "read the configuration again")


def _option(parser: Parser, option: str) -> None:
    match option:
        case "--call":
            parser.add_argument(option, metavar="ID", help="default: the only one")
        case "--limit":
            parser.add_argument(option, type=int, metavar="NUMBER", help="at most so many")
        case _:
            parser.add_argument(option, metavar="NAME", help="of this account")


def _switch(parser: Parser) -> None:
    parser.add_argument("on", nargs="?", type=_on, default=True, metavar="on|off", help="default: on")


def _on(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError("say on or off")
    return text == "on"


def _file_or_none(text: str) -> str:
    return "" if text == "none" else str(Path(text).absolute())


def _json(parser: Parser, name: str, words: str) -> None:
    parser.add_argument(name, type=_value, metavar=name.upper(), help=words)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def control(options: argparse.Namespace) -> int:
    """One request, one line."""
    own = ("command", "operation", "run", "socket", "wait", "topics")
    arguments = {name: value for name, value in vars(options).items() if name not in own and value is not None}
    if arguments.get("file") == "":
        del arguments["file"]
    if options.operation == "settings-save":
        arguments["value"] = options.value
    try:
        asyncio.run(_control(options, arguments))
    except KeyboardInterrupt:
        if options.operation != "events":
            raise
    except Finished as exc:
        if str(exc):
            complain(str(exc))
        return exc.code
    except RequestError as exc:
        complain(str(exc))
        return exc.code
    return ExitCode.OK


async def _control(options: argparse.Namespace, arguments: dict[str, object]) -> None:
    async with DaemonClient(options.socket) as client:
        if options.operation == "events":
            await client.subscribe(*options.topics)
            async for event in client.events():
                say_json(event)
                sys.stdout.flush()
            return
        wait: float | None = getattr(options, "wait", None)
        if wait is not None:
            await client.subscribe()
        result = await client.request(options.operation, **arguments)
        say_json({"result": result})
        sys.stdout.flush()
        match result:
            case {"ok": False, "result": word}:
                raise Finished(code_named(word))
            case {"call": str(call), "account": str(account)} if wait is not None:
                await _wait(client, {"call": call, "account": account}, wait)


async def _wait(client: DaemonClient, call: dict[str, str], seconds: float) -> None:
    """Until a call of ours is answered; else it is hung up, and the exit status says why."""
    try:
        async with asyncio.timeout(seconds):
            async for event in client.events():
                if not call.items() <= event.items():
                    continue
                if event["event"] == "call-answered":
                    return
                if event["event"] == "call-ended":
                    status = event.get("status")
                    raise Finished(code_of(status if isinstance(status, int) else 0), f"{status} {event.get('reason')}")
    except asyncio.CancelledError:  # Ctrl-C
        await client.request("hangup", **call)
        raise
    except TimeoutError:
        await client.request("hangup", **call)
        raise Finished(ExitCode.TIMEOUT, f"nobody answered within {seconds:g} s") from None
    raise Finished(ExitCode.FAILURE, "the daemon has gone")
