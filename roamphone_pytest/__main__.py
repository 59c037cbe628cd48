"""``python -m roamphone_pytest``: a Kamailio on this machine to try phones with, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys

from roamphone_pytest.needs import Missing
from roamphone_pytest.ports import HOSTS
from roamphone_pytest.server import DOMAIN, SipServer, running_server
from sip_test_env.errors import EnvironmentFailure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m roamphone_pytest", description=__doc__)
    parser.add_argument("--port", type=int, default=5060, help="of UDP and TCP, the next for TLS; default 5060")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # leaves the block below, which ends the server
    try:
        with running_server(port=options.port) as server:
            sys.stdout.write(
                f"{DOMAIN} on {' and '.join(HOSTS)}, port {server.sip_port} (TLS {server.sips_port}); users "
                f"{', '.join(server.users)}; the password of alice is {SipServer.password('alice')}\n"
            )
            sys.stdout.flush()
            while True:
                signal.pause()
    except (Missing, EnvironmentFailure) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
