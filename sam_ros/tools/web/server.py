"""The page over HTTP and its WebSocket, in a thread and event loop of its own; knows nothing of ROS."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from sam_ros.errors import SamRosError
from sam_ros.tools.web.gestures import Drawn, Gesture, GestureError, gesture_from_json

PAGE_DIR = Path(__file__).with_name("page")
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # the page and the server are of one version
}
MESSAGE_BYTES = 4096  # a gesture has at most a few hundred
HEARTBEAT_SEC = 10.0  # a viewer that does not answer so long is gone
FRAMES_UNDERWAY = 2  # one is drawn while the next one travels; more would only grow old on the way
TEXTS_KEPT = 64  # for one viewer that takes none
START_SEC = 10.0


class ServerError(SamRosError):
    """The server cannot start; the message says why and what would do."""

    kind = "server"


class Viewer:
    """One open page: what it is still to get. The newest frame replaces one that was not sent yet."""

    def __init__(self, connection: web.WebSocketResponse) -> None:
        self._connection = connection
        self._frame: bytes | None = None
        self._sequence = 0  # of the frame above
        self._underway: deque[int] = deque()  # sent and not yet drawn
        self._messages: deque[str | bytes] = deque(maxlen=TEXTS_KEPT)
        self._news = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether there is room for a new frame."""
        return len(self._underway) + (self._frame is not None) < FRAMES_UNDERWAY

    def show(self, sequence: int, frame: bytes) -> None:
        """Send this frame as soon as there is room, unless a newer one comes before."""
        self._sequence, self._frame = sequence, frame
        self._news.set()

    def send(self, message: str | bytes) -> None:
        """Send something that is not to be left out."""
        self._messages.append(message)
        self._news.set()

    def drawn(self, sequence: int) -> None:
        """The page has drawn this frame, and thereby all before it."""
        while self._underway and self._underway[0] <= sequence:
            self._underway.popleft()
        self._news.set()

    async def deliver(self) -> None:
        """Send what there is to send, for ever; a slow connection waits here, and holds up nobody else."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._messages:
                await self._send_now(self._messages.popleft())
            if self._frame is not None and len(self._underway) < FRAMES_UNDERWAY:
                frame, self._frame = self._frame, None
                self._underway.append(self._sequence)
                self._news.set()  # messages may have come meanwhile
                await self._send_now(frame)

    async def close(self) -> None:
        """End the connection: the page will try to come back."""
        await self._connection.close(code=WSCloseCode.GOING_AWAY)

    async def _send_now(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._connection.send_str(message)
        else:
            await self._connection.send_bytes(message)


class Server:
    """Serves the page and its viewers.

    Its public methods may be called from any thread. ``on_gesture``, ``on_viewers`` (how many there are now)
    and ``on_ready`` (a viewer has become ready for a frame) are called in the server's thread and must not
    block.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allowed_hosts: Sequence[str] = (),
        max_viewers: int = 8,
        on_gesture: Callable[[Gesture], None],
        on_viewers: Callable[[int], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._host, self._port = host, port
        names = ("localhost", host, *_own_names(), *allowed_hosts)
        self._allowed_hosts = frozenset(name.lower() for name in names if name)
        self._max_viewers = max_viewers
        self._on_gesture, self._on_viewers, self._on_ready = on_gesture, on_viewers, on_ready
        self._files = {path.name: path for path in PAGE_DIR.iterdir() if path.suffix in CONTENT_TYPES}
        self._viewers: set[Viewer] = set()
        self._newest: tuple[int, bytes] | None = None
        self._is_wanted = False
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="web server", daemon=True)

    def start(self) -> int:
        """Listen; returns the port, which is another one if 0 was asked for.

        Raises:
            ServerError: the address cannot be listened on.
        """
        self._thread.start()
        return self._started.result(START_SEC)

    def stop(self) -> None:
        """Close every connection and end the thread."""
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(START_SEC)

    def wants_frame(self) -> bool:
        """Whether a viewer has room for a new frame; otherwise there is no need to make one."""
        return self._is_wanted

    def show(self, sequence: int, frame: bytes) -> None:
        """Give every viewer a frame; ``sequence`` grows and is what ``Drawn`` names."""
        self._soon(self._show, sequence, frame)

    def send(self, message: Mapping[str, Any] | bytes) -> None:
        """Send every viewer JSON, or a binary message as it is."""
        self._soon(self._send, message if isinstance(message, bytes) else json.dumps(message))

    def _soon(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the server's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            where = f"{self._host}:{self._port}"
            self._started.set_exception(
                ServerError(
                    f"cannot listen on {where}: {error}; choose another with -p port:= or -p host:= "
                    "(standalone/demo --web: with --port or --host)"
                )
            )
        finally:
            _close(self._loop)

    async def _serve(self) -> None:
        application = web.Application(middlewares=[self._guarded], client_max_size=MESSAGE_BYTES)
        files = [web.get("/", self._get_file), web.get("/{name}", self._get_file)]
        application.add_routes([web.get("/viewer", self._watch), *files])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            await site.start()
            self._started.set_result(_port_of(runner))
            await self._ending.wait()
        finally:
            await asyncio.gather(*(viewer.close() for viewer in self._viewers))
            await runner.cleanup()

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        """Only for pages that came from here.

        A name in Host that is not ours means that somebody else's name was pointed at this address (DNS
        rebinding); an address cannot be. A WebSocket is open to every page that a browser shows, so its
        Origin must be the Host.
        """
        if not self._is_ours(request.host):
            raise web.HTTPForbidden(text=f"Host {request.host!r} is not in the parameter allowed_hosts\n")
        origin = request.headers.get("Origin", "")
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if (origin or is_socket) and urlsplit(origin).netloc.lower() != request.host.lower():
            raise web.HTTPForbidden(text=f"Origin {origin!r} is not this page\n")
        return await handler(request)

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""  # in lower case: a name's case means nothing
        if name in self._allowed_hosts:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    async def _get_file(self, request: web.Request) -> web.StreamResponse:
        path = self._files.get(request.match_info.get("name", "index.html"))
        if path is None:
            raise web.HTTPNotFound
        return web.Response(
            body=path.read_bytes(), content_type=CONTENT_TYPES[path.suffix], charset="utf-8", headers=HEADERS
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse(
            max_msg_size=MESSAGE_BYTES, heartbeat=HEARTBEAT_SEC, compress=False, timeout=1.0
        )
        await connection.prepare(request)
        if len(self._viewers) >= self._max_viewers:  # a browser can read a close code, but no HTTP status
            text = f"{self._max_viewers} pages are open, which is the parameter max_viewers"
            await connection.close(code=WSCloseCode.TRY_AGAIN_LATER, message=text.encode())
            return connection
        viewer = self._welcomed(connection)
        deliverer = asyncio.ensure_future(viewer.deliver())
        try:
            await self._listen(viewer, connection)
        finally:
            deliverer.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await deliverer
            self._forget(viewer)
        return connection

    async def _listen(self, viewer: Viewer, connection: web.WebSocketResponse) -> None:
        async for message in connection:
            if message.type != WSMsgType.TEXT:
                await connection.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return
            try:
                self._take(viewer, gesture_from_json(message.data))
            except GestureError as error:
                viewer.send(json.dumps({"type": "refused", "topic": "", "id": "", "reason": str(error)}))

    def _take(self, viewer: Viewer, gesture: Gesture) -> None:
        if not isinstance(gesture, Drawn):
            self._on_gesture(gesture)
            return
        viewer.drawn(gesture.sequence)
        self._update_wanted()

    def _welcomed(self, connection: web.WebSocketResponse) -> Viewer:
        viewer = Viewer(connection)
        self._viewers.add(viewer)
        if self._newest is not None:
            viewer.show(*self._newest)
        self._on_viewers(len(self._viewers))
        self._update_wanted()
        return viewer

    def _forget(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers:
            self._newest = None  # it will be old when the next viewer comes
        self._on_viewers(len(self._viewers))
        self._update_wanted()

    def _show(self, sequence: int, frame: bytes) -> None:
        self._newest = (sequence, frame) if self._viewers else None
        for viewer in self._viewers:
            viewer.show(sequence, frame)
        self._update_wanted()

    def _send(self, message: str | bytes) -> None:
        for viewer in self._viewers:
            viewer.send(message)

    def _update_wanted(self) -> None:
        was_wanted, self._is_wanted = self._is_wanted, any(viewer.is_ready for viewer in self._viewers)
        if self._is_wanted and not was_wanted:
            self._on_ready()


def _port_of(runner: web.AppRunner) -> int:
    """The port that the operating system gave."""
    address = runner.addresses[0]
    return int(address[1])


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """End what still runs in the loop, as ``asyncio.run`` does, and the loop."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


def _own_names() -> tuple[str, ...]:
    """The names by which other machines of a local network reach this one."""
    name = socket.gethostname()
    return name, f"{name}.local"
