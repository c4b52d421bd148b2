"""First stage: comments and extension tags (`<ref>`, `<math>`, `<nowiki>`, …).

MediaWiki finds these before anything else, leftmost first, and nothing inside them is wikitext (except in
poems). About 40 % of a large English article is references, which later stages then never see.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import words
from wikigpt.corpus.wikitext.finish import decode_entities
from wikigpt.corpus.wikitext.inline import chemical
from wikigpt.corpus.wikitext.kernels import next_tag

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

_DROPPED = words(
    """ref references gallery timeline imagemap score graph mapframe maplink hiero inputbox templatestyles
    categorytree indicator section templatedata includeonly charinsert ce-skip phonos listing chart"""
)
_LITERAL = frozenset({"nowiki", "pre", "syntaxhighlight", "source"})
_MATH = frozenset({"math", "chem", "ce"})
_EXTENSIONS = _DROPPED | _LITERAL | _MATH | {"poem"}
# On a page itself (not where it is transcluded) these tags vanish and what is between them stays.
_INCLUSION = frozenset({"noinclude", "/noinclude", "onlyinclude", "/onlyinclude", "/includeonly"})
_NAMES = _EXTENSIONS | _INCLUSION
_NAME = re.compile(r"/?[a-z][a-z-]*+", re.IGNORECASE)

# MediaWiki shows the opening tag of an element that never ends; we leave it out.
_UNPAIRED = re.compile(
    rf"<(?:ref|{'|'.join(sorted(_EXTENSIONS - {'includeonly', 'ref'}))})(?:>|\s[^<>]*+(?<!/)>)", re.IGNORECASE
)


def take_tags(text: str, page: "Page") -> str:
    """Remove comments and extension tags, or put what they show in their place."""
    if "<" not in text:
        return text
    last = text.rfind("</") + 1
    if _UNPAIRED.search(text, last):
        text = text[:last] + _UNPAIRED.sub("", text[last:])
    out: list[str] = []
    unclosed: set[str] = set()  # names whose closing tag does not occur any more: do not search again
    position = start = 0
    while True:
        position, start = next_tag(text, position, start, _NAMES, out)
        match = _NAME.match(text, start + 1)
        if start < 0 or not match:
            break
        name, end = match.group().lower(), match.end()
        close = -1 if ">" in unclosed else text.find(">", end)
        if close < 0:
            unclosed.add(">")
            start = end
            continue
        out.append(text[position:start])
        position = start = close + 1
        attributes = text[end:close]
        if name in _INCLUSION or f"</{name}" in attributes:
            continue
        if attributes.endswith("/"):
            if name == "nowiki":
                out.append(page.literal(""))  # '<nowiki/>' are two apostrophes and no italics
            continue
        closing = None if name in unclosed else _closing(name).search(text, position)
        if closing:
            out.append(_shown(name, attributes, text[position : closing.start()], page))
            position = start = closing.end()
        elif name == "includeonly":
            position = start = len(text)
        else:
            unclosed.add(name)
    out.append(text[position:])
    return "".join(out)


@cache
def _closing(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}\s*>", re.IGNORECASE)


def _shown(name: str, attributes: str, content: str, page: "Page") -> str:
    """What a reader sees of an extension tag with this content."""
    if name in _DROPPED:
        return ""
    if name == "nowiki":
        return page.literal(decode_entities(content))
    if name in _MATH:
        return page.literal(_math(name, attributes, content))
    if name == "poem":
        lines = take_tags(content, page).strip("\n")  # poems do not nest, so this goes one level deep
        return f"\n\n{lines}\n\n"
    if name == "pre":  # the others show entities as they are written
        content = decode_entities(_NOWIKI.sub("", content))
    code = content.strip("\n")
    inline = name != "pre" and ("inline" in attributes or "\n" not in code)
    return page.literal(code) if inline else f"\n\n{page.literal(code)}\n\n"


_NOWIKI = re.compile(r"</?nowiki\s*/?>", re.IGNORECASE)
_PAIRED = re.compile(r"(?<=\{)(?=\{)|(?<=\})(?=\})|(?<=-)(?=\{)|(?<=\})(?=-)|(?<=\[)(?=\[)|(?<=\])(?=\])")


def _math(name: str, attributes: str, content: str) -> str:
    """TeX between dollar signs; chemical formulas with their numbers lowered."""
    formula = " ".join(content.split())
    if not formula:
        return ""
    if (name != "math" or re.search(r"\bchem\b", attributes)) and "\\" not in formula:
        return chemical(formula)
    # Braces apart: the same to TeX, and nobody downstream takes them for templates.
    return f"${_PAIRED.sub(' ', decode_entities(formula))}$"
