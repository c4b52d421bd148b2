"""Input files: what they are (by their bytes, never by their name), and their bytes decompressed."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from wikigpt.errors import UserError

BLOCK = 1 << 20

_MAGIC = {
    b"BZh": "bz2",
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"PAR1": "parquet",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"%PDF": "pdf",
    b"SQLite format 3": "sqlite",
}
_EXPECTED = (
    "give a MediaWiki XML dump (pages-articles.xml, .bz2, .gz, .xz, .zst), JSON lines with title and text, "
    "or a wikimedia/wikipedia parquet file"
)


class Source:
    """One input file, read once from beginning to end; counts and hashes the bytes as they pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0
        self._hash = hashlib.sha256()
        with _open(path) as file:
            head = file.read(64)
        if not head:
            raise UserError(f"{path} is empty; {_EXPECTED}.")
        self.compression = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
        if self.compression in ("zip", "7z"):
            raise UserError(f"{path} is a {self.compression} archive; unpack it first and give the file inside.")
        if self.compression in ("pdf", "sqlite"):
            raise UserError(f"{path} is a {self.compression} file, not a wiki dump; {_EXPECTED}.")
        self.kind = "parquet" if self.compression == "parquet" else self._content_kind()

    def _content_kind(self) -> str:
        """ "xml" or "jsonl", from the first characters of the decompressed content."""
        try:
            with self.open(count=False) as stream:
                head = stream.read(4096)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise UserError(
                f"{self.path} {_problem(error)} before a single page could be read; "
                "the download is incomplete or broken: fetch the file again."
            ) from None
        start = head.lstrip()[:400]
        lower = start.lower()
        if b"<!doctype html" in lower or lower.startswith(b"<html") or b"<html" in lower[:300]:
            raise UserError(
                f"{self.path} is a web page (HTML), not a dump, perhaps an error page saved under this name; "
                "download the dump again from https://dumps.wikimedia.org/."
            )
        if start.startswith(b"<"):
            return "xml"
        if start.startswith(b"{"):
            return "jsonl"
        raise UserError(f"{self.path} is not a wiki dump; {_EXPECTED}.")

    def open(self, *, count: bool = True) -> BinaryIO:
        """The content as UTF-8 bytes, decompressed."""
        raw = _open(self.path)
        counted: Any = io.BufferedReader(_Counted(self, raw), BLOCK) if count else raw
        stream: Any
        if self.compression == "bz2":
            stream = bz2.BZ2File(counted)
        elif self.compression == "gz":
            stream = gzip.GzipFile(fileobj=counted)
        elif self.compression == "xz":
            stream = lzma.LZMAFile(counted)  # noqa: SIM115 (closed by _Closing)
        elif self.compression == "zst":
            stream = _zstandard(self.path, counted)
        else:
            stream = counted
        buffered = io.BufferedReader(_Closing(stream, raw), BLOCK)
        start = buffered.peek(4)[:4]
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return cast(BinaryIO, io.BufferedReader(_Utf8(buffered, "utf-16"), BLOCK))
        if start in (b"<\x00?\x00", b"\x00<\x00?", b"<\x00m\x00", b"\x00<\x00m"):
            return cast(
                BinaryIO, io.BufferedReader(_Utf8(buffered, "utf-16-le" if start[1] == 0 else "utf-16-be"), BLOCK)
            )
        if start.startswith(codecs.BOM_UTF8):
            buffered.read(3)
        return cast(BinaryIO, buffered)

    def blocks(self, what: str = "pages", done: "Progress | None" = None) -> Iterator[bytes]:
        """The content block by block; a file that ends too early or is damaged is a `UserError`."""
        with self.open() as stream:
            while True:
                try:
                    block = stream.read1(BLOCK) if hasattr(stream, "read1") else stream.read(BLOCK)
                except (EOFError, OSError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
                    far = f" after {done.count:,} {what}" if done else ""
                    raise UserError(
                        f"{self.path} {_problem(error)}{far}, {self.bytes_read:,} of {self.size:,} bytes read; "
                        "the download is incomplete or broken: fetch the file again."
                    ) from None
                except Exception as error:
                    if type(error).__module__.startswith("zstandard"):
                        raise UserError(f"{self.path} is damaged ({error}); fetch the file again.") from None
                    raise
                if not block:
                    return
                yield block

    @property
    def size(self) -> int:
        """Bytes of the file as it is on disk."""
        return self.path.stat().st_size

    def sha256(self) -> str:
        """Of the whole file; reads what has not been read yet."""
        with _open(self.path) as file:
            file.seek(self.bytes_read)
            while block := file.read(BLOCK):
                self.add(block)
        return self._hash.hexdigest()

    def add(self, block: bytes | memoryview) -> None:
        """Count and hash bytes that were read."""
        self._hash.update(block)
        self.bytes_read += len(block)


class Progress:
    """How many pages have been read, for messages."""

    count = 0


class _Counted(io.RawIOBase):
    """A file that tells its `Source` what passes through."""

    def __init__(self, source: Source, raw: BinaryIO) -> None:
        self.source, self.raw = source, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self.raw.readinto(buffer)  # type: ignore[attr-defined]
        self.source.add(memoryview(buffer)[:size])
        return int(size)


class _Closing(io.RawIOBase):
    """A decompressor that closes the file below it, too."""

    def __init__(self, stream: Any, raw: BinaryIO) -> None:
        self.stream, self.raw = stream, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
            self.raw.close()
        super().close()


class _Utf8(io.RawIOBase):
    """UTF-16 text as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            data = self.stream.read(BLOCK)
            self.rest = self.decoder.decode(data, final=not data).encode("utf-8", "replace")
            if not data:
                break
        size = min(len(buffer), len(self.rest))
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path of the dump.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder without files that could be dumps.") from None


def _zstandard(path: Path, raw: BinaryIO) -> Any:
    try:
        import zstandard  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UserError(
            f"{path} is zstd-compressed; install a decompressor with `pip install zstandard`, or unpack it first."
        ) from None
    return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)


# What lies beside dumps in a folder: notes, checksums, the index of a multistream dump (….txt.bz2).
_NOT_INPUT = {".md", ".txt", ".tsv", ".html", ".sha1", ".md5", ".sha256"}


def list_inputs(inputs: Iterable[Path], output: Path) -> list[Path]:
    """The files to read: folders give the files in them (but not those in `output`) in the order of their names."""
    files: list[Path] = []
    for path in (Path(item) for item in inputs):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
            found = [p for p in found if not _NOT_INPUT & set(p.suffixes) and output not in p.parents]
            if not found:
                raise UserError(f"{path} holds no file that could be a dump; {_EXPECTED}.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; check the path of the dump.")
    if not files:
        raise UserError(f"no input was given; {_EXPECTED}.")
    return files


def _problem(error: Exception) -> str:
    """What is wrong with a compressed file, told from what the decompressor says."""
    truncated = isinstance(error, EOFError) or "end-of-stream" in str(error)
    return "is truncated: it ends too early" if truncated else f"is damaged ({error})"
