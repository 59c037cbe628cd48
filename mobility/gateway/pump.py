"""One TCP connection in an asyncio loop: octets in as they are wanted, octets out as they are taken."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol

CLOSING_TIME = 5.0
"Seconds for what is still to be sent when the connection is closed."
_NO_LINGER = struct.pack("ii", 1, 0)


class Reporter(Protocol):
    """Whom a pump tells."""

    def wanted(self) -> int:
        """How many octets may come now; 0: none, until `Pump.listen`."""

    def came(self, data: bytes) -> None:
        """Octets; empty: nothing more comes."""

    def went(self, octets: int) -> None:
        """So many were taken by the kernel."""

    def broke(self, why: str) -> None:
        """The connection was reset, or broke; the pump is closed."""

    def ended(self) -> None:
        """Both directions have come to their end, or `Pump.close` is done; the pump is closed."""


class Pump:
    """Owns a connected, non-blocking socket."""

    def __init__(self, sock: socket.socket, reporter: Reporter) -> None:
        self._socket = sock
        self._reporter = reporter
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._listening = self._writing = False
        self._no_more_in = self._no_more_out = self._out_ended = self._closing = False
        self.closed = False
        self._deadline: asyncio.TimerHandle | None = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def listen(self) -> None:
        """Octets are wanted (again)."""
        if not (self.closed or self._listening or self._no_more_in):
            self._listening = True
            self._loop.add_reader(self._socket, self._readable)

    def send(self, data: bytes) -> None:
        if self.closed or self._no_more_out:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._writable()

    def finish(self) -> None:
        """Nothing more goes out after what was given to `send`."""
        self._no_more_out = True
        if not self.closed:
            self._writable()

    def close(self) -> None:
        """Closes it when all is sent; what comes is not wanted."""
        if self.closed:
            return
        self._closing = True
        self._stop_listening()
        self._deadline = self._loop.call_later(CLOSING_TIME, self.reset)
        self.finish()

    def reset(self) -> None:
        """Ends it at once; the other side sees a reset."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._shut()

    def _readable(self) -> None:
        wanted = self._reporter.wanted()
        if wanted <= 0:
            self._stop_listening()
            return
        try:
            data = self._socket.recv(wanted)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self._no_more_in = True
            self._stop_listening()
        self._reporter.came(data)
        self._look_for_the_end()

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._break(error)
            return
        del self._unsent[:sent]
        if self._unsent and not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket, self._writable)
        elif not self._unsent and self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)
        if sent:
            self._reporter.went(sent)
        if not self._unsent and self._no_more_out and not self._out_ended and not self.closed:
            self._out_ended = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # reset meanwhile, which reading tells
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if not self.closed and self._out_ended and (self._no_more_in or self._closing):
            self._shut()
            self._reporter.ended()

    def _break(self, error: OSError) -> None:
        self._shut()
        self._reporter.broke(error.strerror or str(error))

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._socket)

    def _shut(self) -> None:
        self.closed = True
        self._stop_listening()
        if self._writing:
            self._loop.remove_writer(self._socket)
        if self._deadline is not None:
            self._deadline.cancel()
        self._socket.close()
