"""Downloads from a real HTTP server on this machine: what is kept, what is refused, what is asked again."""

import hashlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from users import without_write_access

from sam_ros import weights
from sam_ros.core.catalogue import MODELS, Model, OfficialCheckpoint
from sam_ros.errors import WeightsError

CONTENT = bytes(range(256)) * 1000
Respond = Callable[[BaseHTTPRequestHandler], None]


def model(checkpoint: OfficialCheckpoint) -> Model:
    """A catalogue's row of a model with this file."""
    name = checkpoint.file_name.removesuffix(".pth")
    return Model(name, "", "MIT", 1024, 64_000, checkpoint=checkpoint)


@dataclass
class Server:
    """Answers every GET with ``respond``; ``ranges`` are the Range headers of the requests so far."""

    respond: Respond
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    release: Event = field(default_factory=Event)

    @property
    def table(self) -> Mapping[str, Model]:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return {"vit_b": model(OfficialCheckpoint("vit_b.pth", self.url, digest, len(CONTENT)))}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server(respond_with_range)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.ranges.append(self.headers["Range"])
            state.respond(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}/vit_b.pth"
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.release.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def respond_with_range(handler: BaseHTTPRequestHandler) -> None:
    start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    if start >= len(CONTENT):
        handler.send_error(416)
        return
    send(handler, CONTENT[start:], status=206 if start else 200)


def respond_whole(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT)


def respond_half(handler: BaseHTTPRequestHandler) -> None:
    """Promises everything, then drops the connection in the middle."""
    send(handler, CONTENT[: len(CONTENT) // 2], promised=len(CONTENT))


def respond_wrong(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT[::-1])


def respond_short(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT[:-1])


def respond_not_found(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def send(
    handler: BaseHTTPRequestHandler, body: bytes, *, promised: int | None = None, status: int = 200
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if promised is None else promised))
    handler.end_headers()
    handler.wfile.write(body)


def test_download_puts_the_verified_file_in_place(server: Server, tmp_path: Path) -> None:
    path = weights.download("vit_b", tmp_path / "new", progress=False, models=server.table)
    assert path == tmp_path / "new" / "vit_b.pth"
    assert path.read_bytes() == CONTENT
    assert [child.name for child in path.parent.iterdir()] == ["vit_b.pth"]
    weights.verify(path, "vit_b", models=server.table)


def test_download_asks_for_nothing_when_the_file_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_bytes(CONTENT)
    weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert server.ranges == []


def test_download_replaces_a_damaged_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_bytes(CONTENT[:10])
    path = weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("respond", "reason"),
    [(respond_wrong, "its SHA-256 is"), (respond_short, "255999 bytes instead of 256000")],
)
def test_wrong_content_is_not_kept(server: Server, tmp_path: Path, respond: Respond, reason: str) -> None:
    server.respond = respond
    with pytest.raises(WeightsError, match=reason):
        weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.respond = respond_half
    with pytest.raises(WeightsError, match="same command again"):
        weights.download("vit_b", tmp_path, progress=False, models=server.table)
    arrived = (tmp_path / "vit_b.pth.part").stat().st_size
    assert 0 < arrived <= len(CONTENT) // 2
    assert not (tmp_path / "vit_b.pth").exists()
    server.respond = respond_with_range
    path = weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize("left", [b"rubbish", CONTENT[::-1], CONTENT + b"more"], ids=["few", "all", "more"])
@pytest.mark.parametrize("respond", [respond_with_range, respond_whole])
def test_a_useless_rest_is_downloaded_anew(
    server: Server, tmp_path: Path, respond: Respond, left: bytes
) -> None:
    server.respond = respond
    (tmp_path / "vit_b.pth.part").write_bytes(left)
    path = weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(left)}-", None]


def test_a_complete_rest_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth.part").write_bytes(CONTENT)
    weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert server.ranges == []


def test_a_missing_page_is_named(server: Server, tmp_path: Path) -> None:
    server.respond = respond_not_found
    with pytest.raises(WeightsError, match="404"):
        weights.download("vit_b", tmp_path, progress=False, models=server.table)


def test_offline_names_the_address_and_the_place(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/vit_b.pth"
        table = {"vit_b": model(OfficialCheckpoint("vit_b.pth", url, "0" * 64))}
        with pytest.raises(WeightsError, match=rf"could not download {url} to {tmp_path}"):
            weights.download("vit_b", tmp_path, progress=False, models=table)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=f"no space left in {tmp_path} for 256000 bytes"):
        weights.download("vit_b", tmp_path, progress=False, models=server.table)


@pytest.fixture
def small_files() -> Iterator[None]:
    """A process that may only write files of 64 kB, as one on a disk that is full after that."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_fills_up_meanwhile_is_named_and_what_came_is_kept(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=f"no space left in {tmp_path} for 256000 bytes"):
        weights.download("vit_b", tmp_path, progress=False, models=server.table)
    assert not (tmp_path / "vit_b.pth").exists()
    arrived = (tmp_path / "vit_b.pth.part").read_bytes()
    assert arrived == CONTENT[: 1 << 16]


def read_only_folder(folder: Path) -> Path:
    """A folder that nobody can write to, root included."""
    del folder
    return Path("/proc/sys/sam_ros")


def file_in_the_way(folder: Path) -> Path:
    (folder / "cache").write_text("a file where a folder should be")
    return folder / "cache" / "sam_ros"


@pytest.mark.parametrize("place", [read_only_folder, file_in_the_way])
def test_a_cache_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, place: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_ROS_CACHE", str(place(tmp_path)))
    with pytest.raises(WeightsError, match=rf"cannot write to {place(tmp_path)} \(.*\): .*SAM_ROS_CACHE"):
        weights.download("vit_b", progress=False, models=server.table)
    assert server.ranges == [], "nothing is downloaded that cannot be kept"


def test_a_read_only_cache_serves_what_it_holds(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_bytes(CONTENT)
    tmp_path.chmod(0o555)
    program = (
        "import sys; from pathlib import Path; from sam_ros.weights import download; "
        "from sam_ros.core.catalogue import Model, OfficialCheckpoint; "
        f"print(download('vit_b', Path({str(tmp_path)!r}), progress=False, models={server.table!r}))"
    )
    command = [*without_write_access(), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "vit_b.pth")), done.stderr


def test_a_name_that_cannot_be_resolved_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    table = {"vit_b": model(OfficialCheckpoint("vit_b.pth", "http://no.host.invalid/vit_b.pth", "0" * 64))}
    with pytest.raises(WeightsError, match="On a machine without a network, copy the file to that place"):
        weights.download("vit_b", tmp_path, progress=False, models=table)


def test_verify_names_file_digests_and_command(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "vit_b.pth"
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(WeightsError) as raised:
        weights.verify(path, "vit_b", models=server.table)
    for part in (
        str(path),
        hashlib.sha256(CONTENT).hexdigest(),
        hashlib.sha256(CONTENT[::-1]).hexdigest(),
        f"ros2 run sam_ros weights vit_b --directory {tmp_path}",
        f".venv/bin/weights vit_b --directory {tmp_path}",
    ):
        assert part in str(raised.value)


def test_verify_of_a_truncated_file_names_the_sizes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_bytes(CONTENT[:7])
    with pytest.raises(WeightsError, match="7 bytes instead of 256000"):
        weights.verify(tmp_path / "vit_b.pth", "vit_b", models=server.table)


def test_a_missing_cached_file_is_mended_by_the_short_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_ROS_CACHE", str(tmp_path))
    path = weights.cached_path("vit_b")
    assert path == tmp_path / "sam_vit_b_01ec64.pth"
    with pytest.raises(WeightsError, match=r"is missing. Get it with: ros2 run sam_ros weights vit_b \("):
        weights.verify(path, "vit_b")


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="'vit_x'; there are vit_b, vit_l, vit_h, mobile_sam, sam2"):
        weights.cached_path("vit_x")


def test_a_model_that_ships_has_no_official_checkpoint() -> None:
    with pytest.raises(WeightsError, match="'sam_tiny'; there are vit_b"):
        weights.download("sam_tiny")


def test_command_downloads_then_finds_it_there(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["vit_b", "--directory", str(tmp_path), "--ros-args", "-r", "__node:=weights"]
    assert weights.main(command, models=server.table) == 0
    assert weights.main(command, models=server.table) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "vit_b.pth")] * 2
    assert len(server.ranges) == 1


def test_command_fails_with_the_reason_on_stderr(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = respond_wrong
    assert weights.main(["vit_b", "--directory", str(tmp_path)], models=server.table) == 1
    captured = capsys.readouterr()
    assert "error: what came from" in captured.err
    assert captured.out == ""


def test_command_lists_what_is_there(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Model("shipped", "", "BSD-3-Clause", 512, 1000)
    missing = model(OfficialCheckpoint("vit_l.pth", server.url, "0" * 64))
    table = {"shipped": shipped, **server.table, "vit_l": missing}
    (tmp_path / "vit_b.pth").write_bytes(CONTENT)
    assert weights.main(["--list", "--directory", str(tmp_path)], models=table) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["In", f"{tmp_path}:"],
        ["shipped", "shipped", "BSD-3-Clause", "ships", "with", "the", "package"],
        ["vit_b", "0.3", "MB", "MIT", "vit_b.pth", "verified"],
        ["vit_l", "about", "0.3", "MB", "MIT", "vit_l.pth", "is", "missing"],
    ]


@pytest.mark.parametrize("model_type", MODELS)
def test_command_lists_every_model(
    model_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights.main(["--list", "--directory", str(tmp_path)]) == 0
    assert re.search(rf"^{model_type} .* Apache-2.0 ", capsys.readouterr().out, re.MULTILINE)


def test_command_says_that_sam_tiny_needs_no_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["sam_tiny"]) == 0
    assert "nothing to download" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["vit_x"], ["vit_b", "--list"]])
def test_command_refuses_a_wrong_usage(argv: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        weights.main(argv)


def test_interrupting_the_command_leaves_a_part_only(server: Server, tmp_path: Path) -> None:
    def respond_and_stall(handler: BaseHTTPRequestHandler) -> None:
        respond_half(handler)
        handler.wfile.flush()
        server.release.wait(30)

    server.respond = respond_and_stall
    program = (
        "import signal, sys; from sam_ros.weights import main; "
        "from sam_ros.core.catalogue import Model, OfficialCheckpoint; "
        # Where the tests run in the background, a shell has had SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.exit(main(['vit_b', '--directory', {str(tmp_path)!r}], models={server.table!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    # Once something is written, the progress bar is there too: interrupted while it is made, tqdm complains.
    partial = tmp_path / "vit_b.pth.part"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert [child.name for child in tmp_path.iterdir()] == ["vit_b.pth.part"]


def wait_until(condition: Callable[[], bool], timeout_sec: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {timeout_sec} s"
        time.sleep(0.01)
