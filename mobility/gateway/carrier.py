"""One outer connection: TLS, and in it HTTP/2 (RFC 9113) whose streams are tunnels by CONNECT (section 8.5).

The same for both ends. Octets come in by `received`; what happened is a list of `Happening`; what has to go out is
taken by `outgoing`. When it has ended, the last happening is `Lost`, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from mobility.gateway.causes import Cause
from mobility.gateway.frames import FrameLengths
from mobility.gateway.secure import SecureLink, SecureLinkError
from mobility.gateway.tunnel import WINDOW

HANDSHAKE_TIME = 10.0
"Seconds for TCP, TLS and the first settings together."
ANSWER_TIME = 5.0
"Seconds for the answer to a PING."
MOST_QUEUED = 1 << 18
"Octets that wait for the network before no more data is put into the session."
MOST_UNREAD = 1 << 20
"Octets that wait for the network before the other side counts as one that does not read."
MOST_RESETS, RESETS_PER_SECOND = 200.0, 20.0
"Streams that a peer may open and reset at once, and all the time: each costs us work and costs it nothing."


class Established(NamedTuple):
    """TLS and HTTP/2 stand."""


class Requested(NamedTuple):
    """The other side asks for a tunnel (or something else)."""

    stream: int
    fields: Mapping[str, str]


class Answered(NamedTuple):
    """Of a request of ours."""

    stream: int
    fields: Mapping[str, str]


class Data(NamedTuple):
    stream: int
    data: bytes


class Ended(NamedTuple):
    """The other side sends no more in this stream."""

    stream: int


class Aborted(NamedTuple):
    """The other side has reset the stream."""

    stream: int
    code: int


class Acknowledged(NamedTuple):
    """The other side gave back so many octets of the stream's window."""

    stream: int
    octets: int


class Writable(NamedTuple):
    """Streams may send (again)."""


class Lost(NamedTuple):
    """The connection is of no use any more."""

    cause: Cause
    why: str


Happening = Established | Requested | Answered | Data | Ended | Aborted | Acknowledged | Writable | Lost


class Carrier:
    """See the module. The client sends a PING when nothing came for ``keepalive`` seconds; the server, when nothing
    came for three times as long.
    """

    def __init__(self, link: SecureLink, *, client: bool, now: float, keepalive: float, streams: int) -> None:
        """``streams``: how many tunnels the other side may have open at a time (for a client: none)."""
        self.link = link
        self._client = client
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding="utf-8"))
        codes = h2.settings.SettingCodes
        values = {
            codes.INITIAL_WINDOW_SIZE: WINDOW,
            codes.MAX_HEADER_LIST_SIZE: 1 << 14,
            codes.MAX_CONCURRENT_STREAMS: streams,
            codes.ENABLE_PUSH: 0,
        }
        if not client:
            del values[codes.ENABLE_PUSH]
        self._h2.local_settings = h2.settings.Settings(client=client, initial_values=values)
        self._lengths = FrameLengths(preface=not client)
        self._keepalive = keepalive if client else 3 * keepalive
        self._deadline = now + HANDSHAKE_TIME
        self._heard = now
        self._pinged: float | None = None
        self._pings = 0
        self._queued = 0
        self._resets = MOST_RESETS, now
        self._speaking = False
        self.established = False
        "Both ends have spoken HTTP/2."
        self.lost: Lost | None = None
        self.round_trip: float | None = None
        "Seconds, of the last PING."

    # ------------------------------------------------------------ from the network

    def start(self, now: float) -> list[Happening]:
        """A client begins."""
        if not self._client:
            return []
        try:
            self.link.start()
        except SecureLinkError as error:
            return self._lose(error.cause, error.why)
        return []

    def received(self, data: bytes, now: float) -> list[Happening]:
        """Octets of the network; empty: it has ended."""
        if self.lost is not None:
            return []
        if not data:
            self.link.cut_off()
            return self._lose(Cause.CUT_OFF, "the connection ended without a word")
        happened: list[Happening] = []
        try:
            plain = self.link.receive(data)
            if self.link.established and not self._speaking and not self._speak():
                return self._lose(Cause.NOT_HTTP2, "the other side does not offer HTTP/2 (ALPN h2)")
            if plain:
                self._heard = now
                if (length := self._lengths.follow(plain)) is not None:
                    return self._lose(Cause.PROTOCOL_VIOLATED, f"a frame of {length} octets")
                for event in self._h2.receive_data(plain):
                    happened += self._event(event, now)
                    if happened and isinstance(happened[-1], Lost):
                        return happened
            if self.link.ended:
                return happened + self._lose(Cause.CLOSED, "the other side has closed the session")
            self._flush()
        except SecureLinkError as error:
            return happened + self._lose(error.cause, error.why)
        except h2.exceptions.ProtocolError as error:
            self._flush_quietly()
            return happened + self._lose(Cause.PROTOCOL_VIOLATED, str(error) or type(error).__name__)
        return happened

    def written(self, octets: int) -> list[Happening]:
        """The network has taken so many of what `outgoing` gave."""
        before, self._queued = self._queued, self._queued - octets
        return [Writable()] if before >= MOST_QUEUED > self._queued and self.lost is None else []

    def outgoing(self) -> bytes:
        """What has to go to the network."""
        data = self.link.outgoing()
        self._queued += len(data)
        return data

    def _speak(self) -> bool:
        """TLS stands: begins with HTTP/2, if that is what was agreed."""
        if self.link.protocol != "h2":
            self.link.close()
            return False
        self._speaking = True
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW * 64)  # streams have windows; one must not stop the others
        self._flush()
        return True

    def _event(self, event: h2.events.Event, now: float) -> list[Happening]:
        match event:
            case h2.events.RequestReceived():
                return [Requested(event.stream_id, dict(_pairs(event.headers)))]
            case h2.events.ResponseReceived():
                return [Answered(event.stream_id, dict(_pairs(event.headers)))]
            case h2.events.DataReceived():
                padding = event.flow_controlled_length - len(event.data)
                if padding:
                    self._h2.acknowledge_received_data(padding, event.stream_id)
                return [Data(event.stream_id, event.data)] if event.data else []
            case h2.events.StreamEnded():
                return [Ended(event.stream_id)]
            case h2.events.StreamReset():
                tokens, since = self._resets
                tokens = min(MOST_RESETS, tokens + (now - since) * RESETS_PER_SECOND) - 1
                self._resets = tokens, now
                if tokens < 0:
                    return self._lose(Cause.PROTOCOL_VIOLATED, "streams are opened and reset without end")
                return [Aborted(event.stream_id, int(event.error_code))]
            case h2.events.WindowUpdated():
                if event.stream_id:
                    return [Acknowledged(event.stream_id, event.delta), Writable()]
                return [Writable()]
            case h2.events.RemoteSettingsChanged():
                # Only now: a client of TLS 1.3 is through with the handshake before the server has judged it.
                first, self.established = not self.established, True
                return [Established()] if first else [Writable()]
            case h2.events.PingAckReceived():
                if self._pinged is not None and event.ping_data == self._pings.to_bytes(8, "big"):
                    self.round_trip, self._pinged = now - self._pinged, None
            case h2.events.ConnectionTerminated():
                if event.error_code == h2.errors.ErrorCodes.NO_ERROR:
                    return self._lose(Cause.CLOSED, "the other side has closed the session")
                words = (event.additional_data or b"").decode("ascii", "replace")
                return self._lose(Cause.CLOSED, f"the other side gave up ({event.error_code!s}) {words}".strip())
        return []

    # ------------------------------------------------------------ to the network

    def request(self, fields: Mapping[str, str]) -> int | None:
        """Asks for a tunnel; returns its stream. None: the other side takes no more of them now."""
        if self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams:
            return None
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, list(fields.items()))
        self._flush()
        return stream

    def answer(self, stream: int, fields: Mapping[str, str], *, end: bool = False) -> None:
        self._quietly(lambda: self._h2.send_headers(stream, list(fields.items()), end_stream=end))

    def capacity(self, stream: int) -> int:
        """How many octets may be sent in the stream now."""
        if self._queued >= MOST_QUEUED or self.lost is not None:
            return 0
        try:
            return max(0, min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size))
        except h2.exceptions.ProtocolError:
            return 0

    def send(self, stream: int, data: bytes) -> None:
        """At most `capacity` octets."""
        self._quietly(lambda: self._h2.send_data(stream, data))

    def end(self, stream: int) -> None:
        """Nothing more comes in this stream."""
        self._quietly(lambda: self._h2.end_stream(stream))

    def abort(self, stream: int, *, broken: bool = True) -> None:
        """Resets the stream. ``broken``: because the TCP connection behind it was reset (RFC 9113 section 8.5)."""
        code = h2.errors.ErrorCodes.CONNECT_ERROR if broken else h2.errors.ErrorCodes.CANCEL
        self._quietly(lambda: self._h2.reset_stream(stream, code))

    def passed_on(self, stream: int, octets: int) -> None:
        """The other side may send so many more."""
        if octets > 0:
            self._quietly(lambda: self._h2.acknowledge_received_data(octets, stream))

    def close(self, cause: Cause, why: str) -> list[Happening]:
        """Ends the session in an orderly way."""
        if self.lost is not None:
            return []
        if self.established:
            self._quietly(lambda: self._h2.close_connection(additional_data=str(cause).encode()))
        self.link.close()
        return self._lose(cause, why)

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `wake` is due."""
        if self.lost is not None:
            return None
        if not self.established:
            return self._deadline
        return self._heard + self._keepalive if self._pinged is None else self._pinged + ANSWER_TIME

    def wake(self, now: float) -> list[Happening]:
        due = self.timer
        if due is None or now < due:
            return []
        if not self.established:
            return self._lose(Cause.HANDSHAKE_TIMEOUT, f"no session within {HANDSHAKE_TIME:g} s")
        if self._pinged is not None:
            if self._heard > self._pinged:  # not this answer, but something
                self._pinged = None
                return []
            return self._lose(Cause.SILENT, f"nothing came for {now - self._heard:.0f} s, nor the answer to a PING")
        self.ping(now)
        return []

    def ping(self, now: float) -> None:
        """Looks whether the other side is there; to be used when there is a doubt."""
        if self.established and self._pinged is None and self.lost is None:
            self._pinged = now
            self._pings += 1
            self._quietly(lambda: self._h2.ping(self._pings.to_bytes(8, "big")))

    # ------------------------------------------------------------ inside

    def _lose(self, cause: Cause, why: str) -> list[Happening]:
        self.lost = Lost(cause, why)
        return [self.lost]

    def _quietly(self, action: Callable[[], object]) -> None:
        """Says something in a stream that the other side may have closed meanwhile: then it need not be said."""
        if self.lost is not None:
            return
        try:
            action()
            self._flush()
        except (h2.exceptions.ProtocolError, SecureLinkError):
            self._flush_quietly()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self.link.send(data)

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except SecureLinkError:
            pass

    @property
    def unread(self) -> bool:
        """The other side lets too much pile up."""
        return self._queued > MOST_UNREAD


def _pairs(headers: Iterable[tuple[str | bytes, str | bytes]] | None) -> Iterable[tuple[str, str]]:
    for name, value in headers or ():
        yield _text(name), _text(value)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
