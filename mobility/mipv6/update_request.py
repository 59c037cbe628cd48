"""A binding update with all that is asked for in it, whichever way it came (RFC 6275, RFC 5555, RFC 5648)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mobility.links import endpoint_address, mapped, unmapped
from mobility.mipv6.again import loss_in
from mobility.mipv6.home_paths import Path
from mobility.mipv6.signalling import Received
from mobility.wire import mh


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """What a terminal wants; nothing is judged yet."""

    home_address: IPv6Address
    path: Path
    "By which it came and is answered."
    care_of_address: IPv6Address | IPv4Address
    sequence: int
    lifetime: int
    "Seconds."
    flags: mh.UpdateFlag
    identifier: int
    "Binding identifier; 0: none, the update is about all bindings."
    malformed: int | None
    "Status that says what is wrong with its binding identifiers."
    address4: IPv4Address | None
    "IPv4 home address asked for; 0.0.0.0: any."
    loss: tuple[int, int] | None
    "Highest number received before a loss, and the number of the loss."
    late: bool
    "Others, sent later, came before."
    under_ipsec: bool
    prefixes: tuple[mh.MobileNetworkPrefix, ...] = ()
    "That a mobile router names (explicit mode of RFC 3963)."

    @classmethod
    def of(cls, update: mh.BindingUpdate, received: Received, path: Path, *, late: bool) -> UpdateRequest:
        """``path``: by which the packet came."""
        told4 = next((o.address for o in update.options if isinstance(o, mh.IPv4CareOfAddress)), None)
        told = update.alternate_care_of
        outer = received.outer_source if path.native else unmapped(endpoint_address(path.source))
        identifiers = [option for option in update.options if isinstance(option, mh.BindingIdentifier)]
        return cls(
            received.source,
            path,
            told4 if told4 is not None and not path.native else outer if told is None else told,
            update.sequence,
            update.lifetime,
            update.flags,
            identifiers[0].identifier if identifiers else 0,
            _malformed(identifiers),
            next((o.address for o in update.options if isinstance(o, mh.IPv4HomeAddress)), None),
            loss_in(update.options) if received.under_ipsec else None,
            late,
            received.under_ipsec,
            tuple(option for option in update.options if isinstance(option, mh.MobileNetworkPrefix)),
        )

    @property
    def at_home(self) -> bool:
        """Whether it came from the home address itself, on the home link."""
        return self.path.source == self.home_address.packed

    @property
    def is_release(self) -> bool:
        """Whether it is to end a binding, or all."""
        return self.lifetime == 0 or (self.path.native and self.care_of_address == self.home_address)

    @property
    def is_router(self) -> bool:
        """Whether it comes from a mobile router, for its networks as well (RFC 3963 section 4.1)."""
        return bool(self.flags & mh.UpdateFlag.MOBILE_ROUTER)

    @property
    def behind_nat(self) -> bool:
        """Whether the terminal has another address than the one that it is seen with (RFC 5555 section 4.1)."""
        return not self.path.native and endpoint_address(self.path.source) != mapped(self.care_of_address)


def _malformed(identifiers: list[mh.BindingIdentifier]) -> int | None:
    if len(identifiers) > 1:
        return mh.Status.MCOA_BULK_REGISTRATION_PROHIBITED
    if any(option.identifier == 0 for option in identifiers):
        return mh.Status.MCOA_MALFORMED
    if any(option.simultaneous_home for option in identifiers):
        return mh.Status.MCOA_SIMULTANEOUS_HOME_AND_FOREIGN_PROHIBITED
    return None
