"""The page of the browser headset: HTTP and a WebSocket on this machine only, for whoever knows the token of its URL.

Pages of others cannot do harm: every request must be for a name of this machine (else one that somebody lets point
here, DNS rebinding, would do), the WebSocket must come from our own page, and its first message has the token. The
token stands behind the ``#``: browsers send that part to nobody.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import resources

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from softphone.daemon.protocol import Arguments, RequestError, decoded
from softphone.devices.browser import BrowserDevice, FrameWay
from softphone.devices.webrtc import WebRtcWay
from softphone.errors import SoftphoneError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = frozenset(("127.0.0.1", "localhost", "[::1]"))
"Of this machine, as a browser on it, or at the end of an SSH tunnel, calls it; the port may be another there."
SOCKET = "/socket"
FILES = {
    "/": ("headset.html", "text/html"), "/headset.css": ("headset.css", "text/css"),
    "/headset.js": ("headset.js", "text/javascript"), "/worklet.js": ("worklet.js", "text/javascript"),
}  # fmt: skip
SAFETY = (
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
)  # fmt: skip
ALLOWED = frozenset(("dial", "answer", "reject", "hangup", "hold", "resume", "mute", "dtmf"))
"Operations of the daemon that a page may ask for."
MOST_PAGES = 4
LONGEST = 1 << 16
"Bytes of a message."
PATIENCE = 10.0
"Seconds for the token."
BACKLOG = 25
"Messages of sound (20 ms each) that wait for a page; then the oldest goes."

Perform = Callable[[str, Arguments], Awaitable[object]]
Snapshot = Callable[[], dict[str, object]]


class HeadsetPage:
    """Serves the page; ``device`` is what becomes of it.

    ``perform`` does operations of the daemon, ``snapshot`` tells the calls, ``on_connect`` is told whether a page is
    the headset now.
    """

    def __init__(
        self, device: BrowserDevice, perform: Perform, snapshot: Snapshot, on_connect: Callable[[bool], None]
    ) -> None:
        self.device = device
        self.perform, self.snapshot, self.on_connect = perform, snapshot, on_connect
        self.counters: Counter[str] = Counter()
        "What was refused, by reason."
        self.token = secrets.token_urlsafe(24)
        self._server: Server | None = None
        self._pages: set[_Page] = set()

    @property
    def url(self) -> str:
        """Of the running server, with the token."""
        if self._server is None:
            raise RequestError("the headset is not served")
        return f"http://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}/#{self.token}"

    @property
    def connected(self) -> bool:
        """A page is the headset."""
        return self.device.way is not None

    async def start(self, port: int) -> None:
        """Serve, if it is not served yet. Raises RequestError when the port is taken."""
        if self._server is not None:
            return
        try:
            self._server = await serve(
                self._serve, HOST, port, process_request=self._request, max_size=LONGEST, max_queue=64,
                compression=None, server_header=None, open_timeout=PATIENCE, close_timeout=1,
                logger=log.getChild("http"),
            )  # fmt: skip
        except OSError as exc:
            raise RequestError(f"the page cannot be served at port {port}: {exc.strerror or exc}") from exc

    async def close(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await server.wait_closed()

    def changed(self) -> None:
        """Tell the pages what calls there are now."""
        for page in self._pages:
            page.tell_calls()

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is answered without a WebSocket; None: go on with it."""
        if _host(request) not in NAMES:
            return self._refused("host-foreign", HTTPStatus.MISDIRECTED_REQUEST)
        path = request.path.partition("?")[0]
        if path == SOCKET:
            if request.headers.get_all("Origin") != [f"http://{request.headers['Host']}"]:
                return self._refused("origin-foreign", HTTPStatus.FORBIDDEN)
            if len(self._pages) >= MOST_PAGES:
                return self._refused("pages-too-many", HTTPStatus.SERVICE_UNAVAILABLE)
            return None
        if path not in FILES:
            return self._refused("path-unknown", HTTPStatus.NOT_FOUND)
        name, kind = FILES[path]
        return _response(HTTPStatus.OK, kind, resources.files(__package__).joinpath("page", name).read_bytes())

    def _refused(self, reason: str, status: HTTPStatus) -> Response:
        self.counters[reason] += 1
        return _response(status, "text/plain", f"{status.phrase}\n".encode())

    # -- the WebSocket ------------------------------------------------------------------------------------------------

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                hello = await connection.recv()
            token = decoded(hello.encode()).get("token") if isinstance(hello, str) else None
        except (TimeoutError, RequestError, ConnectionClosed):
            token = None
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), self.token.encode()):
            self.counters["token-wrong"] += 1
            await connection.close(1008, "the address is not complete: take the one that softphone headset tells")
            return
        page = _Page(self, connection)
        self._pages.add(page)
        try:
            await page.run()
        finally:
            self._pages.discard(page)
            await page.leave()


class _Page:
    """One open page."""

    def __init__(self, server: HeadsetPage, connection: ServerConnection) -> None:
        self._server = server
        self._connection = connection
        self._way: WebRtcWay | FrameWay | None = None
        self._words: deque[str] = deque()
        self._sound: deque[bytes] = deque(maxlen=BACKLOG)
        self._calls_changed = True
        self._wake = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is closed."""
        writing = asyncio.create_task(self._write(), name="page")
        self._wake.set()
        try:
            async for message in self._connection:
                if isinstance(message, bytes):
                    self._hear(message)
                else:
                    self._take(message)
        except ConnectionClosed:
            pass
        finally:
            for task in (writing, *self._requests):
                task.cancel()
            await asyncio.gather(writing, *self._requests, return_exceptions=True)

    async def leave(self) -> None:
        """It is the headset no longer."""
        way, self._way = self._way, None
        if way is None:
            return
        was_it = self._server.device.way is way
        self._server.device.disconnect(way)
        if isinstance(way, WebRtcWay):
            await way.close()
        if was_it:
            self._server.on_connect(False)

    def tell_calls(self) -> None:
        self._calls_changed = True
        self._wake.set()

    def tell(self, **message: object) -> None:
        self._words.append(json.dumps(message, ensure_ascii=False))
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._calls_changed:
                self._calls_changed = False
                self.tell(event="calls", **self._server.snapshot())
            while self._words:
                await self._connection.send(self._words.popleft())
            while self._sound:
                await self._connection.send(self._sound.popleft())

    def _hear(self, data: bytes) -> None:
        try:
            if not isinstance(self._way, FrameWay):
                raise ValueError("no sound was announced")
            self._way.received(data)
        except ValueError:
            self._server.counters["sound-unexpected"] += 1

    def _play(self, data: bytes) -> None:
        self._sound.append(data)
        self._wake.set()

    def _take(self, text: str) -> None:
        try:
            request = decoded(text.encode("utf-8", "replace"))
            operation, number = request.pop("op", None), request.pop("id", None)
            if not isinstance(operation, str) or not isinstance(number, int):
                raise RequestError("a request has an op and a number as id")
            if len(self._requests) >= MOST_PAGES:
                raise RequestError("requests of yours are under way: wait for their answers")
        except RequestError as exc:
            self._server.counters["request-malformed"] += 1
            self.tell(id=None, ok=False, error=str(exc))
            return
        task = asyncio.create_task(self._perform(number, operation, Arguments(request)))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _perform(self, number: int, operation: str, arguments: Arguments) -> None:
        try:
            result = await self._done(operation, arguments)
        except (SoftphoneError, ValueError, RuntimeError, OSError) as exc:
            self.tell(id=number, ok=False, error=str(exc))
        except Exception as exc:
            log.exception("the request %s of a page failed", operation)
            self.tell(id=number, ok=False, error=f"the daemon failed: {exc}; its log says where")
        else:
            self.tell(id=number, ok=True, result=result)

    async def _done(self, operation: str, arguments: Arguments) -> object:
        match operation:
            case "headset-webrtc":
                offer = arguments.any_text("sdp")
                arguments.end()
                await self.leave()
                way = WebRtcWay(self._server.device, self._failed)
                self._way = way
                try:
                    answer = await way.answer(offer)
                except BaseException:
                    await self.leave()
                    raise
                self._is_headset(way)
                return {"sdp": answer}
            case "headset-frames":
                rate = arguments.number("rate", 0)
                arguments.end()
                await self.leave()
                frames = FrameWay(self._server.device, rate, self._play)
                self._way = frames
                self._is_headset(frames)
                return None
            case "headset-end":
                arguments.end()
                await self.leave()
                return None
            case _ if operation in ALLOWED:
                return await self._server.perform(operation, arguments)
            case _:
                raise RequestError(f"a page may not ask for {operation!r}")

    def _is_headset(self, way: WebRtcWay | FrameWay) -> None:
        before = self._server.device.way
        self._server.device.connect(way)
        for page in self._server._pages:
            if page is not self and page._way is before and before is not None:
                page.tell(event="taken")
        self._server.on_connect(True)

    def _failed(self) -> None:
        """WebRTC found no way, or lost it: the page may find another."""
        task = asyncio.create_task(self.leave())
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        self.tell(event="lost")


def _host(request: Request) -> str:
    """The name that the request is for, without its port."""
    hosts = request.headers.get_all("Host")
    host = hosts[0] if len(hosts) == 1 else ""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _response(status: HTTPStatus, kind: str, body: bytes) -> Response:
    headers = Headers([("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), *SAFETY])
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)
