"""The rows of a file: JSON lines, a JSON list, CSV or parquet, each also compressed; told by its bytes, not its name.

Rows are read one after the other, so that a file may be larger than memory. What cannot be read becomes a reason in
the place of the row, and reading goes on behind it where that is possible.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, cast

from wikigpt.errors import UserError

Row = dict[str, Any]
Kind = Literal["jsonl", "json", "csv", "parquet"]

# No conversation is longer. It bounds what a gzip file of a few MB full of zeros, or an unclosed quote, takes.
LONGEST_ROW = 32_000_000
_BLOCK = 1 << 18
_HEAD = 1 << 16
_EXPECTED = "give JSON lines, a JSON list, CSV with a header, or parquet, each plain or compressed (.gz, .xz, .bz2)"
_UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError)
_ROWS_AT_ONCE = 256  # of parquet


class RowFile:
    """A file of rows; `rows()` may be called again and again.

    Args:
        path: the file.
        columns: names of which a CSV header must hold one.

    Raises:
        UserError: no such file, or one that holds no rows in any format known.
    """

    def __init__(self, path: Path, columns: frozenset[str]) -> None:
        self.path = path
        self._columns = columns
        self._delimiter = ","
        self.kind: Kind = self._find_kind()

    @property
    def unit(self) -> str:
        """What the numbers of `rows()` count: lines of JSON lines, else rows (a CSV header is not one)."""
        return "line" if self.kind == "jsonl" else "row"

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yield each row with its number, counted from 1; a text in its place says why it cannot be read."""
        number = 0
        readers = {"jsonl": self._lines, "json": self._elements, "csv": self._records, "parquet": self._batches}
        try:
            for number, row in readers[self.kind]():
                yield number, row
        except _UNREADABLE as error:
            yield number + 1, f"the file is cut off or damaged here ({error}); nothing behind it can be read"

    def _find_kind(self) -> Kind:
        try:
            with self._opened() as stream:
                head = stream.read(_HEAD)
        except _UNREADABLE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(f"{self.path} cannot be read ({error.strerror}); check the path.") from None
            raise UserError(f"{self.path} is cut off or damaged ({error}); fetch or write it again.") from None
        if head.startswith(b"PAR1"):
            return "parquet"
        text = head.decode(_encoding(head), "replace").lstrip("\ufeff \t\r\n")
        if not text:
            raise UserError(f"{self.path} is empty; {_EXPECTED}.")
        if text[0] in "[{":
            return "json" if text[0] == "[" else "jsonl"
        first, *others = text.splitlines()
        for delimiter in ",\t;":  # ";" is what spreadsheets write where the comma is the decimal sign
            names = next(csv.reader([first], delimiter=delimiter), [])
            if self._columns & set(names):
                self._delimiter = delimiter
                return "csv"
        if any(line.lstrip().startswith("{") for line in others):  # the first line alone is broken
            return "jsonl"
        raise UserError(f"{self.path} holds no rows that could be conversations; {_EXPECTED}.")

    def _opened(self) -> IO[bytes]:
        """The content, decompressed."""
        with self.path.open("rb") as raw:
            magic = raw.read(6)
        if magic.startswith(b"\x1f\x8b"):
            return cast(IO[bytes], gzip.open(self.path))
        if magic == b"\xfd7zXZ\x00":
            return cast(IO[bytes], lzma.open(self.path))
        if magic.startswith(b"BZh"):
            return cast(IO[bytes], bz2.open(self.path))
        return self.path.open("rb")

    def _text(self, stream: IO[bytes]) -> io.TextIOWrapper:
        """The content as text; bytes that are not UTF-8 become lone surrogates, which readers can tell."""
        encoding = _encoding(cast(io.BufferedReader, stream).peek(4)[:4])
        return io.TextIOWrapper(stream, encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace", "")

    def _lines(self) -> Iterator[tuple[int, Row | str]]:
        with self._opened() as stream, self._text(stream) as text:
            for number, line in enumerate(_bounded_lines(text), 1):
                if line is None:
                    yield number, _too_long("line")
                elif line.strip():
                    yield number, _object(line)

    def _elements(self) -> Iterator[tuple[int, Row | str]]:
        """The elements of a JSON list, decoded one by one from a window of the text."""
        decoder = json.JSONDecoder()
        with self._opened() as stream, self._text(stream) as text:
            window, at, ended = text.read(_BLOCK), 0, False
            at = _skip(window, 0, " \t\r\n") + 1  # behind the bracket
            number = 1
            while True:
                at = _skip(window, at, " \t\r\n,")
                try:
                    if at < len(window) and window[at] == "]":
                        return
                    if at == len(window) and ended:
                        yield number, "the list has no end; the file may be cut off"
                        return
                    value, end = decoder.raw_decode(window, at)
                    if end == len(window) and not ended:  # a number may go on
                        raise json.JSONDecodeError("unterminated", window, end)
                    at = end
                    yield number, value if isinstance(value, dict) else "not an object with columns"
                    number += 1
                except (ValueError, RecursionError) as error:
                    if not ended and len(window) - at <= LONGEST_ROW:
                        more = text.read(max(_BLOCK, len(window) - at))  # doubled, so that decoding again stays linear
                        window, at, ended = window[at:] + more, 0, not more
                        continue
                    yield number, f"not JSON ({_reason(error)}); nothing behind it can be read"
                    return

    def _records(self) -> Iterator[tuple[int, Row | str]]:
        csv.field_size_limit(LONGEST_ROW)  # of the process; its default of 128 KB is less than a long answer
        with self._opened() as stream, self._text(stream) as text:
            # strict: a quote that is never closed must not swallow the rest of the file as one cell
            table = csv.reader(_pieces(text), delimiter=self._delimiter, strict=True)
            names = next(cells for cells in table if cells)
            number = 0
            while True:
                number += 1
                try:
                    cells = next(table)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield number, f"not CSV ({error})"
                    continue
                if len(cells) > len(names):
                    yield number, f"it has {len(cells)} cells, but the header names {len(names)} columns"
                elif cells:
                    yield number, dict(zip(names, cells, strict=False))

    def _batches(self) -> Iterator[tuple[int, Row | str]]:
        import pyarrow
        from pyarrow import parquet

        number = 0
        with self._opened() as stream, tempfile.TemporaryFile() as unpacked:
            if not isinstance(stream, io.BufferedReader):  # parquet is read from its end
                shutil.copyfileobj(stream, unpacked)
            source = stream if isinstance(stream, io.BufferedReader) else unpacked
            try:
                for batch in parquet.ParquetFile(source).iter_batches(_ROWS_AT_ONCE):
                    for i in range(batch.num_rows):
                        number += 1
                        try:
                            yield number, batch.slice(i, 1).to_pylist()[0]
                        except UnicodeDecodeError:
                            yield number, "it holds bytes that are not UTF-8 text"
            except pyarrow.ArrowException as error:
                yield number + 1, f"the file is cut off or damaged ({error}); nothing behind it can be read"


def _encoding(head: bytes) -> str:
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _bounded_lines(text: io.TextIOWrapper) -> Iterator[str | None]:
    """The lines; None for one that is longer than a row may be."""
    while line := text.readline(LONGEST_ROW):
        if len(line) < LONGEST_ROW or line.endswith("\n"):
            yield line
            continue
        while (rest := text.readline(LONGEST_ROW)) and not rest.endswith("\n"):
            pass
        yield None


def _pieces(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines, in pieces where they are longer than a row may be; csv then refuses the cell."""
    while line := text.readline(LONGEST_ROW):
        yield line


def _object(line: str) -> Row | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({_reason(error)})"
    return value if isinstance(value, dict) else "not an object with columns"


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}" if error.lineno == 1 else error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _too_long(unit: str) -> str:
    return f"a {unit} of more than {LONGEST_ROW // 1_000_000} million characters"
