"""``python -m sip_test_env``: the test network from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.extensions import EXTENSIONS
from sip_test_env.faults import Access
from sip_test_env.impairment import Impairment
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BASIC, CABLES, INTERFACE
from sip_test_env.state import Store, instances

_UNITS = {
    "delay_ms": ("--delay", "MS"),
    "jitter_ms": ("--jitter", "MS"),
    "loss": ("--loss", "SHARE"),
    "duplicate": ("--duplicate", "SHARE"),
    "reorder": ("--reorder", "SHARE"),
    "reorder_ms": ("--reorder-by", "MS"),
    "rate": ("--rate", "BITS"),
    "queue": ("--queue", "OCTETS"),
    "mtu": ("--mtu", "OCTETS"),
}
"Fields of `Impairment` as options."
_MEANINGS = {
    "delay_ms": "added to each frame",
    "jitter_ms": "up to this much more, at random; no frame overtakes another because of it",
    "loss": "of the frames, 0 to 1",
    "duplicate": "arrive twice, 0 to 1",
    "reorder": "come later than they should, and are overtaken, 0 to 1",
    "reorder_ms": "how much later (default: 5)",
    "rate": "a second; 0: no limit",
    "queue": "that may wait for the rate (default: 65536)",
    "mtu": "of the largest IP packet that passes; larger ones vanish without a word; 0: no limit",
}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--instance", default="default", metavar="ID", help="which network (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print one JSON object")
    parser = argparse.ArgumentParser(
        prog="python -m sip_test_env", description="A SIP network out of network namespaces."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="build the network; it stays until `down`")
    up.add_argument(
        "--network",
        choices=EXTENSIONS,
        default=BASIC.name,
        help="; ".join(f"{name}: {extension.what}" for name, extension in EXTENSIONS.items()),
    )
    up.add_argument("--digest", choices=["MD5", "SHA-256"], default="MD5", help="Kamailio's digest algorithm")
    commands.add_parser("status", parents=[common], help="what stands")
    move = commands.add_parser("move", parents=[common], help="plug a terminal's cable into another link")
    move.add_argument("link", help="its name, or nowhere")
    move.add_argument("--interface", choices=CABLES, default=INTERFACE, help="which cable (default: %(default)s of mn)")
    access = commands.add_parser("access", parents=[common], help="say what the router of a link lets through")
    access.add_argument("link")
    access.add_argument("access", choices=[str(item) for item in Access])
    bad = commands.add_parser(
        "impair", parents=[common], help="make the wire of a router, or of the home agent (ha), a bad one; or mend it"
    )
    bad.add_argument("link", help="of the router; or ha")
    for field in fields(Impairment):
        name, unit = _UNITS[field.name]
        kind = int if isinstance(field.default, int) else float
        bad.add_argument(
            name, dest=field.name, type=kind, default=field.default, metavar=unit, help=_MEANINGS[field.name]
        )
    bad.add_argument(
        "--way", choices=("both", "forth", "back"), default="both",
        help="away from the router or home agent, towards it, or both (default); the other way stays as it is",
    )  # fmt: skip
    bad.add_argument("--seed", type=int, default=0, help="of the dice; counts when the wire is made a bad one first")
    commands.add_parser("nat-rebind", parents=[common], help="have the hotspot's NAT forget its mappings")
    execute = commands.add_parser("exec", parents=[common], help="run a program in a node: exec NODE -- CMD ...")
    execute.add_argument("node")
    execute.add_argument("program", nargs=argparse.REMAINDER, metavar="-- CMD")
    commands.add_parser("down", parents=[common], help="take the network down")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _show(status: dict[str, object], as_json: bool) -> None:
    if as_json:
        _say(json.dumps(status))
        return
    for key, value in status.items():
        if isinstance(value, dict):
            _say(f"{key}:")
            for name, item in value.items():
                _say(f"  {name:<12} {item}")
        elif isinstance(value, list):
            _say(f"{key}:")
            for item in value:
                _say("  " + "  ".join(f"{part}" for part in item.values()))
        else:
            _say(f"{key}: {value}")


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            network = TestNetwork(
                arguments.instance, digest=arguments.digest, keep=True, extension=EXTENSIONS[arguments.network]
            )
            network.up()
            _show(network.status(), arguments.json)
        case "status":
            if not Store(arguments.instance).exists:
                others = [name for name in instances() if name != arguments.instance]
                _show({"instance": arguments.instance, "up": False, "others": ", ".join(others)}, arguments.json)
                return 1
            _show({"up": True, **TestNetwork.attach(arguments.instance).status()}, arguments.json)
        case "move":
            network = TestNetwork.attach(arguments.instance)
            if arguments.link == "nowhere":
                _show({"from": network.location_of(arguments.interface), "to": None}, arguments.json)
                network.unplug(arguments.interface)
                return 0
            moved = network.move(arguments.link, arguments.interface)
            outage = round((moved.restored - moved.cut) * 1000, 3)
            _show({"from": moved.source, "to": moved.target, "outage_ms": outage}, arguments.json)
        case "access":
            TestNetwork.attach(arguments.instance).set_access(arguments.link, Access(arguments.access))
            _show({arguments.link: arguments.access}, arguments.json)
        case "impair":
            network = TestNetwork.attach(arguments.instance)
            wanted = Impairment(**{field.name: getattr(arguments, field.name) for field in fields(Impairment)})
            forth, back = (wanted if arguments.way in ("both", way) else None for way in ("forth", "back"))
            network.impair_ways(arguments.link, forth, back, seed=arguments.seed)
            counters = network.impaired(arguments.link)
            _show({"impaired": str(wanted), "forth": counters[0], "back": counters[1]}, arguments.json)
        case "nat-rebind":
            TestNetwork.attach(arguments.instance).nat_rebind()
            _show({"nat": "has forgotten its mappings"}, arguments.json)
        case "exec":
            program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
            if not program:
                raise EnvironmentFailure("say what to run: exec NODE -- CMD ...")
            namespace.enter(TestNetwork.attach(arguments.instance).plan.namespace(arguments.node))
            try:
                os.execvp(program[0], program)
            except OSError as error:
                raise EnvironmentFailure(f"cannot run {program[0]}: {error.strerror}") from None
        case "down":
            standing = Store(arguments.instance).exists
            Store(arguments.instance).remove()
            _show({"instance": arguments.instance, "was_up": standing}, arguments.json)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: done; 1: not up; 2: did not work, and standard error says why."""
    try:
        return _run(_parser().parse_args(arguments))
    except PermissionError as error:
        sys.stderr.write(f"sip_test_env: {error}; the test network needs root (try sudo)\n")
        return 2
    except (EnvironmentFailure, ValueError) as error:
        sys.stderr.write(f"sip_test_env: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
