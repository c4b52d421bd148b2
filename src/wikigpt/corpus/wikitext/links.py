"""What a reader sees of [[internal links]]."""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import LANGUAGE_CODES, capital
from wikigpt.corpus.wikitext.marks import ANY_MARK, COLON, PIPE, STRIP

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

_MEDIA = frozenset({"media", "媒体", "媒體", "媒体文件", "媒體檔案", "メディア", "medium", "média", "medio"})
# Aliases of the file namespace are not in siteinfo; the file's name gives them away.
_FILE_NAME = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gav]|webm|mp3|wav|flac|midi?|pdf|djvu|stl)\Z", re.I)
_NOT_IN_TITLES = re.compile(r"[][{}<>\n]")
_URL = re.compile(r"[a-z]{3,9}://", re.IGNORECASE)
_NAMESPACE = re.compile(r"\A(?::?[\w -]+:|:)")
_LEVELS = re.compile(r"\A(?:\.\./)+")
_COMMA = re.compile(", |，|، ")
_LINE_MARKS = frozenset("*#:;=")


def link(parts: list[str], page: "Page") -> str | None:
    """What [[target|text]] shows: files nothing. None for categories and language links: they are noted, and a line
    of their own is no line of the text."""
    target = parts[0].strip()
    prefix, colon, rest = target.partition(":")
    if colon and prefix:
        name = " ".join(prefix.lower().replace("_", " ").split())
        if name in _MEDIA:
            return _protected(PIPE.join(parts[1:]) or target, page)
        if name in page.files or _FILE_NAME.search(target):
            return ""
        if name in page.category_names:
            category = capital(page.plain(rest))
            if category:
                page.categories[category] = None
            return None
        if name in LANGUAGE_CODES and name != page.lang and "\n" not in rest:
            page.langlinks[name, capital(ANY_MARK.sub("", rest))] = None
            return None
    if len(parts) == 1:
        shown = _without_text(target, parts[0], page)
    elif parts[1] or len(parts) > 2:
        shown = PIPE.join(parts[1:])
    else:
        shown = _pipe_trick(target)
    return _protected(shown, page) if shown.strip() else ""


def _protected(shown: str, page: "Page") -> str:
    """The text of a link is no markup: [[#a]] begins no list, and [[a:b]] does not end a term."""
    if page.has_terms:
        shown = shown.replace(":", COLON)
    return page.literal("") + shown if shown[0] in _LINE_MARKS else shown


def _without_text(target: str, written: str, page: "Page") -> str:
    if _URL.match(target):  # [[http://a b]] is a link to the outside in brackets of its own
        return f"[[{written}]]"
    if _NOT_IN_TITLES.search(target) and STRIP not in target:
        return f"[[{written}]]" if "\n" not in target else written
    shown = target.removeprefix(":")
    if shown.startswith("../"):
        return _page_above(shown, page.title.split("/"))
    return shown.strip("/") if shown.startswith("/") and shown.endswith("/") else shown


def _page_above(shown: str, path: list[str]) -> str:
    """[[../]] shows the title of the page above, [[../a]] adds to it, and [[../a/]] shows the last name alone."""
    name = _LEVELS.sub("", shown)
    levels = (len(shown) - len(name)) // 3
    if levels >= len(path):
        return shown
    return name.rstrip("/") if name.endswith("/") else "/".join([*path[:-levels], *filter(None, [name])])


def _pipe_trick(target: str) -> str:
    """[[Help:title (of something)|]] and [[title, somewhere|]] show the title alone; with "#" it is no link."""
    if "#" in target:
        return f"[[{target}{PIPE}]]"
    title = _NAMESPACE.sub("", target)
    shorter = _without_brackets(title)
    if shorter == title and (comma := _COMMA.search(title, 1)):
        return _without_brackets(title[: comma.start()])
    return shorter


def _without_brackets(title: str) -> str:
    for opening, closing in ("()", "（）"):
        start = title.find(opening, 1)
        if start > 0 and title.endswith(closing):
            return title[:start].removesuffix(" ")
    return title
