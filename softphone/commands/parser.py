"""The command line of ``softphone``: commands and options, without what carries them out.

That is imported when a command runs: media and cryptography take a second, which ``--help``, completion and the
history do not need.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobility.commandline.completion import SHELLS
from softphone.commands import contacts, ctl, history, load
from softphone.commands.common import config_option, json_option, socket_option

if TYPE_CHECKING:
    from softphone.commands.common import Commands

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
NETWORKS = ("direct", "home")
TRIAL_SECONDS = 12.0


class Later:
    """The command whose work is ``module:function`` of this room. ``in_session``: it gets a running phone."""

    def __init__(self, place: str, *, in_session: bool = False) -> None:
        self.place = place
        self._in_session = in_session

    def __call__(self, options: argparse.Namespace) -> int:
        if not self._in_session:
            return int(self.work()(options))
        from softphone.commands.session import run

        return run(options, self.work())

    def work(self) -> Any:
        """The function."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"softphone.commands.{module}"), name)


def parser() -> argparse.ArgumentParser:
    """All of it."""
    whole = argparse.ArgumentParser(
        prog="softphone",
        description="A SIP softphone with Mobile IPv6 built in. Without a command it opens on the whole terminal; "
        "the first start leads to an account.",
        epilog="Exit status: 0 ok, 1 failure, 2 usage or configuration, 3 rejected, 4 unauthorised, 5 timeout, 6 busy.",
    )  # fmt: skip
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_calls(commands)
    _add_accounts(commands)
    history.add(commands)
    contacts.add(commands)
    _add_daemon(commands)
    ctl.add(commands)
    load.add(commands)
    commands.add_parser("tui", add_help=False, help="the phone on the whole terminal, as without a command")
    _add_devices(commands)
    commands.add_parser(
        "demo", add_help=False, help="a call that changes networks, on real network stacks in namespaces (needs root)"
    )
    completing = commands.add_parser("completion", help="print what makes a shell complete commands and options")
    completing.add_argument("shell", choices=SHELLS)
    completing.set_defaults(run=Later("completion:run"))
    return whole


# -- calls ------------------------------------------------------------------------------------------------------------


def _add_calls(commands: Commands) -> None:
    dialing = commands.add_parser("dial", help="call somebody; play, record, send digits")
    dialing.add_argument("target", metavar="TARGET", help="sip:bob@example.org, bob@example.org, or a number")
    dialing.add_argument("--anonymous", action="store_true", help="hide who calls")
    _call_options(dialing)
    _device_options(dialing)
    _session_options(dialing)
    dialing.set_defaults(run=Later("calls:dial", in_session=True))
    answering = commands.add_parser("answer", help="wait for calls and answer them")
    answering.add_argument(
        "--count", type=int, default=1, metavar="NUMBER", help="calls, then end; 0: go on; default 1"
    )
    answering.add_argument("--ring", type=float, default=0.0, metavar="SECONDS", help="before answering")
    answering.add_argument("--code", type=int, metavar="STATUS", help="refuse with this status: 486, 603...")
    _call_options(answering)
    _device_options(answering)
    _session_options(answering)
    answering.set_defaults(run=Later("calls:answer", in_session=True))
    registering = commands.add_parser("register", help="register and stay so, and tell what happens, until Ctrl-C")
    registering.add_argument("--duration", type=float, metavar="SECONDS", help="end after so long")
    _session_options(registering)
    registering.set_defaults(run=Later("calls:register", in_session=True))
    messaging = commands.add_parser("message", help="send a text")
    messaging.add_argument("target", metavar="TARGET")
    messaging.add_argument("text", metavar="TEXT")
    _session_options(messaging)
    messaging.set_defaults(run=Later("calls:message", in_session=True))


def _call_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--play-file", type=Path, metavar="FILE", help="once, when the call is answered; any format")
    parser.add_argument("--rec-file", type=Path, metavar="FILE", help="record both sides: .wav, .opus")
    parser.add_argument("--dtmf", metavar="DIGITS", help="send them when the file was played")
    parser.add_argument(
        "--duration", type=float, metavar="SECONDS", help="hang up after so long; default: when all was played and "
        "sent, and where there is nothing of that when the other side hangs up",
    )  # fmt: skip


def _device_options(parser: argparse.ArgumentParser) -> None:
    """Of commands that call."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="speak and hear with it: sounddevice, file, null, or a card of `softphone devices`",
    )
    parser.add_argument("--input", metavar="NAME", help="with --device: microphone, or file to be spoken")
    parser.add_argument("--output", metavar="NAME", help="with --device: loudspeaker, or file that gets what is heard")


def _session_options(parser: argparse.ArgumentParser) -> None:
    """Those of every command that runs a phone."""
    config_option(parser)
    parser.add_argument("--account", metavar="NAME", help="of the configuration; default: its default account")
    parser.add_argument("--id", metavar="ADDRESS", help="no account of the configuration: this address, alice@host")
    parser.add_argument("--registrar", metavar="URI", help="with --id: register there; else calls go directly")
    parser.add_argument("--username", metavar="NAME", help="with --id: name for the login")
    parser.add_argument("--password-env", metavar="VARIABLE", help="with --id: has the password")
    parser.add_argument("--local-host", metavar="ADDRESS", help="with --id")
    parser.add_argument("--local-port", type=int, default=0, metavar="PORT", help="with --id")
    parser.add_argument("--mobility", metavar="DIRECTORY", help="with --id: the runtime directory of `mobility mn`")
    parser.add_argument("--engine", choices=["roamphone", "pjsua2"], default="roamphone", help="with --id")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="to wait for others; default 60")
    _trace_options(parser)
    parser.add_argument("--no-history", action="store_true", help="leave no trace in the history")
    parser.add_argument("--verbose", "-v", action="store_true", help="log on stderr")
    json_option(parser)


def _trace_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trace", type=Path, metavar="FILE", help="SIP and RTP as pcapng, for Wireshark")
    parser.add_argument("--hep", metavar="HOST:PORT", help="SIP to a collector such as Homer (HEPv3 over UDP)")


# -- accounts, devices, daemon ----------------------------------------------------------------------------------------


def _add_accounts(commands: Commands) -> None:
    parser = commands.add_parser("accounts", help="the accounts of the phone: list, add, test, remove")
    inner = parser.add_subparsers(dest="accounts_command", required=True, metavar="COMMAND")
    listing = inner.add_parser("list", help="what is configured")
    json_option(listing)
    listing.set_defaults(run=Later("accounts:list_accounts"))
    adding = inner.add_parser("add", help="asks what is needed, finds the server, registers, and saves the account")
    _adding_options(adding)
    adding.set_defaults(run=Later("accounts:add_interactively"))
    testing = inner.add_parser("test", help="finds the server and registers, and says what happened")
    testing.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    testing.add_argument("--timeout", type=float, default=TRIAL_SECONDS, metavar="SECONDS")
    json_option(testing)
    testing.set_defaults(run=Later("accounts:try_accounts"))
    removing = inner.add_parser("remove", help="takes an account out of the configuration")
    removing.add_argument("name", metavar="NAME")
    removing.set_defaults(run=Later("accounts:remove"))
    for each in (listing, adding, testing, removing):
        config_option(each)


def _adding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", nargs="?", help="the SIP address: alice@example.org")
    parser.add_argument("--name", help="what the account is called here; default: the domain")
    parser.add_argument("--auth-user", help="name for the login, where it is not the part before the @")
    parser.add_argument("--display-name", help="what others see")
    parser.add_argument("--transport", choices=TRANSPORTS)
    parser.add_argument("--registrar", metavar="URI")
    parser.add_argument("--outbound-proxy", metavar="URI")
    parser.add_argument("--local-host", metavar="ADDRESS")
    parser.add_argument("--ca-file", metavar="FILE")
    parser.add_argument("--voicemail", metavar="NUMBER")
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--no-register", action="store_true", help="calls go directly to the address in their URI")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--password-file", metavar="FILE", help="its first line is the password; mode 0600")
    source.add_argument("--password-command", metavar="COMMAND", help="prints the password")
    source.add_argument("--password-env", metavar="VARIABLE")
    source.add_argument("--password-keyring", metavar="USER", help="the keyring has it under this name")
    source.add_argument("--password-stdin", action="store_true", help="read it from stdin, and keep it as `add` does")
    parser.add_argument("--batch", action="store_true", help="never ask")
    parser.add_argument("--no-test", action="store_true", help="save without trying")
    parser.add_argument("--keep", action="store_true", help="save also when the test fails")
    parser.add_argument("--timeout", type=float, default=TRIAL_SECONDS, metavar="SECONDS")


def _add_devices(commands: Commands) -> None:
    listing = commands.add_parser("devices", help="what one can speak and hear with")
    json_option(listing)
    listing.set_defaults(run=Later("devices:devices"))
    serving = commands.add_parser("headset", help="have the daemon serve a page that makes a browser the headset")
    socket_option(serving)
    json_option(serving)
    serving.set_defaults(run=Later("devices:headset"))


def _idle_time(text: str) -> float:
    seconds = float(text) if text.isdecimal() else 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("1 to 86400 seconds")
    return seconds


def _add_daemon(commands: Commands) -> None:
    serving = commands.add_parser("daemon", help="own all accounts and their calls; programs attach over a socket")
    config_option(serving)
    socket_option(serving)
    _trace_options(serving)
    serving.add_argument(
        "--exit-idle-time", type=_idle_time, metavar="SECONDS",
        help="end when no program has been attached for so long and there is no call",
    )  # fmt: skip
    serving.add_argument("--verbose", "-v", action="store_true", help="log more on stderr")
    serving.set_defaults(run=Later("daemon:serve"))
