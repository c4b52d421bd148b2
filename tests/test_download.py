"""Downloads from a real server on this machine that does everything a bad line and a bad server do."""

import hashlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from wikigpt.artifacts import only_writer
from wikigpt.corpus import download as module
from wikigpt.corpus.download import download
from wikigpt.errors import UserError

DATE = "20260801"
NAME = f"testwiki-{DATE}-pages-articles-multistream.xml.bz2"
CONTENT = random.Random(1).randbytes(3_000_000)


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha1(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()


class Server(ThreadingHTTPServer):
    """Serves `files`; each request for a dump file takes the next of `faults` first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: deque[Callable[[Handler, bytes], bool]] = deque()
        self.ranges = True
        self.validators = {"ETag": '"one"', "Last-Modified": "Sat, 01 Aug 2026 10:00:00 GMT"}
        self.log: list[tuple[str, dict[str, str]]] = []
        self.add(DATE, {NAME: CONTENT})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, date: str, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            self.files[f"/testwiki/{date}/{name}"] = data
        self.files[f"/testwiki/{date}/testwiki-{date}-sha1sums.txt"] = sums(files)
        dates = sorted({path.split("/")[2] for path in self.files if path.count("/") == 3} | {"20260820"})
        listing = "".join(f'<a href="{d}/">{d}/</a>' for d in [*dates, "latest"])
        self.files["/testwiki/"] = f'<html><a href="../">../</a>{listing}</html>'.encode()

    def fetched(self) -> list[dict[str, str]]:
        """The headers of the requests for the dump itself."""
        return [headers for path, headers in self.log if path.endswith(".bz2")]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.log.append((self.path, dict(self.headers)))
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        dump = self.path.endswith(".bz2")
        if dump and self.server.faults and self.server.faults.popleft()(self, data):
            return
        self.answer(data, dump)

    def answer(self, data: bytes, dump: bool = True, *, only: int | None = None) -> None:
        """Send the file or its rest; with `only`, break off after so many bytes."""
        start = 0
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if dump and asked and self.server.ranges and condition in (None, *self.server.validators.values()):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        for name, value in self.server.validators.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if only is None else data[start : start + only])

    def log_message(self, *_: object) -> None:
        pass


def cut(after: int) -> Callable[[Handler, bytes], bool]:
    def fault(handler: Handler, data: bytes) -> bool:
        handler.answer(data, only=after)
        return True

    return fault


def status(code: int, **headers: str) -> Callable[[Handler, bytes], bool]:
    def fault(handler: Handler, data: bytes) -> bool:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        return True

    return fault


def stall(after: int, seconds: float) -> Callable[[Handler, bytes], bool]:
    def fault(handler: Handler, data: bytes) -> bool:
        handler.answer(data, only=after)
        handler.wfile.flush()
        time.sleep(seconds)
        return True

    return fault


def serve(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield from serve(Server())


def get(server: Server, output: Path, **options: Any) -> Path:
    settings = {"mirror": server.url, "timeout": 5.0, "retries": 3, "backoff": 0.01, **options}
    return download(settings.pop("wiki", "testwiki"), output, **settings)


def test_the_newest_finished_dump_arrives_whole(server: Server, tmp_path: Path) -> None:
    """20260820 is listed, but has no checksums yet: it is still being made."""
    server.add("20260720", {"testwiki-20260720-pages-articles-multistream.xml.bz2": b"old"})
    events: list[tuple[int, int, str]] = []
    path = get(server, tmp_path, progress=lambda *event: events.append(event))
    assert path == tmp_path / NAME and path.read_bytes() == CONTENT
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {NAME, NAME + ".json"}
    origin = json.loads((tmp_path / (NAME + ".json")).read_text())
    assert origin["url"] == f"{server.url}/testwiki/{DATE}/{NAME}" and origin["date"] == DATE
    assert origin["sha1"] == hashlib.sha1(CONTENT).hexdigest() and origin["bytes"] == len(CONTENT)
    assert "CC BY-SA" in origin["license"]
    assert datetime.now(UTC) - datetime.fromisoformat(origin["fetched"]) < timedelta(minutes=1)
    done = [event[0] for event in events if event[2].startswith("fetching")]
    assert done == sorted(done) and done[-1] == len(CONTENT) == events[-1][1]
    assert all(headers["User-Agent"].startswith("WikiGPT/") for _, headers in server.log)


def test_a_date_can_be_chosen(server: Server, tmp_path: Path) -> None:
    server.add("20260720", {"testwiki-20260720-pages-articles-multistream.xml.bz2": b"old"})
    assert get(server, tmp_path, date="20260720").read_bytes() == b"old"


def test_a_wiki_in_parts_comes_as_a_folder_in_order(server: Server, tmp_path: Path) -> None:
    """Unless an older dump is there as a whole: the parts of the newest are then not all it will be."""
    name = "testwiki-20260901-pages-articles-multistream"
    parts = {f"{name}{i}.xml-p{i}p{i}.bz2": bytes([i]) * 1000 for i in (10, 2, 1)}
    server.add("20260901", {**parts, f"{name}-index1.txt-p1p1.bz2": b"index"})
    assert get(server, tmp_path) == tmp_path / NAME
    server.log.clear()
    del server.files[f"/testwiki/{DATE}/testwiki-{DATE}-sha1sums.txt"]
    folder = get(server, tmp_path)
    assert folder == tmp_path / "testwiki-20260901"
    assert {p.name: p.read_bytes() for p in folder.glob("*.bz2")} == parts
    assert [path.rpartition("/")[2] for path, _ in server.log if path.endswith("bz2")] == sorted(
        parts, key=lambda part: parts[part]
    )


def test_a_complete_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path)
    origin = (tmp_path / (NAME + ".json")).read_bytes()
    server.log.clear()
    assert get(server, tmp_path) == path and not server.fetched()
    assert (tmp_path / (NAME + ".json")).read_bytes() == origin
    path.write_bytes(b"damaged")
    assert get(server, tmp_path).read_bytes() == CONTENT and len(server.fetched()) == 1


def test_broken_connections_are_continued_where_they_broke(server: Server, tmp_path: Path) -> None:
    """Ten breaks with three retries: a break after some progress does not count."""
    lengths = [0, 1, 70_000, 300_000, 65_536, 0, 999_999, 1, 12_345, 0]
    server.faults.extend(map(cut, lengths))
    assert get(server, tmp_path).read_bytes() == CONTENT
    offsets = [headers.get("Range") for headers in server.fetched()]
    assert offsets[:4] == [None, None, "bytes=1-", "bytes=70001-"]
    assert offsets[-1] == f"bytes={sum(lengths)}-" and len(offsets) == 11
    assert server.fetched()[-1]["If-Range"] == '"one"'


@pytest.mark.parametrize("seed", range(5))
def test_breaks_anywhere(server: Server, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    server.validators = dice.choice([{}, {"ETag": 'W/"weak"'}, {"Last-Modified": "Sat, 01 Aug 2026 10:00:00 GMT"}])
    server.ranges = seed % 2 == 0
    server.faults.extend(cut(dice.randrange(len(CONTENT) // 2)) for _ in range(3))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.fetched()) == 4


def test_a_server_that_never_delivers_is_given_up_and_the_part_is_kept(server: Server, tmp_path: Path) -> None:
    server.faults.extend([cut(1_000_000)] + [cut(0)] * 3)
    with pytest.raises(UserError, match=r"broke after 1,000,000 of 3,000,000 bytes, 4 times in a row.*run the same"):
        get(server, tmp_path)
    assert (tmp_path / (NAME + ".part")).stat().st_size == 1_000_000 and not (tmp_path / NAME).exists()
    server.log.clear()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [headers["Range"] for headers in server.fetched()] == ["bytes=1000000-"]


def test_a_server_without_ranges_starts_again_and_ends_when_it_always_breaks(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    messages: list[str] = []
    server.faults.append(cut(500_000))
    assert get(server, tmp_path / "a", progress=lambda *event: messages.append(event[2])).read_bytes() == CONTENT
    assert any("from the beginning" in message for message in messages)
    server.faults.extend([cut(500_000)] * 4)
    with pytest.raises(UserError, match="4 times in a row"):
        get(server, tmp_path / "b")


@pytest.mark.parametrize("obedient", [True, False])
def test_a_file_that_changes_between_attempts_is_not_mixed(server: Server, tmp_path: Path, obedient: bool) -> None:
    new = random.Random(2).randbytes(2_500_000)

    def change(handler: Handler, data: bytes) -> bool:
        handler.answer(data, only=1_000_000)
        server.add(DATE, {NAME: new})
        server.validators = {"ETag": '"two"'}
        return True

    def ignore_condition(handler: Handler, data: bytes) -> bool:
        del handler.headers["If-Range"]
        return False

    server.faults.append(change)
    if not obedient:
        server.faults.append(ignore_condition)
    # The checksum was read before the change, so this try fails in any case; no mixture may be left behind.
    with pytest.raises(UserError, match="another content than its published SHA-1"):
        get(server, tmp_path)
    assert not list(tmp_path.glob("*.part"))
    assert get(server, tmp_path).read_bytes() == new


def test_a_part_from_an_older_version_of_the_file_is_replaced(server: Server, tmp_path: Path) -> None:
    server.faults.extend([cut(1_000_000)] + [cut(0)] * 3)
    with pytest.raises(UserError):
        get(server, tmp_path)
    new = random.Random(2).randbytes(2_500_000)
    server.add(DATE, {NAME: new})
    server.validators = {"ETag": '"two"'}
    server.log.clear()
    assert get(server, tmp_path).read_bytes() == new
    assert len(server.fetched()) == 1  # `If-Range` did not match: the server sent all of it at once


def test_wrong_checksums_are_tried_twice_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    server.files[f"/testwiki/{DATE}/testwiki-{DATE}-sha1sums.txt"] = f"{'0' * 40}  {NAME}\n".encode()
    with pytest.raises(UserError, match="came twice with another content"):
        get(server, tmp_path)
    assert len(server.fetched()) == 2
    assert {p.name for p in tmp_path.iterdir()} <= {".lock", NAME + ".part.json"}


def test_content_changed_on_the_way_once_is_fetched_again(server: Server, tmp_path: Path) -> None:
    def corrupt(handler: Handler, data: bytes) -> bool:
        handler.answer(b"x" + data[1:])
        return True

    server.faults.append(corrupt)
    assert get(server, tmp_path).read_bytes() == CONTENT and len(server.fetched()) == 2


def test_a_complete_part_only_needs_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / (NAME + ".part")).write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.fetched()[0]["Range"] == f"bytes={len(CONTENT)}-"
    (tmp_path / NAME).unlink()
    (tmp_path / (NAME + ".part")).write_bytes(CONTENT + b"too long")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_stalls_are_cut_off_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.faults.extend([stall(100_000, 3.0), stall(50_000, 3.0)])
    start = time.monotonic()
    assert get(server, tmp_path, timeout=0.2).read_bytes() == CONTENT
    assert time.monotonic() - start < 2.5
    assert [headers.get("Range") for headers in server.fetched()] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_busy_server_is_given_the_time_it_asks_for(server: Server, tmp_path: Path) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    server.faults.extend([status(503, Retry_After="1"), status(429, Retry_After=soon), status(500)])
    start = time.monotonic()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert 1.0 < time.monotonic() - start < 4
    server.faults.extend([status(503)] * 4)
    with pytest.raises(UserError, match="answers 503 Service Unavailable, 4 times in a row"):
        get(server, tmp_path / "again")


def test_refusals_and_absent_files_are_not_retried(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no wiki 'nowiki' at .*backup-index\.html"):
        get(server, tmp_path, wiki="nowiki")
    with pytest.raises(UserError, match=r"no finished dump of 20250101 of 'testwiki' .*; see http://.*/testwiki/"):
        get(server, tmp_path, date="20250101")
    assert len(server.log) == 2
    server.faults.extend([status(403), status(404)])
    with pytest.raises(UserError, match=r"refused \(403 Forbidden\)"):
        get(server, tmp_path)
    with pytest.raises(UserError, match="is announced, but not there"):
        get(server, tmp_path)
    assert len(server.fetched()) == 2


@pytest.mark.parametrize(
    ("wiki", "hint"),
    [
        ("zh", "did you mean zhwiki?"),
        ("ZHwiki", "did you mean zhwiki?"),
        ("zh-min-nan", "did you mean zh_min_nanwiki?"),
        ("en.wikipedia.org", "did you mean enwiki?"),
        ("../etc/passwd", "for example zhwiki"),
        ("zhwiki/../..", "zhwiki"),
        ("", "for example zhwiki"),
        ("维基", "for example zhwiki"),
    ],
)
def test_names_that_are_no_database_names(tmp_path: Path, wiki: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        download(wiki, tmp_path / "out", mirror="http://127.0.0.1:9")
    assert hint in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("date", ["20261301", "2026-08-01", "../x", "", "２０２６０８０１"])
def test_dates_that_are_none(tmp_path: Path, date: str) -> None:
    with pytest.raises(UserError, match="is not a date of a dump"):
        download("zhwiki", tmp_path, date=date)


@pytest.mark.parametrize(
    "mirror",
    ["file:///etc", "ftp://example.org", "example.org", "http://", "http://me:pw@host", "http://h:x", "http://h/?a"],
)
def test_mirrors_that_are_no_web_servers(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UserError, match=r"is not (the address of a server|a valid address)"):
        download("zhwiki", tmp_path, mirror=mirror)


def test_redirects_are_followed_to_web_servers_only(server: Server, tmp_path: Path) -> None:
    other = Server()
    for second in serve(other):
        target = f"{second.url}/testwiki/{DATE}/{NAME}"
        server.faults.extend([status(302, Location=target), status(307, Location=target)])
        second.faults.append(cut(1_000_000))
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert [headers.get("Range") for headers in second.fetched()] == [None, "bytes=1000000-"]
    for place in ("ftp://127.0.0.1/x", "file:///etc/passwd"):
        server.faults.append(status(302, Location=place))
        with pytest.raises(UserError, match=r"is not a web address|not allowed"):
            get(server, tmp_path / "other")


class Proxy(BaseHTTPRequestHandler):
    """A forward proxy that alone knows where dumps.invalid is."""

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        url = self.path.replace("http://dumps.invalid", self.server.upstream)  # type: ignore[attr-defined]
        try:
            response = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)
        except HTTPError as error:
            response = error
        with response:
            body = response.read()
            self.send_response(response.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy: Any = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.seen, proxy.upstream = [], server.url
    for _ in serve(proxy):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        path = get(server, tmp_path / "a", mirror="http://dumps.invalid")
        assert path.read_bytes() == CONTENT and len(proxy.seen) == 4
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert get(server, tmp_path / "b").read_bytes() == CONTENT and len(proxy.seen) == 4


def test_no_server_at_all(tmp_path: Path, server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"127\.0\.0\.1 cannot be reached .*refused"):
        get(server, tmp_path, mirror=f"http://127.0.0.1:{port}")


def test_a_full_disk_is_noticed_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the figure of free space is made up: a full disk cannot be had without privileges."""
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(UserError, match=r"0\.00 GB free, but 0\.00 GB are to be fetched"):
        get(server, tmp_path)
    assert not (tmp_path / (NAME + ".part")).exists()
    (tmp_path / (NAME + ".part")).write_bytes(CONTENT[:1_500_000])  # then the rest is small enough
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_a_disk_that_fills_up_meanwhile(server: Server, tmp_path: Path) -> None:
    (tmp_path / (NAME + ".part")).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written \(No space left.*free some space"):
        get(server, tmp_path)


def test_a_second_writer_is_refused(server: Server, tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(UserError, match="another wikigpt process"):
        get(server, tmp_path)
    assert not server.log
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        get(server, tmp_path / "file")


def test_what_came_before_ctrl_c_or_a_kill_is_continued(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, message: str) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path / "a", progress=interrupt)
    kept = (tmp_path / "a" / (NAME + ".part")).stat().st_size
    assert kept > 1_000_000
    server.log.clear()
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert server.fetched()[0]["Range"] == f"bytes={kept}-"

    server.faults.append(stall(1_200_000, 0.5))
    code = f"from wikigpt.corpus.download import download; download('testwiki', 'b', mirror='{server.url}')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    part = tmp_path / "b" / (NAME + ".part")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 1_000_000):
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    server.log.clear()
    server.faults.clear()
    assert get(server, tmp_path / "b").read_bytes() == CONTENT
    assert server.fetched()[0]["Range"] == f"bytes={kept}-"
