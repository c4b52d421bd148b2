"""Articles that somebody else extracted: rows of JSON lines, or of parquet like wikimedia/wikipedia."""

import json
from typing import Any

from wikigpt.corpus.dump import MAX_PAGE, Damage, Page

_NEEDED = "each line needs an object with at least title and text"


def json_page(data: bytes, line: int, default_id: int) -> Page:
    """The article on a line of JSON, {"title", "text", "id"?, "lang"?, "url"?, "revision"?}. Raises `Damage`."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise Damage(f"this line is not JSON ({reason}); {_NEEDED}", line) from None
    if not isinstance(row, dict) or not isinstance(row.get("title"), str) or not isinstance(row.get("text"), str):
        raise Damage(f"this line has no title or no text; {_NEEDED}", line)
    return row_page({"id": default_id, **row})


def row_page(row: dict[str, Any]) -> Page:
    """The article of a row with at least title and text."""

    def field(name: str) -> str:
        value = row.get(name)
        return "" if value is None else str(value).encode("utf-8", "replace").decode()  # no lone surrogates

    text = field("text")
    return Page(
        id=field("id"),
        title=field("title").strip(),
        namespace=0,
        revision=field("revision"),
        text=text[:MAX_PAGE],
        too_large=len(text) > MAX_PAGE,
        model="plain",
        lang=field("lang"),
        url=field("url"),
    )
