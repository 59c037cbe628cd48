"""The command ``mobility``. Exit status: 0 done, 1 something failed, 2 wrong use or wrong configuration."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mobility.client import ControlClient, MobilityError
from mobility.config import ConfigurationError, Role, default_runtime, load
from mobility.ipsec.algorithms import Algorithm
from mobility.sequences import SequenceFileError
from mobility.supervisor import AlreadyRunning, Supervisor
from mobility.trace import esp_sa_table, write_esp_sa

DONE, FAILED, WRONG = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s mobility[%(process)d] %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        status = options.run(options)
        sys.stdout.flush()
        return int(status)
    except ConfigurationError as error:
        return _complain(str(error), WRONG)
    except PermissionError as error:
        return _complain(f"{error.strerror}: {error.filename or 'this needs root'}", FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains on its way out
        return FAILED
    except (MobilityError, AlreadyRunning, SequenceFileError, OSError) as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mobility", description="Mobile IPv6 with IPsec in user space.")
    parser.add_argument("--verbose", action="store_true", help="tell more in the log")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for role, what in (
        (Role.MOBILE_NODE, "run a mobile node: a host OS that keeps its home address wherever it is"),
        (Role.HOME_AGENT, "run a home agent"),
        (Role.CORRESPONDENT, "run a correspondent: a host OS with IPsec that stays where it is"),
    ):
        command = commands.add_parser(role, help=what, description=what)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="see docs/configuration.md")
        command.set_defaults(run=_run_node, role=role)

    status = commands.add_parser("status", help="show tables and counters of a running node")
    _add_runtime(status)
    status.add_argument("--json", action="store_true", help="one line of JSON")
    status.add_argument("--watch", action="store_true", help="then show events as they happen")
    status.set_defaults(run=lambda options: asyncio.run(_status(options)))

    command = commands.add_parser("command", help="have a running node do something")
    command.add_argument(
        "name",
        nargs="+",
        help="mobile node: reregister (send a binding update now), move LINK (prefer it), return-home",
    )
    _add_runtime(command)
    command.set_defaults(run=lambda options: asyncio.run(_command(options)))

    table = commands.add_parser("esp-sa", help="write the keys of nodes as Wireshark's esp_sa table")
    table.add_argument(
        "--config", type=Path, required=True, action="append", metavar="FILE", help="may be given several times"
    )
    table.add_argument("--output", type=Path, metavar="FILE", help="mode 0600; default: standard output")
    table.set_defaults(run=_esp_sa)

    keys = commands.add_parser("keys", help="make random keys for a pair of security associations")
    keys.add_argument(
        "--algorithm",
        choices=[algorithm.value for algorithm in Algorithm],
        default=Algorithm.AES_CBC_HMAC_SHA2_256_128.value,
    )
    keys.set_defaults(run=_keys)
    return parser


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime", type=Path, metavar="DIRECTORY", help="that of the node; default: that of the mobile node"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="take the directory from this file")


def _runtime(options: argparse.Namespace) -> Path:
    if options.config is not None:
        return load(options.config).runtime
    return default_runtime(Role.MOBILE_NODE) if options.runtime is None else Path(options.runtime)


def _run_node(options: argparse.Namespace) -> int:
    from mobility.assembly import build  # only here: the other commands need no node and start faster without

    configuration = load(options.config, role=options.role)

    def ready() -> None:
        _say(f"mobility {configuration.role}: ready in {configuration.runtime}")

    return Supervisor(configuration, build, ready).run()


async def _status(options: argparse.Namespace) -> int:
    async with ControlClient(_runtime(options) / "control.sock") as control:
        events = control.events() if options.watch else None
        status = await control.status()
        _say(json.dumps(status) if options.json else "\n".join(_lines(status)))
        if events is not None:
            async for event in events:
                _say(json.dumps(event) if options.json else _event_line(event))
    return DONE


async def _command(options: argparse.Namespace) -> int:
    async with ControlClient(_runtime(options) / "control.sock") as control:
        result = await control.command(" ".join(options.name))
        if result is not None:
            _say(json.dumps(result))
    return DONE


def _esp_sa(options: argparse.Namespace) -> int:
    configurations = [load(path) for path in options.config]
    if options.output is None:
        _say(esp_sa_table(configurations).rstrip("\n"))
    else:
        write_esp_sa(options.output, configurations)
    return DONE


def _keys(options: argparse.Namespace) -> int:
    algorithm = Algorithm.parse(options.algorithm)
    lines = []
    for direction in ("outbound", "inbound"):
        # SPIs in a range that is left to manual keying; the other end has the two lines swapped.
        spi = 0x1000 + int.from_bytes(os.urandom(2), "big")
        fields = [f"spi = {spi:#x}", f'algorithm = "{algorithm.value}"']
        for name, length in (
            ("encryption", algorithm.key_lengths[-1]),
            ("authentication", algorithm.authentication_key_length),
        ):
            if length:
                fields.append(f'{name} = "{os.urandom(length).hex()}"')
        lines.append(f"{direction} = {{ {', '.join(fields)} }}")
    if algorithm.aead:
        lines.append('keys = "session"  # never use these keys a second time')
    _say("\n".join(lines))
    return DONE


def _lines(value: object, indent: str = "") -> list[str]:
    """JSON-ready values as indented text for people."""
    if isinstance(value, dict):
        entries = [(f"{key}:", item) for key, item in value.items()]
    elif isinstance(value, list):
        entries = [("-", item) for item in value]
    else:
        return [f"{indent}{_word(value)}"]
    lines: list[str] = []
    for head, item in entries:
        if isinstance(item, dict | list) and item:
            lines.append(f"{indent}{head}")
            lines.extend(_lines(item, indent + "  "))
        else:
            lines.append(f"{indent}{head} {_word(item)}")
    return lines


def _word(value: object) -> str:
    match value:
        case None | {} | []:
            return "none"
        case True:
            return "yes"
        case False:
            return "no"
        case float():
            return f"{value:.3f}"
    return str(value)


def _event_line(event: dict[str, object]) -> str:
    rest = " ".join(f"{key}={_word(value)}" for key, value in event.items() if key not in ("time", "event"))
    return f"{event.get('time', '')} {event['event']} {rest}".rstrip()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str, status: int) -> int:
    sys.stderr.write(f"mobility: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
