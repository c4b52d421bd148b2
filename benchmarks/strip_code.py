"""mwparserfromhell's `strip_code()` over the articles of a dump, as JSON lines: `strip_code.py DUMP OUTPUT`.

Runs under the Python of the peers' own environment; needs nothing but mwparserfromhell.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import mwparserfromhell


def main() -> None:
    """Read, strip, write."""
    dump, output = map(Path, sys.argv[1:])
    with output.open("w", encoding="utf-8") as file:
        for title, wikitext in articles(dump):
            text = mwparserfromhell.parse(wikitext).strip_code()
            file.write(json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n")


def articles(dump: Path) -> Iterator[tuple[str, str]]:
    """Title and wikitext of the pages in the main namespace that are no redirects."""
    for _, element in ElementTree.iterparse(dump):
        tag = element.tag.rpartition("}")
        if tag[2] == "page":
            namespace = "{" + tag[0].lstrip("{") + "}"
            if element.findtext(f"{namespace}ns") == "0" and element.find(f"{namespace}redirect") is None:
                yield element.findtext(f"{namespace}title") or "", element.findtext(f".//{namespace}text") or ""
            element.clear()


if __name__ == "__main__":
    main()
