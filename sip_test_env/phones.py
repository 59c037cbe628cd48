"""The two phones of a call, on the host OS of terminal and correspondent."""

from __future__ import annotations

import shutil
from pathlib import Path

from sip_test_env.agents import PhoneProcess
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork

TERMINAL, CORRESPONDENT = "6001", "6002"


def terminals_phone(nodes: MobilityNodes) -> PhoneProcess:
    """The phone of the terminal, of the same user, on the same machine."""
    network, terminal = nodes.network, nodes.terminal
    log = network.directory / "phone-mn.log"
    return PhoneProcess("terminal's phone", log, user=terminal.user, namespace=network.plan.namespace(terminal.node))


async def registered(
    phone: PhoneProcess,
    user: str,
    nodes: MobilityNodes,
    role: str,
    *,
    transport: str = "udp",
    codec: str = "opus",
    proxy: str | None = None,
) -> None:
    """Registers a phone that lives in the host OS of ``role`` (``mn`` or ``cn``). Raises `EnvironmentFailure`.

    ``proxy``: where it sends its requests; None: the proxy's address.
    """
    network = nodes.network
    account = network.account(user)
    ca_file = network.ca_file
    if role == "mn" and nodes.terminal.user is not None:  # who may not look into root's directories
        ca_file = nodes.terminal.user.own(Path(shutil.copy(ca_file, nodes.terminal.user.directory)))
    await phone.do(
        "register",
        host=str(nodes.runtime(role) / "host.sock"),
        user=user,
        password=account.password,
        domain=account.domain,
        proxy=proxy_uri(network, transport) if proxy is None else proxy,
        transport=transport,
        ca_file=str(ca_file),
        codec=codec,
        protected=nodes.application == "calls",
    )


def proxy_uri(network: TestNetwork, transport: str) -> str:
    """Where phones send their requests."""
    plan = network.plan
    port = plan.sips_port if transport == "tls" else plan.sip_port
    return f"sip:[{plan.proxy}]:{port};transport={transport};lr"
