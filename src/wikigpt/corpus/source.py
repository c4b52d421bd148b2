"""Input files: what they are (by their bytes, not by their name), and their bytes decompressed."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import re
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from wikigpt.corpus.dump import Damage
from wikigpt.corpus.write import MANIFEST
from wikigpt.errors import UserError

BLOCK = 1 << 20
STDIN = Path("-")

_MAGIC = {
    b"BZh": "bz2",
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"PAR1": "parquet",
    b"PK\x03\x04": "zip",
    b"%PDF": "pdf",
    b"SQLite format 3": "sqlite",
}
_EXPECTED = (
    "give a MediaWiki XML dump (pages-articles.xml, .bz2, .gz, .xz, .zst, .7z), JSON lines with title and text, "
    "a wikimedia/wikipedia parquet file, or UTF-8 text as .txt"
)
# A bz2 stream begins with its block size and the first block's magic number, the digits of pi.
BZ2_STREAM = re.compile(rb"BZh[1-9]1AY&SY")


class Source:
    """One input file (or standard input), read once from beginning to end; counts and hashes its bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else str(path)
        self.bytes_read = 0
        self.sha256: str | None = None  # once all has been read
        self._digest = hashlib.sha256()
        head = _head(path)
        if not head:
            raise UserError(f"{self.name} is empty; {_EXPECTED}.")
        self.compression = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
        if self.compression == "zip":
            raise UserError(f"{self.name} is a zip archive; unpack it first and give the file inside.")
        if self.compression in ("pdf", "sqlite"):
            raise UserError(f"{self.name} is a {self.compression} file, not a wiki dump; {_EXPECTED}.")
        if self.compression in ("parquet", "7z") and path == STDIN:
            raise UserError(f"{self.compression} cannot be read from standard input; give the file itself.")
        self.kind = "parquet" if self.compression == "parquet" else self._content_kind(head)
        self.multistream = self.kind == "xml" and self.compression == "bz2" and _is_multistream(head)
        self.recoded = not _is_utf8(head) or head.startswith(codecs.BOM_UTF8)  # if not compressed
        self._read_already = head if path == STDIN else b""

    def _content_kind(self, file_head: bytes) -> str:
        """ "xml", "jsonl" or "text", from the first characters of the decompressed content."""
        try:
            with self._decompressed(io.BytesIO(file_head)) as stream:
                head = stream.read(4096)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise UserError(
                f"{self.name} {_problem(error)} before a single page could be read; "
                "the download is incomplete or broken: fetch the file again."
            ) from None
        start = head.lstrip()[:400]
        lower = start.lower()
        if b"<!doctype html" in lower or lower.startswith(b"<html") or b"<html" in lower[:300]:
            raise UserError(
                f"{self.name} is a web page (HTML), not a dump, perhaps an error page saved under this name; "
                "download the dump again from https://dumps.wikimedia.org/."
            )
        if start.startswith(b"<"):
            return "xml"
        if start.startswith(b"{"):
            return "jsonl"
        if ".txt" in self.path.suffixes and _is_utf8(head):
            return "text"
        raise UserError(f"{self.name} is not a wiki dump; {_EXPECTED}.")

    @property
    def plain(self) -> bool:
        """Whether the content lies in the file as it is, and can be read again."""
        return not self.compression and not self.recoded and self.path != STDIN

    def streams(self) -> Iterator[bytes]:
        """The streams of a bz2 file one after the other, still compressed."""
        buffer = bytearray()
        for block in self._counted_blocks():
            searched = max(1, len(buffer) - 10)
            buffer += block
            while match := BZ2_STREAM.search(buffer, searched):
                yield bytes(buffer[: match.start()])
                del buffer[: match.start()]
                searched = 1
        yield bytes(buffer)

    def blocks(self) -> Iterator[bytes]:
        """The content as UTF-8 bytes, decompressed, a block at a time. Raises `Damage`."""
        if not self.compression and not self.recoded:
            yield from self._counted_blocks()
            return
        if self.compression == "7z":  # py7zr reads the file itself
            for _ in self._counted_blocks():
                pass
        with self._decompressed(io.BufferedReader(_Blocks(self._counted_blocks()), BLOCK)) as stream:
            while True:
                try:
                    block = stream.read(BLOCK)
                except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                    raise Damage(f"the file {_problem(error)}") from None
                except Exception as error:
                    if type(error).__module__.split(".")[0] in ("zstandard", "py7zr"):
                        raise Damage(f"the file is damaged ({error})") from None
                    raise
                if not block:
                    return
                yield block

    def _counted_blocks(self) -> Iterator[bytes]:
        """The bytes of the file as they are, counted and hashed."""
        block = self._read_already
        with _open(self.path) as raw:
            while block := block or _read_full(raw, BLOCK):
                self._digest.update(block)
                self.bytes_read += len(block)
                yield block
                block = b""
        self.sha256 = self.so_far()

    def so_far(self) -> str:
        """SHA-256 of the bytes that have been read."""
        return self._digest.copy().hexdigest()

    def _decompressed(self, raw: BinaryIO) -> BinaryIO:
        stream: Any = raw
        if self.compression == "bz2":
            stream = bz2.BZ2File(raw)
        elif self.compression == "gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif self.compression == "xz":
            stream = lzma.LZMAFile(raw)  # noqa: SIM115 (closed with what is around it)
        elif self.compression == "zst":
            stream = _zstandard(self.name, raw)
        elif self.compression == "7z":
            stream = _seven_zip(self.path)
        buffered = io.BufferedReader(stream, BLOCK)
        start = buffered.peek(4)[:4]
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return _utf8(buffered, "utf-16")
        if start in (b"<\x00?\x00", b"\x00<\x00?", b"<\x00m\x00", b"\x00<\x00m"):
            return _utf8(buffered, "utf-16-le" if start[1] == 0 else "utf-16-be")
        if start.startswith(codecs.BOM_UTF8):
            buffered.read(3)
        return cast(BinaryIO, buffered)

    @property
    def size(self) -> int:
        """Bytes of the file as it is on disk; 0 for standard input."""
        return 0 if self.path == STDIN else self.path.stat().st_size


class _Blocks(io.RawIOBase):
    """A file of the blocks that an iterator yields."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest:
            self.rest = memoryview(next(self.blocks, b""))
        size = min(len(buffer), len(self.rest))
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size


def _utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """UTF-16 text as UTF-8; what is no text becomes the replacement character."""

    def blocks() -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        while data := stream.read(BLOCK):
            if text := decoder.decode(data):
                yield text.encode("utf-8", "replace")
        if rest := decoder.decode(b"", True):
            yield rest.encode("utf-8", "replace")

    return cast(BinaryIO, io.BufferedReader(_Blocks(blocks()), BLOCK))


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\x00" not in head


def _is_multistream(head: bytes) -> bool:
    """Whether the first of several bz2 streams holds only the dump's head, so that no page spans two of them."""
    second = BZ2_STREAM.search(head, 1)
    try:
        first = bz2.decompress(head[: second.start()]) if second else b""
    except (OSError, ValueError):
        return False
    return first.rstrip().endswith(b"siteinfo>") and _is_utf8(first)


def _head(path: Path) -> bytes:
    """The first MiB, or all: enough for the first block of every compression, from which the content is told."""
    with _open(path) as raw:
        return _read_full(raw, BLOCK)


def _read_full(raw: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or what there is: a pipe gives less at a time."""
    data = raw.read(size)
    while data and len(data) < size and (more := raw.read(size - len(data))):
        data += more
    return data


def _open(path: Path) -> BinaryIO:
    if path == STDIN:
        return cast(BinaryIO, io.FileIO(sys.stdin.fileno(), closefd=False))
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path of the dump.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder without files that could be dumps.") from None


def _zstandard(name: str, raw: BinaryIO) -> Any:
    try:
        import zstandard
    except ImportError:
        raise UserError(
            f"{name} is zstd-compressed; install a decompressor with `pip install zstandard`, or unpack it first."
        ) from None
    return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)


def _seven_zip(path: Path) -> BinaryIO:
    """The content of an archive's only file, through a pipe from a thread: py7zr writes, we read."""
    try:
        import py7zr
        from py7zr.io import Py7zIO, WriterFactory
    except ImportError:
        raise UserError(f"{path} is a 7z archive; install `pip install py7zr`, or unpack it first.") from None
    try:
        archive = py7zr.SevenZipFile(path)
        names = [file.filename for file in archive.list() if not file.is_directory]
    except (py7zr.exceptions.ArchiveError, OSError, EOFError) as error:
        raise UserError(f"{path} is a damaged 7z archive ({error}); fetch the file again.") from None
    if len(names) != 1:
        raise UserError(f"{path} holds {len(names)} files; unpack it and give the dump inside.")
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    class Pipe(Py7zIO):
        written = 0

        def write(self, data: bytes | bytearray) -> int:
            view = memoryview(data)
            while view:
                view = view[os.write(writing, view) :]
            self.written += len(data)
            return len(data)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return self.written

    class Pipes(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return Pipe()

    def extract() -> None:
        try:
            with archive:
                archive.extract(targets=names, factory=Pipes())
        except BrokenPipeError:
            pass  # the reader has seen enough
        except BaseException as error:  # it belongs to the reader, who raises it
            failures.append(error)
        finally:
            os.close(writing)

    threading.Thread(target=extract, daemon=True).start()
    return cast(BinaryIO, _Pipe(reading, failures))


class _Pipe(io.FileIO):
    """The reading end of a pipe; raises at its end what made the writer stop."""

    def __init__(self, handle: int, failures: list[BaseException]) -> None:
        super().__init__(handle, "rb")
        self.failures = failures

    def readinto(self, buffer: Any) -> int:
        size = super().readinto(buffer) or 0
        if not size and self.failures:
            raise OSError(str(self.failures[0]) or type(self.failures[0]).__name__)
        return size


# What lies beside dumps in a folder: notes, checksums, the index of a multistream dump (….txt.bz2).
_NOT_INPUT = {".md", ".txt", ".tsv", ".html", ".sha1", ".md5", ".sha256", ".part", ".bad", ".lock"}


def list_inputs(inputs: Iterable[Path], output: Path) -> list[Path]:
    """The files to read: folders give the files in them (but not those in `output`) in the order of their names.

    In a folder that holds nothing else, the .txt files are the input.
    """
    files: list[Path] = []
    for path in (Path(item) for item in inputs):
        if path == STDIN:
            files.append(path)
        elif path.is_dir():
            if (path / MANIFEST).is_file():
                raise UserError(
                    f"{path} is a corpus already, and as rows it would lose its infoboxes; to join wikis, give all "
                    "their dumps in one command."
                )
            there = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
            there = [p for p in there if output not in p.parents and not _is_note(p)]
            found = [p for p in there if not _NOT_INPUT & set(p.suffixes)]
            found = found or [p for p in there if p.suffix == ".txt"]
            if not found:
                raise UserError(f"{path} holds no file that could be a dump; {_EXPECTED}.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; check the path of the dump.")
    if not files:
        raise UserError(f"no input was given; {_EXPECTED}.")
    if files.count(STDIN) > 1:
        raise UserError("standard input (-) can be read only once; give it once.")
    return files


def _is_note(path: Path) -> bool:
    """Whether this is what `wikigpt download` notes beside a dump."""
    return path.suffix == ".json" and path.with_suffix("").is_file()


def _problem(error: Exception) -> str:
    """What is wrong with a compressed file, told from what the decompressor says."""
    truncated = isinstance(error, EOFError) or "end-of-stream" in str(error)
    return "is truncated: it ends too early" if truncated else f"is damaged ({error})"
