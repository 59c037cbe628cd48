"""``python -m ui``: what `softphone` and `softphone tui` run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from softphone.daemon.link import DaemonLink, DaemonProcess

DEMO = "sip_test_env.demo"
"A program of its own: product code never imports the test environment."


def main(arguments: list[str] | None = None) -> int:
    """Open the user interface; the exit status is that of the program."""
    options = _parser().parse_args(arguments)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write("softphone: the user interface needs a terminal; `softphone --help` tells the commands\n")
        return 2
    from ui.app import RoamphoneApp

    link = DaemonLink(options.socket)
    if not options.attach:
        link.daemon = DaemonProcess(link.path, configuration=options.config, stays=options.leave)
    app = RoamphoneApp(link, options.config, leave_daemon=options.leave)
    app.run()
    if app.wants_demo:
        demo = [sys.executable, "-m", DEMO, "--tui"]
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        os.execvp((as_root + demo)[0], as_root + demo)
    return app.return_code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="softphone tui", description="The phone on the whole terminal.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: ~/.config/roamphone/softphone.toml")
    parser.add_argument("--socket", type=Path, metavar="FILE", help="the daemon's")
    parser.add_argument("--attach", action="store_true", help="never start a daemon: wait for one")
    parser.add_argument("--leave", action="store_true", help="leave the daemon that was started running")
    return parser


if __name__ == "__main__":
    sys.exit(main())
