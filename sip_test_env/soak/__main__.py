"""``python -m sip_test_env.soak --seconds 300 --seed 7``: calls one after the other, with faults in each."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time

from sip_test_env.errors import EnvironmentFailure
from sip_test_env.mobility_nodes import TUNNELS
from sip_test_env.soak.soak import Soak


def main() -> int:
    """Exit status: 0 all held, 1 something did not, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m sip_test_env.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="no call begins after them (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to see the same again")
    parser.add_argument("--tunnel", choices=TUNNELS, default="esp", help="form of the mobile tunnel (default: esp)")
    parser.add_argument("--instance", default="soak", help="name of the test network")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root to make network namespaces; use `make soak` or sudo")
    seed = int.from_bytes(os.urandom(3)) if options.seed is None else options.seed
    began = time.monotonic()

    def progress(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:6.1f} s] {text}\n")
        sys.stderr.flush()

    progress(f"seed {seed}")
    soak = Soak(options.instance, seed, options.seconds, progress, options.tunnel)
    try:
        asyncio.run(soak.run())
    except (EnvironmentFailure, OSError, TimeoutError) as error:
        soak.report.complaints.append(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        soak.report.complaints.append("interrupted")
    sys.stdout.write(json.dumps(soak.report.as_json()) + "\n")
    return 0 if soak.report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
