"""Fetch a wiki's dump: resumed where it broke off, checked against its published SHA-1.

The layout is that of https://dumps.wikimedia.org: `/WIKI/` lists the dates, `/WIKI/DATE/` holds the files and
`WIKI-DATE-sha1sums.txt`, in which a file appears once it is complete.
"""

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from wikigpt import __version__
from wikigpt.artifacts import only_writer, write_json
from wikigpt.errors import UserError

WIKIMEDIA = "https://dumps.wikimedia.org"
LICENSE = "text: CC BY-SA 4.0, see https://dumps.wikimedia.org/legal.html"
# https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy
USER_AGENT = f"WikiGPT/{__version__} (https://github.com/wikigpt/wikigpt) Python-urllib"
BLOCK = 1 << 20
MAX_TEXT = 1 << 24  # bytes of a listing or a list of checksums; enwiki's has about 0.3 MB
MAX_WAIT = 600.0  # seconds that a server may ask us to wait
DATES_TRIED = 8  # the newest dump may be unfinished; Wikimedia keeps about seven

Progress = Callable[[int, int, str], None]
T = TypeVar("T")


def download(
    wiki: str,
    output: Path | str,
    *,
    date: str = "latest",
    mirror: str | None = None,
    progress: Progress | None = None,
    timeout: float = 60.0,
    retries: int = 8,
    backoff: float = 1.0,
) -> Path:
    """Fetch the pages-articles-multistream dump of a Wikimedia database (zhwiki, enwiki, …) into a folder.

    What an earlier, interrupted call has fetched is kept and continued; a complete file with the right checksum is
    not fetched again. Beside each file, `FILE.json` says where it comes from. `date` is "latest" or YYYYMMDD, `mirror`
    the URL of a server with Wikimedia's layout; the proxies of the environment (`https_proxy`, `no_proxy`, …) are used.
    `progress(bytes done, bytes in all or 0, message)` is called for every block and event. The connection is given
    up after `timeout` seconds of silence and made again up to `retries` times in a row without any progress, waiting
    `backoff`, 2 `backoff`, 4 `backoff`, … seconds (a minute at most).

    Returns the file, or the folder of files where a wiki is published in parts only. Raises `UserError`.
    """
    _check_wiki(wiki)
    _check_date(date)
    base = _base_url(mirror)
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file, but a folder is needed there; give another name.")
    server = _Server(timeout, retries, backoff, progress or (lambda done, total, message: None))
    with only_writer(output):
        date, sums = _published(server, base, wiki, date)
        folder = output if len(sums) == 1 else output / f"{wiki}-{date}"
        folder.mkdir(exist_ok=True)
        for name, sha1 in sums.items():
            url = f"{base}/{wiki}/{date}/{name}"
            _fetch(server, url, folder / name, sha1)
            _describe(folder / name, wiki=wiki, date=date, url=url, sha1=sha1)
    return folder if len(sums) > 1 else folder / name


def _check_wiki(wiki: str) -> None:
    if re.fullmatch(r"[a-z][a-z0-9_]*", wiki) and "wik" in wiki:
        return
    stem = re.sub(r"[^a-z0-9]+", "_", wiki.lower().partition(".")[0]).strip("_")
    guess = stem if "wik" in stem else f"{stem}wiki"
    hint = f"did you mean {guess}?" if stem else "for example zhwiki, enwiki or simplewiki."
    raise UserError(f"{wiki!r} is not the database name of a wiki; {hint}")


def _check_date(date: str) -> None:
    if date == "latest":
        return
    try:
        if not re.fullmatch(r"[0-9]{8}", date):
            raise ValueError
        datetime.strptime(date, "%Y%m%d")
    except ValueError:
        raise UserError(f'{date!r} is not a date of a dump; give "latest" or YYYYMMDD.') from None


def _base_url(mirror: str | None) -> str:
    base = (mirror or WIKIMEDIA).rstrip("/")
    try:
        parts = urlsplit(base)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of an IPv6 address
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise UserError(f"the mirror {base!r} is not the address of a server; it should look like {WIKIMEDIA}.")
    return base


def _published(server: "_Server", base: str, wiki: str, date: str) -> tuple[str, dict[str, str]]:
    """The date of a finished dump, and its files with their SHA-1."""
    listing = f"{base}/{wiki}/"
    if date == "latest":
        try:
            dates = set(re.findall(r'href="(?:[^"]*/)?(\d{8})/?"', server.text(listing)))
        except _NotFound:
            raise UserError(
                f"there is no wiki {wiki!r} at {base}; see {base}/backup-index.html for the names of the wikis."
            ) from None
    else:
        dates = {date}
    in_parts: list[tuple[str, dict[str, str]]] = []
    for date in sorted(dates, reverse=True)[:DATES_TRIED]:
        try:
            sums = _dump_files(wiki, date, server.text(f"{listing}{date}/{wiki}-{date}-sha1sums.txt"))
        except _NotFound:
            continue
        if len(sums) == 1:
            return date, sums
        if sums:  # the parts of a large wiki are there some days before the whole is put together
            in_parts.append((date, sums))
    if in_parts:
        return in_parts[0]
    which = f"of {date} " if len(dates) == 1 else ""
    raise UserError(f"there is no finished dump {which}of {wiki!r} at {base}; see {listing} for what there is.")


def _dump_files(wiki: str, date: str, sha1sums: str) -> dict[str, str]:
    """The whole dump's name and SHA-1 if it is listed, else those of its parts in their order, else nothing."""
    name = f"{wiki}-{date}-pages-articles-multistream"
    sums = {file: sha1 for sha1, file in re.findall(r"^([0-9a-f]{40}) [ *](\S+)$", sha1sums, re.MULTILINE)}
    if whole := sums.get(f"{name}.xml.bz2"):
        return {f"{name}.xml.bz2": whole}
    part = re.compile(re.escape(name) + r"(\d+)\.xml-p(\d+)p\d+\.bz2")
    parts = [(int(match[1]), int(match[2]), file) for file in sums if (match := part.fullmatch(file))]
    return {file: sums[file] for _, _, file in sorted(parts)}


def _fetch(server: "_Server", url: str, path: Path, sha1: str) -> None:
    """Bring `path` about with the content that has this SHA-1."""
    if path.exists():
        size = path.stat().st_size
        server.progress(0, size, f"checking {path.name}")
        if _sha1(path) == sha1:
            server.progress(size, size, f"{path.name} is complete already")
            return
    part = path.with_name(path.name + ".part")
    for again in (True, False):
        try:
            server.persist(lambda: _continue(server, url, part), lambda: _size(part))
        except _NotFound:
            raise UserError(f"{url} is announced, but not there; try later or with another mirror.") from None
        size = _size(part)
        server.progress(size, size, f"checking {path.name}")
        if _sha1(part) == sha1:
            part.replace(path)
            _validator_file(part).unlink(missing_ok=True)
            return
        part.unlink()
        if again:
            server.progress(0, size, "what came does not have the published checksum; fetching it again")
    raise UserError(
        f"{url} came twice with another content than its published SHA-1 {sha1} says, and was deleted; "
        "try again later or with another mirror."
    )


def _continue(server: "_Server", url: str, part: Path) -> None:
    """Append to `part` what is missing, in one request; raises `_Broken` if some is missing still."""
    have = _size(part)
    known = _read_validator(part, url) if have else ""
    headers = {"Range": f"bytes={have}-"} if have else {}
    if known:
        headers["If-Range"] = known
    with server.open(url, headers) as response:
        start, total = _extent(response, have)
        validator = _validator(response.headers)
        if start is None or (start and known and validator and validator != known):
            if have == total and start is None:
                return
            part.unlink()
            raise _Broken("the file has changed on the server")
        if have and not start:
            server.progress(0, total, "the server does not continue where it broke off; fetching from the beginning")
        elif have:
            server.progress(have, total, f"continuing {part.stem}")
        _check_space(part.parent, total - start - (have if not start else 0))
        write_json(_validator_file(part), {"url": url, "validator": validator})
        try:
            with part.open("ab" if start else "wb") as file:
                for block in _blocks(response):
                    file.write(block)
                    start += len(block)
                    server.progress(start, total, f"fetching {part.stem}")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            space = "free some space" if error.errno == errno.ENOSPC else "put that right"
            raise UserError(
                f"{part} cannot be written ({error.strerror}); {space} and run the same command again to continue."
            ) from None
    if start < total:
        raise _Broken(f"the connection broke after {start:,} of {total:,} bytes")


def _extent(response: Any, have: int) -> tuple[int | None, int]:
    """Where the body begins (None: nowhere we can use it) and how long the whole file is (0: unknown)."""
    if response.status not in (206, 416):
        return 0, response.length or 0
    match = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range") or "")
    if not match:
        return None, 0
    return (have if match[1] == str(have) else None), int(match[2])


def _blocks(response: Any) -> Iterator[bytes]:
    """The body as it comes: what arrived before a break or a stall is not lost."""
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"the connection broke ({_reason(error)})") from None
        if not block:
            return
        yield block


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:.2f} GB free, but {needed / 1e9:.2f} GB are to be fetched; "
            "free some space or give a folder on another disk."
        )


def _describe(path: Path, **origin: str) -> None:
    file = path.with_name(path.name + ".json")
    if _noted(file).get("sha1") != origin["sha1"]:
        fetched = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(file, {**origin, "bytes": path.stat().st_size, "fetched": fetched, "license": LICENSE})


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path, url: str) -> str:
    """The version of the file that `part` is the beginning of; "" if it came from elsewhere (the SHA-1 will tell)."""
    noted = _noted(_validator_file(part))
    return str(noted.get("validator", "")) if noted.get("url") == url else ""


def _noted(file: Path) -> dict[str, Any]:
    """What we wrote down in a JSON file; nothing if it is absent or damaged."""
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _validator(headers: Message) -> str:
    """A strong ETag, else the modification date: what `If-Range` may hold (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag") or ""
    return etag if etag.startswith('"') else headers.get("Last-Modified") or ""


class _NotFound(Exception):
    """The server has no such file."""


class _Broken(Exception):
    """An attempt failed in a way that another one may not; `wait` is the delay the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise UserError(f"{req.full_url} redirects to {newurl}, which is not a web address; try another mirror.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True, slots=True)
class _Server:
    """How requests are made and repeated."""

    timeout: float
    retries: int
    backoff: float
    progress: Progress

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """The response (status 200, 206 or 416) to a GET request."""
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **(headers or {})})
        try:
            return urllib.request.build_opener(_HttpOnly).open(request, timeout=self.timeout)
        except HTTPError as error:
            if error.code == 416:
                return error
            error.close()
            if error.code in (404, 410):
                raise _NotFound(url) from None
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _Broken(f"the server answers {error.code} {error.reason}", _retry_after(error.headers)) from None
            raise UserError(
                f"{url} is refused ({error.code} {error.reason}); try later or with another mirror."
            ) from None
        except http.client.InvalidURL:
            raise UserError(f"{url!r} is not a valid address; look at --mirror.") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UserError(
                    f"the certificate of {urlsplit(url).hostname} is not accepted ({reason.verify_message}); behind a "
                    "proxy with a certificate of its own, set SSL_CERT_FILE to it."
                ) from None
            raise _Broken(f"{urlsplit(url).hostname} cannot be reached ({_reason(reason)})") from None

    def text(self, url: str) -> str:
        """A small text; raises `_NotFound` or `UserError`."""

        def attempt() -> str:
            with self.open(url) as response:
                size = response.length or 0
                data = b""
                for block in _blocks(response):
                    data += block
                    if len(data) > MAX_TEXT:
                        raise UserError(f"{url} is larger than any list of files; try another mirror.")
            if len(data) < size:
                raise _Broken("the connection broke")
            return data.decode("utf-8", "replace")

        return self.persist(attempt, lambda: 0)

    def persist(self, attempt: Callable[[], T], reached: Callable[[], int]) -> T:
        """Repeat what is broken; only attempts that get no further than any before count as failures."""
        failures, furthest = 0, reached()
        while True:
            try:
                return attempt()
            except _Broken as broken:
                if reached() > furthest:
                    failures, furthest = 0, reached()
                failures += 1
                if failures > self.retries:
                    raise UserError(
                        f"{broken}, {failures} times in a row; what was fetched is kept: run the same command again "
                        "later, or try another mirror."
                    ) from None
                wait = min(self.backoff * 2 ** (failures - 1), 60.0) if broken.wait is None else broken.wait
                self.progress(reached(), 0, f"{broken}; trying again in {wait:.0f} s")
                time.sleep(wait)


def _retry_after(headers: Message) -> float | None:
    """Seconds, from a number or a date."""
    value = headers.get("Retry-After") or ""
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_WAIT)


def _reason(error: object) -> str:
    return f"no answer in time ({error})" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
