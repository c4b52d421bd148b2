"""Article text that somebody else extracted, as tidy as ours."""

import re

from wikigpt.corpus.filters import few_empty_lines, single_spaces
from wikigpt.corpus.languages import CATEGORY_NAMESPACES, FILE_NAMESPACES
from wikigpt.corpus.wikitext import decode_entities, strip_html
from wikigpt.corpus.wikitext.marks import ANY_MARK
from wikigpt.corpus.wikitext.variants import Rules, resolve

# Brackets that a dropped template left empty, and their ragged edges: （）, （，又名…）.
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|（\s*）")
_BRACKET_START = re.compile(r"([(（])[\s,;:，；、：]{0,9}[,;，；、][\s,;，；、]{0,9}")
_BRACKET_END = re.compile(r"[,;，；、]\s{0,9}(?=[)）])")
_VARIANT = re.compile(r"-\{([^{}]{0,300})\}-")
_LINK = re.compile(r"\[\[([^\[\]|\n]{1,200})(?:\|([^\[\]\n]{0,400}))?\]\]")
_HEADING_ZH = re.compile(r"[^。，；！？：,;!?:]{1,25}\.")
_HEADING = re.compile(r"[^.,;!?:]{1,60}\.")
_PARAGRAPH = 60  # characters; a longer line that ends a sentence is a paragraph of its own
_LONE_HEADINGS = re.compile(r"(?:^|\n\n)## [^\n]*(?=\n\n## |\Z)")


def tidy(text: str, title: str, lang: str, variant: str | None = None) -> str:
    """Bring another extractor's text into our form.

    WikiExtractor and gensim write one paragraph a line and a heading as a line of its own that ends in a
    full stop; they leave brackets empty where they dropped a template, and now and then an entity, a tag or
    a `-{…}-` or a link. Others put empty lines between paragraphs already.
    """
    if "&" in text:
        text = decode_entities(text)
    if "<" in text:
        text = strip_html(text)
    if "-{" in text and lang == "zh":
        rules = Rules(variant)
        text = _VARIANT.sub(lambda match: ANY_MARK.sub("", resolve(match.group(1).split("|"), rules)), text)
    if "[[" in text:
        text = _LINK.sub(_without_link, text)
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


def _without_link(match: re.Match[str]) -> str:
    """What [[target|text]] shows; nothing for a file or a category."""
    prefix, colon, _ = match.group(1).partition(":")
    if colon and prefix.strip().lower() in FILE_NAMESPACES | CATEGORY_NAMESPACES:
        return ""
    return match.group(1) if match.group(2) is None else match.group(2)


def _unless_call(match: re.Match[str]) -> str:
    """Nothing for an empty bracket, except the one of f()."""
    before = match.string[match.start() - 1 : match.start()]
    return match.group() if before.isascii() and (before.isalnum() or before in "_.)]") and before else ""
