"""Kamailio in a container: the same configuration as in the namespaces, then Kamailio in this process's place.

    python3 -m sip_test_env.container DIRECTORY

Reads from the environment (see ``containers/compose.yaml``):
``SIP_ADDRESSES`` addresses to listen on, separated by commas; ``SIP_DOMAIN``; ``SIP_USERS`` as ``user:password`` pairs,
separated by commas; ``SIP_DIGEST`` ``MD5`` or ``SHA-256``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from sip_test_env import kamailio
from sip_test_env.kamailio import ProxySettings


def settings(environment: Mapping[str, str]) -> ProxySettings:
    """The settings that the environment variables give; ValueError says which one is missing or wrong."""
    for name in ("SIP_ADDRESSES", "SIP_USERS"):
        if not environment.get(name):
            raise ValueError(f"set the environment variable {name}; containers/compose.yaml shows how")
    passwords = {}
    for pair in environment["SIP_USERS"].split(","):
        user, _, password = pair.strip().partition(":")
        passwords[user] = password
    match environment.get("SIP_DIGEST", "MD5"):
        case "MD5" | "SHA-256" as digest:
            return ProxySettings(
                environment.get("SIP_DOMAIN", "roamphone.test"),
                tuple(ip_address(word.strip()) for word in environment["SIP_ADDRESSES"].split(",")),
                passwords,
                digest=digest,
            )
        case other:
            raise ValueError(f"SIP_DIGEST is {other!r}; choose MD5 or SHA-256")


def main() -> int:
    """Does not return unless the settings are wrong (exit status 2)."""
    try:
        config = kamailio.write(settings(os.environ), Path(sys.argv[1]))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    command = kamailio.command(config)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
