"""Wikitext tables, `{| … |}`: dropped, or kept as one row a line."""

import re

from wikigpt.corpus.wikitext.kernels import follows
from wikigpt.corpus.wikitext.marks import GONE

# Lines that only make sense in a table. Where nothing opened one, a template did that we do not know.
_ROW_MARKS = ("|-", "|}", "|+")
_OPENING = re.compile(rf"[\s:*#{GONE}]*\{{\|")
_OPENING_STARTS = frozenset(f"{{:*#{GONE}")
_EDGE = f" \t:*#{GONE}"  # what may stand before a table on its line
_INLINE = re.compile(r"\{\|(?=\s|[a-z]{2,20}=)")
_STARTS = frozenset(f" \t:*#{{|!{GONE}")  # what a line outside of tables must begin with to matter here
_HEADING = re.compile(r"=.*=\s*\Z")
_STRAY_PARAMETER = re.compile(r"\s*\|\s*[\w .'-]{1,40}=")
CELL_SEPARATOR = " | "
# They would break a row into lines. Not <div>: it may hide what is in it.
_BREAKING_TAG = re.compile(r"</?(?:br|hr|p|center|ul|ol|li)(?=[\s/>])[^<>]*>", re.IGNORECASE)


def has_tables(text: str) -> bool:
    """Whether a line of `text` may belong to a table."""
    return follows(text, "|", "{\n") or text.startswith("|")


def take_tables(lines: list[str], *, keep: bool) -> list[str]:
    """`lines` without tables, or with the rows of tables as lines."""
    out: list[str] = []
    tables: list[_Table] = []  # those that are open, the outermost first
    broken = False  # inside a table that something other than `{|` opened
    for line in lines:
        if not tables and "|" in line and "{|" in line:  # looking for one character is several times as fast
            line = _without_tables(line)
        if not tables and (not line or line[0] not in _STARTS):
            out.append(line)
            continue
        start = line.lstrip()
        if start[:1] in _OPENING_STARTS and "{|" in start and _OPENING.match(start):
            tables.append(_Table() if keep else _DROPPED)
        elif tables:
            if start.startswith("|}"):
                table = tables.pop()
                if keep and tables:
                    tables[-1].nest(table.rows())
                elif keep:
                    out += table.rows()
                if not tables and (rest := start[2:].strip()):
                    out.append(rest)
            elif start.startswith("=") and _HEADING.match(start):  # the table was never closed
                if keep:
                    out += (row for table in tables for row in table.rows())
                tables.clear()
                broken = True
                out.append(line)
            elif keep:
                tables[-1].read(start)
        elif start.startswith(("|", "!")):
            if start.startswith(_ROW_MARKS) and not broken:
                broken = True
                while out and out[-1].lstrip().startswith(("!", "|")):
                    out.pop()
            if broken:
                broken = not start.startswith("|}")
            elif not _STRAY_PARAMETER.match(start):
                out.append(line)
        else:
            out.append(line)
    if keep:
        out += (row for table in tables for row in table.rows())
    return out


def _without_tables(line: str) -> str:
    """A line without the tables in the midst of it, as they stand in pages that have lost their line breaks."""
    opening = _INLINE.search(line)
    if opening is None or not line[: opening.start()].strip(_EDGE):  # it begins a table
        return line
    out: list[str] = []
    position = 0
    while opening and (end := line.find("|}", opening.end())) >= 0:
        out += line[position : opening.start()], GONE
        position = end + 2
        opening = _INLINE.search(line, position)
    return "".join([*out, line[position:]])


class _Table:
    """The rows of a table that is being read, each as a line of text."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.cells: list[list[str]] = []  # of the row that is being read, each as its lines
        self.nested: list[str] = []  # rows of tables inside this row
        self.caption = False  # whether the caption is being read, as the only cell of its line

    def read(self, line: str) -> None:
        """Read one line that stands between `{|` and `|}`."""
        mark = line[:1]
        if line.startswith("|-"):
            self._end_row()
        elif line.startswith("|+"):
            self._end_row()
            self.caption = True
            self.cells.append([_without_attributes(line[2:])])
        elif mark and mark in "|!":
            if self.caption:
                self._end_row()
            if mark == "!":
                line = line.replace("!!", "||")
            self.cells += ([_without_attributes(cell)] for cell in line[1:].split("||"))
        elif self.cells and line:
            self.cells[-1].append(line.lstrip("*#:; "))

    def nest(self, rows: list[str]) -> None:
        """Take the rows of a table that stands in one of this row's cells."""
        self.nested += rows

    def rows(self) -> list[str]:
        """All rows; those of nested tables follow the row that they stand in."""
        self._end_row()
        return self.done

    def _end_row(self) -> None:
        cells = (" ".join(_BREAKING_TAG.sub(" ", " ".join(lines)).split()) for lines in self.cells)
        row = CELL_SEPARATOR.join(cell for cell in cells if cell)
        if row:
            self.done.append(row)
        self.done += self.nested
        self.cells, self.nested, self.caption = [], [], False


_DROPPED = _Table()


def _without_attributes(cell: str) -> str:
    """`style="…" | text` shows the text."""
    attributes, pipe, text = cell.partition("|")
    return text if pipe else attributes
