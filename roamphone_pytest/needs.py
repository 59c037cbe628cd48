"""What fixtures need of the machine, and what to do where it is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

SERVER = {"kamailio": "kamailio", "kamcmd": "kamailio", "setpriv": "util-linux"}
"What runs a Kamailio: program -> Debian package."
NETWORK = {**SERVER, "radvd": "radvd", "ip": "iproute2", "nft": "nftables"}
"What runs the network of namespaces."
MODULES = ("kamailio-tls-modules",)
"Packages without programs of their own that go with Kamailio."
ADMINISTRATION = ("/usr/sbin", "/sbin")


class Missing(Exception):
    """The machine lacks something; the message says what, and what to do."""


def require(programs: Mapping[str, str], *, root: bool = False) -> None:
    """Raises `Missing` unless the programs are there, and root where it has to be."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMINISTRATION))
    absent = [program for program in programs if shutil.which(program, path=path) is None]
    if absent:
        packages = sorted({programs[program] for program in absent})
        if "kamailio" in packages:
            packages += MODULES
        raise Missing(f"{', '.join(absent)}: not installed; apt-get install {' '.join(packages)}")
    if root and os.geteuid() != 0:
        raise Missing(
            "the network is made of network namespaces, which need root: run pytest as root, for example with sudo; "
            "sip_proxy needs none"
        )
