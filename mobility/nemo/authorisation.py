"""Which networks a binding update of a mobile router is for, and whether it may have them (RFC 3963 section 6.2)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Network

from mobility.mipv6.binding_cache import Binding
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.mipv6.update_request import UpdateRequest
from mobility.wire import mh


class NotAuthorised(Exception):
    """A refusal: its status, and why for people."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def wanted_networks(
    request: UpdateRequest, terminal: AuthorisedTerminal, rows: Iterable[Binding]
) -> tuple[IPv6Network, ...]:
    """The networks; empty: of a mobile host. ``rows``: how it is bound already. Raises `NotAuthorised`."""
    router = request.is_router
    if any(bool(row.mobile_networks) is not router for row in rows):
        kinds = "a mobile host", "a mobile router"
        raise NotAuthorised(mh.Status.REGISTRATION_TYPE_CHANGE, f"it is bound as {kinds[not router]}")
    if not router:
        return ()
    if not terminal.mobile_networks:
        raise NotAuthorised(mh.Status.MOBILE_ROUTER_NOT_PERMITTED, "it has no mobile_networks here")
    if not request.prefixes:
        if not terminal.implicit:
            raise NotAuthorised(mh.Status.FORWARDING_SETUP_FAILED, "it names no prefixes, and implicit = false here")
        return terminal.mobile_networks
    networks: dict[IPv6Network, None] = {}
    for prefix in request.prefixes:
        network = prefix.network
        if network is None:
            raise NotAuthorised(mh.Status.INVALID_PREFIX, f"{prefix.prefix}/{prefix.length} is no prefix")
        if not any(network.subnet_of(own) for own in terminal.mobile_networks):
            raise NotAuthorised(mh.Status.NOT_AUTHORIZED_FOR_PREFIX, f"{network} is not one of its mobile_networks")
        networks[network] = None
    return tuple(networks)
