"""A terminal whose binding updates and acknowledgements come under AH (Figs. 14, 19 and 20 of the source)."""

from __future__ import annotations

from mobility.terminal import Terminal
from mobility.wire import ip6
from mobility.wire.errors import WireError


class AuthenticatedTerminal(Terminal):
    """Takes what comes under AH from the home agent for signalling: nothing else comes that way."""

    def _is_signalling(self, packet: bytes) -> bool:
        if super()._is_signalling(packet):
            return True
        try:
            return packet[8:24] == self._agent and ip6.walk(packet).protocol == ip6.AH
        except WireError:
            return False
