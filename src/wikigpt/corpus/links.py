"""What a reader sees of [[internal links]]."""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import LANGUAGE_CODES, capital
from wikigpt.corpus.marks import ANY_MARK, COLON, PIPE, STRIP

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext import Page

# [[target]] and [[target|text]] without anything that needs a second look: nine links of ten. The one group is
# what is shown, so that joining the pieces of `split` replaces every such link, without a call for each.
_SIMPLE = re.compile(
    r"\[\[(?<!\[\[\[)(?![\s/])(?:[^][{}<>|:=\n\x7f]*+\|)?+"  # the target, if a text follows
    r"((?!\s)[^][{}<>|:=\n\x7f]++)(?<!\s)\]\](?!\])"
)
_MEDIA = frozenset({"media", "媒体", "媒體", "媒体文件", "媒體檔案", "メディア", "medium", "média", "medio"})
# Aliases of the file namespace are not in siteinfo; the file's name gives them away.
_FILE_NAME = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gav]|webm|mp3|wav|flac|midi?|pdf|djvu|stl)\Z", re.I)
_NOT_IN_TITLES = re.compile(r"[][{}<>\n]")
_URL = re.compile(r"[a-z]{3,9}://", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\s*[(（][^()（）]*[)）]\s*\Z")
_AFTER_COMMA = re.compile(r"(?:, |，).*\Z", re.DOTALL)


def simple_links(text: str) -> str:
    """Replace the links that need no second look by what they show."""
    return "".join(_SIMPLE.split(text))


def link(parts: list[str], page: "Page") -> str:
    """What [[target|text]] shows; files vanish, categories and language links are noted and vanish."""
    target = parts[0].strip()
    prefix, colon, rest = target.partition(":")
    if colon and prefix:
        name = " ".join(prefix.lower().replace("_", " ").split())
        if name in _MEDIA:
            return parts[-1] if len(parts) > 1 else rest
        if name in page.files or _FILE_NAME.search(target):
            return ""
        if name in page.category_names:
            category = capital(page.plain(rest))
            if category:
                page.categories[category] = None
            return ""
        if name in LANGUAGE_CODES and name != page.lang and "\n" not in rest:
            page.langlinks[name, capital(ANY_MARK.sub("", rest))] = None
            return ""
    if len(parts) == 1:
        return _without_text(target, parts[0])
    shown = PIPE.join(parts[1:])
    if not shown.strip():
        return _pipe_trick(target) if len(parts) == 2 and not shown else ""
    return shown.replace(":", COLON) if page.has_terms else shown


def _without_text(target: str, written: str) -> str:
    if _URL.match(target):  # [[http://a b]] is a link to the outside in brackets of its own
        return f"[[{written}]]"
    if _NOT_IN_TITLES.search(target) and STRIP not in target:
        return f"[[{written}]]" if "\n" not in target else written
    shown = target.removeprefix(":")
    return shown.strip("/") if shown.startswith("/") and shown.endswith("/") else shown


def _pipe_trick(target: str) -> str:
    """[[Help:title (of something)|]] and [[title, somewhere|]] show the title alone."""
    title = target.removeprefix(":")
    title = title.partition(":")[2] or title
    shorter = _IN_BRACKETS.sub("", title)
    return shorter if shorter != title else _IN_BRACKETS.sub("", _AFTER_COMMA.sub("", title))
