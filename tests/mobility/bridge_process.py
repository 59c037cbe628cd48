"""A supervisor around a node that passes everything on: ``python -m tests.mobility.bridge_process CONFIGURATION``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from mobility.config import Configuration, load
from mobility.net.netlink import LinkState
from mobility.node import Node
from mobility.sequences import SequenceFile
from mobility.supervisor import Supervisor
from tests.mobility.net.networks import Bridge


def build(_configuration: Configuration, _interfaces: Mapping[str, LinkState], _sequences: SequenceFile) -> Node:
    return Bridge()


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")
    sys.exit(Supervisor(load(Path(sys.argv[1])), build, ready).run())
