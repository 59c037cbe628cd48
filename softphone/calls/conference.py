"""A conference that is mixed here (RFC 4353 calls it an endpoint mixer): everybody hears all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softphone.errors import CallError
from softphone.events import CallMuted, ConferenceChanged, EventHub
from softphone.media.mixer import Mixer, Port

if TYPE_CHECKING:
    from softphone.calls.call import Call


class Conference:
    """Calls whose other sides hear each other. Made by `Softphone.conference`; a call that ends leaves by itself."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._mixer = Mixer()
        self._ports: dict[Call, Port] = {}
        self.local = self._mixer.join()
        "Our own place: what is written to it, all others hear; what is read from it is all the others."

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(self._ports)

    async def add(self, call: Call) -> None:
        """Take an answered call in; one on hold is resumed. Raises CallError, ChangeRefused, TransportError."""
        if call in self._ports:
            return
        await call.answered(0)
        if call.on_hold:
            await call.resume()
        port = self._ports[call] = self._mixer.join()
        call.play(port)
        call.record(port)
        call.on_end(self._left)
        self._changed()

    def remove(self, call: Call) -> None:
        """The call goes on, alone and silent: give it a source and a sink. Raises CallError if it is not in it."""
        if call not in self._ports:
            raise CallError("the call is not in the conference")
        call.play(None)
        call.record(None)
        self._left(call)

    def mute(self, on: bool) -> None:
        """Whether nobody in it hears us; they hear each other all the same."""
        if on != self.local.muted:
            self.local.muted = on
            for call in self._ports:
                self._hub.emit(CallMuted(call.id, on))

    def close(self) -> None:
        """Everybody leaves; the calls go on."""
        for call in self.calls:
            self.remove(call)
        self._mixer.leave(self.local)

    def _left(self, call: Call) -> None:
        port = self._ports.pop(call, None)
        if port is not None:
            self._mixer.leave(port)
            self._changed()

    def _changed(self) -> None:
        self._hub.emit(ConferenceChanged(tuple(call.id for call in self._ports)))
