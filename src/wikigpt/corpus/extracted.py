"""Article text that somebody else extracted: JSON lines, and parquet as in the wikimedia/wikipedia data set."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wikigpt.corpus.dump import Page
from wikigpt.corpus.filters import few_empty_lines, single_spaces
from wikigpt.corpus.marks import ANY_MARK
from wikigpt.corpus.source import Progress, Source
from wikigpt.corpus.variants import Rules, resolve
from wikigpt.corpus.wikitext import decode_entities, strip_html
from wikigpt.errors import UserError

_NEEDED = "each line needs an object with at least title and text"


def read_json_lines(source: Source) -> Iterator[tuple[Page, str, str]]:
    """Yield page, language and URL of each line {"title", "text", "id"?, "lang"?, "url"?, "revision"?}."""
    progress = Progress()
    number = 0
    rest = b""
    for block in source.blocks("lines", progress):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > 200_000_000:
            raise UserError(f"{source.path}:{number + 1}: this line is longer than 200 MB; {_NEEDED}.")
        for line in lines:
            number += 1
            if line.strip():
                yield _json_page(line, source.path, number)
        progress.count = number
    if rest.strip():
        yield _json_page(rest, source.path, number + 1)


def _json_page(line: bytes, path: Path, number: int) -> tuple[Page, str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise UserError(f"{path}:{number}: this line is not JSON ({reason}); {_NEEDED}.") from None
    if not isinstance(row, dict) or not isinstance(row.get("title"), str) or not isinstance(row.get("text"), str):
        raise UserError(f"{path}:{number}: this line has no title or no text; {_NEEDED}.")
    return _page(row, str(number))


def _page(row: dict[str, Any], default_id: str) -> tuple[Page, str, str]:
    def field(name: str, default: str = "") -> str:
        value = row.get(name)
        return default if value is None else str(value)

    page = Page(
        id=field("id", default_id),
        title=row["title"].strip(),
        namespace=0,
        revision=field("revision"),
        text=row["text"],
        model="plain",
    )
    return page, field("lang"), field("url")


def read_parquet(source: Source) -> Iterator[tuple[Page, str, str]]:
    """Yield page, language and URL of each row; the language comes from the URL if there is no column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source.path)
        missing = {"title", "text"} - set(file.schema_arrow.names)
        if missing:
            raise UserError(
                f"{source.path} has no column {' and no column '.join(sorted(missing))}; a parquet file needs title "
                "and text, as in the wikimedia/wikipedia data set."
            )
        wanted = [n for n in ("id", "title", "text", "url", "lang", "revision") if n in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(batch_size=500, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                row["title"], row["text"] = row["title"] or "", row["text"] or ""
                page, lang, url = _page(row, str(number))
                host = urlsplit(url).hostname or ""
                yield page, lang or host.partition(".")[0], url
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{source.path} is damaged or no parquet file ({reason}); fetch the file again.") from None


# Brackets that a dropped template left empty, and their ragged edges: （）, （，又名…）.
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|（\s*）")
_BRACKET_START = re.compile(r"([(（])[\s,;:，；、：]{0,9}[,;，；、][\s,;，；、]{0,9}")
_BRACKET_END = re.compile(r"[,;，；、]\s{0,9}(?=[)）])")
_VARIANT = re.compile(r"-\{([^{}]{0,300})\}-")
_HEADING_ZH = re.compile(r"[^。，；！？：,;!?:]{1,25}\.")
_HEADING = re.compile(r"[^.,;!?:]{1,60}\.")
_PARAGRAPH = 60  # characters; a longer line that ends a sentence is a paragraph of its own
_LONE_HEADINGS = re.compile(r"(?:^|\n\n)## [^\n]*(?=\n\n## |\Z)")


def tidy(text: str, title: str, lang: str, variant: str | None = None) -> str:
    """Bring another extractor's text into our form.

    WikiExtractor and gensim write one paragraph a line and a heading as a line of its own that ends in a
    full stop; they leave brackets empty where they dropped a template, and now and then an entity, a tag or
    a `-{…}-`. Others put empty lines between paragraphs already.
    """
    if "&" in text:
        text = decode_entities(text)
    if "<" in text:
        text = strip_html(text)
    if "-{" in text and lang == "zh":
        rules = Rules(variant)
        text = _VARIANT.sub(lambda match: ANY_MARK.sub("", resolve(match.group(1).split("|"), rules)), text)
    if "（" in text or "(" in text:
        text = _BRACKET_END.sub("", _BRACKET_START.sub(r"\1", text))
        text = _EMPTY_BRACKETS.sub(_unless_call, text)
    text = single_spaces(text.replace("\r\n", "\n")).strip()
    text = text.replace("。。", "。")
    lines = [line.strip() for line in text.split("\n")]
    if lines[0] == title:
        lines = lines[1:]
    one_a_line = "\n\n" not in text
    heading = _HEADING_ZH if lang in ("zh", "ja") else _HEADING
    out: list[str] = []
    for number, line in enumerate(lines):
        if one_a_line and number and heading.fullmatch(line) and len(line.split()) <= 9:
            out.append(f"\n## {line[:-1].strip()}\n")
        elif (one_a_line and not line.startswith("- ")) or (len(line) > _PARAGRAPH and line[-1] in '.。!?！？”"」'):
            out.append(f"\n{line}\n")
        else:
            out.append(line)
    text = few_empty_lines("\n".join(out)).strip()
    return _LONE_HEADINGS.sub("", text).strip()


def _unless_call(match: re.Match[str]) -> str:
    """Nothing for an empty bracket, except the one of f()."""
    before = match.string[match.start() - 1 : match.start()]
    return match.group() if before.isascii() and (before.isalnum() or before in "_.)]") and before else ""
