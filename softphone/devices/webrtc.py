"""The browser headset over WebRTC: with `softphone.media.rtp` and `softphone.media.tracks` all that imports aiortc."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError

from softphone.devices.browser import BrowserDevice
from softphone.devices.device import RATE, DeviceError
from softphone.media.codecs import Samples
from softphone.media.tracks import CallTrack, MediaStreamError, MediaStreamTrack, mono

GATHERING = 5.0
"Seconds for an answer, in which aioice looks for addresses."


class WebRtcWay:
    """One peer connection with a page. ``over`` is told when it has failed, or the page has left."""

    def __init__(self, device: BrowserDevice, over: Callable[[], None]) -> None:
        self._device = device
        self._over = over
        self._track = CallTrack()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # this machine, or its network
        self._connection.add_listener("track", self._begin)
        self._connection.add_listener("connectionstatechange", self._changed)
        self._hearing: asyncio.Task[None] | None = None

    async def answer(self, offer: str) -> str:
        """The description for the page; candidates are in it. Raises DeviceError."""
        try:
            async with asyncio.timeout(GATHERING):
                await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                if not any(one.kind == "audio" for one in self._connection.getTransceivers()):
                    raise DeviceError("the page offers no sound")
                self._connection.addTrack(self._track)
                await self._connection.setLocalDescription(await self._connection.createAnswer())
        except (ValueError, KeyError, IndexError, InvalidAccessError, InvalidStateError, TimeoutError) as exc:
            raise DeviceError(f"the offer of the page cannot be used: {exc or type(exc).__name__}") from exc
        return str(self._connection.localDescription.sdp)

    def play(self, samples: Samples) -> None:
        self._track.write(samples)

    async def close(self) -> None:
        """May be called twice."""
        self._over = lambda: None
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        self._track.stop()
        await self._connection.close()

    def _begin(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._hearing is None:
            self._hearing = asyncio.create_task(self._hear(track), name="browser's microphone")

    async def _hear(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.AudioFrame):
                    self._device.hear(self, mono(resampler, frame))
        except MediaStreamError:
            self._over()

    def _changed(self) -> None:
        if self._connection.connectionState in ("failed", "closed", "disconnected"):
            self._over()
