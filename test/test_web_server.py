"""The server over real connections: who is let in, what is bounded, and that nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from sam_ros.tools.web.gestures import Choose, Command, Gesture
from sam_ros.tools.web.server import FRAMES_UNDERWAY, Server, ServerError

WAIT_SEC = 20.0
MAX_VIEWERS = 3
LARGE = 8_000_000  # bytes: more than a connection holds that nobody reads


class Served:
    """A running server and what it said to its owner."""

    def __init__(self) -> None:
        self.gestures: queue.Queue[Gesture] = queue.Queue()
        self.viewers: queue.Queue[int] = queue.Queue()
        self.num_ready = 0
        self.server = Server(
            "127.0.0.1",
            0,
            allowed_hosts=("robot.example", "Cart.Example", ""),  # '' is the parameter's default
            max_viewers=MAX_VIEWERS,
            on_gesture=self.gestures.put,
            on_viewers=self.viewers.put,
            on_ready=self._count,
        )
        self.port = self.server.start()

    def _count(self) -> None:
        self.num_ready += 1

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, client: Callable[[ClientSession], Awaitable[None]]) -> None:
        async def with_session() -> None:
            async with ClientSession() as session:
                await asyncio.wait_for(client(session), WAIT_SEC)

        asyncio.run(with_session())

    async def viewer(self, session: ClientSession, **options: Any) -> Any:
        connection = await session.ws_connect(
            self.url("/viewer"), origin=self.origin, max_msg_size=0, **options
        )
        await asyncio.to_thread(self.viewers.get, timeout=WAIT_SEC)
        return connection


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(socket, "gethostname", lambda: "Jetson-7")
    running = Served()
    yield running
    running.server.stop()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def binary(connection: Any) -> bytes:
    message = await connection.receive()
    assert message.type == WSMsgType.BINARY, message
    return bytes(message.data)


def test_the_page_and_its_parts_are_served_to_be_shown_nowhere_else(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        async with session.get(served.url()) as response:
            page = await response.text()
            assert (response.status, response.content_type) == (200, "text/html")
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        for name, content_type in (("main.js", "text/javascript"), ("page.css", "text/css")):
            assert name in page
            async with session.get(served.url("/" + name)) as response:
                assert (response.status, response.content_type) == (200, content_type)

    served.run(client)


@pytest.mark.parametrize(
    "path", ["/../server.py", "/%2e%2e/server.py", "/server.py", "/page", "/.", "//etc/passwd"]
)
def test_nothing_but_the_page_is_served(served: Served, path: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_SEC) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert b"404" in connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9000", 200),  # an SSH port-forward has a port of its own
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("192.168.1.7:8080", 200),
        ("robot.example:8080", 200),
        ("Robot.Example:8080", 200),
        ("cart.example:8080", 200),  # browsers write names in lower case
        ("jetson-7", 200),
        ("Jetson-7.local:8080", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
def test_only_addresses_and_own_names_are_answered(served: Served, host: str, status: int) -> None:
    async def client(session: ClientSession) -> None:
        async with session.get(served.url(), headers={"Host": host}) as response:
            assert response.status == status

    served.run(client)


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://127.0.0.1:1", "null"])
def test_other_pages_get_no_connection(served: Served, origin: str | None) -> None:
    async def client(session: ClientSession) -> None:
        with pytest.raises(WSServerHandshakeError) as refused:
            await session.ws_connect(served.url("/viewer"), origin=origin)
        assert refused.value.status == 403

    served.run(client)
    assert served.viewers.empty()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:9000", "http://localhost:9000"),  # behind a port-forward
        ("Jetson-7:8080", "http://jetson-7:8080"),
        ("jetson-7:8080", "http://Jetson-7:8080"),
    ],
)
def test_a_page_that_came_from_here_gets_one(served: Served, host: str, origin: str) -> None:
    async def client(session: ClientSession) -> None:
        headers = {"Host": host, "Origin": origin}
        async with session.ws_connect(served.url("/viewer"), headers=headers):
            pass

    served.run(client)


def test_gestures_reach_the_owner_and_bad_ones_their_viewer_only(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        viewer, other = await served.viewer(session), await served.viewer(session)
        await viewer.send_str('{"type": "choose", "index": 9}')
        answer = await viewer.receive_json()
        assert (answer["type"], answer["reason"]) == (
            "refused",
            "index must be an integer from 0 to 2, got 9",
        )
        await viewer.send_str('{"type": "choose", "index": 1}')
        await other.send_str('{"type": "command", "name": "clear"}')
        got = {await asyncio.to_thread(served.gestures.get, timeout=WAIT_SEC) for _ in range(2)}
        assert got == {Choose(1), Command("clear")}
        served.server.send({"type": "said", "text": "hello"})
        assert (await other.receive_json())["text"] == "hello"

    served.run(client)


@pytest.mark.parametrize("message", ["x" * 5000, b"binary"], ids=["too long", "binary"])
def test_a_viewer_that_sends_what_no_page_does_is_cut_off(served: Served, message: str | bytes) -> None:
    async def client(session: ClientSession) -> None:
        viewer = await served.viewer(session)
        send = viewer.send_str if isinstance(message, str) else viewer.send_bytes
        await send(message)
        assert (await viewer.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        assert await asyncio.to_thread(served.viewers.get, timeout=WAIT_SEC) == 0

    served.run(client)


def test_one_viewer_too_many_is_told_so(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        viewers = [await served.viewer(session) for _ in range(MAX_VIEWERS)]
        refused = await session.ws_connect(served.url("/viewer"), origin=served.origin)
        message = await refused.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1013)
        assert message.extra == "3 pages are open, which is the parameter max_viewers"
        await viewers[0].close()
        await asyncio.to_thread(served.viewers.get, timeout=WAIT_SEC)
        await served.viewer(session)

    served.run(client)


def test_every_viewer_gets_the_same_frame_and_a_new_one_the_newest(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        first, second = await served.viewer(session), await served.viewer(session)
        served.server.show(1, b"one")
        assert await binary(first) == await binary(second) == b"one"
        assert await binary(await served.viewer(session)) == b"one"

    served.run(client)


def test_the_last_viewer_s_frame_is_not_shown_to_the_next_one(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        viewer = await served.viewer(session)
        served.server.show(1, b"old")
        assert await binary(viewer) == b"old"
        await viewer.close()
        assert await asyncio.to_thread(served.viewers.get, timeout=WAIT_SEC) == 0
        viewer = await served.viewer(session)
        served.server.show(2, b"new")
        assert await binary(viewer) == b"new"

    served.run(client)


def test_frames_are_wanted_only_while_a_viewer_has_room(served: Served) -> None:
    async def client(session: ClientSession) -> None:
        assert not served.server.wants_frame()
        viewer = await served.viewer(session)
        await until(served.server.wants_frame)
        await until(lambda: served.num_ready == 1)
        for sequence in range(1, FRAMES_UNDERWAY + 1):
            served.server.show(sequence, b"frame")
            await binary(viewer)
        await until(lambda: not served.server.wants_frame())
        await viewer.send_str(json.dumps({"type": "drawn", "sequence": 1}))
        await until(served.server.wants_frame)
        await until(lambda: served.num_ready == 2)
        await viewer.close()
        await until(lambda: not served.server.wants_frame())

    served.run(client)


def test_a_viewer_that_reads_nothing_holds_up_nobody_and_gets_the_newest_frame(served: Served) -> None:
    """Its connection is full; the frames between are never sent to it, and kept nowhere."""

    async def client(session: ClientSession) -> None:
        stalled, fast = await served.viewer(session), await served.viewer(session)
        for sequence in range(1, 21):
            served.server.show(sequence, struct.pack("<I", sequence) + bytes(LARGE))
            assert struct.unpack_from("<I", await binary(fast)) == (sequence,)
            await fast.send_str(json.dumps({"type": "drawn", "sequence": sequence}))
        got = [struct.unpack_from("<I", await binary(stalled))[0] for _ in range(FRAMES_UNDERWAY)]
        assert got[0] == 1
        await stalled.send_str(json.dumps({"type": "drawn", "sequence": got[-1]}))
        assert struct.unpack_from("<I", await binary(stalled)) == (20,)

    served.run(client)


def test_a_port_in_use_is_named(served: Served) -> None:
    def nothing(*_: object) -> None:
        pass

    second = Server("127.0.0.1", served.port, on_gesture=nothing, on_viewers=nothing, on_ready=nothing)
    with pytest.raises(ServerError, match=rf"cannot listen on 127.0.0.1:{served.port}.*-p port:="):
        second.start()


def test_stopping_says_goodbye_to_the_viewers() -> None:
    served = Served()

    async def client(session: ClientSession) -> None:
        viewer = await served.viewer(session)
        await asyncio.to_thread(served.server.stop)
        message = await viewer.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        served.server.show(1, b"nobody is there any more")

    served.run(client)
