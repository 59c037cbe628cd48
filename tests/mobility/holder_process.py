"""A host-OS holder on its own: ``holder_process.py RUNTIME ADDRESS ADDRESS4 [DNS...]``. Ends by a signal."""

from __future__ import annotations

import os
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from mobility import holder
from mobility.holder import HostSettings
from mobility.net.tun import TunSettings


def main(runtime: str, address: str, address4: str, *dns: str) -> int:
    Path(runtime).mkdir(mode=0o700, parents=True, exist_ok=True)
    tun = TunSettings("home0", IPv6Address(address), 1400, IPv4Address(address4))
    settings = HostSettings(tun, None, Path(runtime), tuple(ip_address(server) for server in dns))
    try:
        holder.run(settings, lifeline=None, ready=os.dup(1))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
