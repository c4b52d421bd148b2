"""Checks of the sample wiki's data: what a writer of tables and kind files gets wrong most easily."""

import re
from collections.abc import Iterator

from wikigpt.sample.compose import Wiki, Writer
from wikigpt.sample.facts import LANGS, Edition, Kind, base_name

_LEAST_PHRASINGS = 4
_LENGTH = {"en": (38, 230), "zh": (70, 420)}
_REPLACEMENTS = (
    (re.compile(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>", re.DOTALL), ""),
    (re.compile(r"\{\{formatnum:(-?\d+)(\.\d+)?\}\}"), lambda m: f"{int(m[1]):,}{m[2] or ''}"),
    (re.compile(r"\{\{convert\|(-?\d+)(\.\d+)?\|(\w+)[^}]*\}\}"), lambda m: f"{int(m[1]):,}{m[2] or ''} {m[3]}"),
    (re.compile(r"\{\{circa\}\}"), "c."),
    (re.compile(r"\{\{(?:lang\|[^|}]*|nowrap)\|([^{}]*)\}\}"), r"\1"),
    (re.compile(r"-\{(?:A\|)?(?:zh-hans:([^;}]*);[^}]*|([^}]*))\}-"), lambda m: m[1] or m[2]),
    (re.compile(r"\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]"), r"\1"),
    (re.compile(r"<[^>]+>|'''?"), ""),
)


def plain(wikitext: str) -> str:
    """The text that a reader sees, for the little markup that the sample wiki's own sentences hold."""
    for pattern, replacement in _REPLACEMENTS:
        wikitext = pattern.sub(replacement, wikitext)
    return wikitext


def prose(writer: Writer) -> str:
    """The sentences of an article as plain text: without infobox, table, lists and headings."""
    paragraphs = [writer.paragraph(section) for section in (writer.edition.lead, *writer.edition.sections)]
    return plain("\n\n".join(filter(None, paragraphs)))


def problems(wiki: Wiki, only: str = "") -> Iterator[str]:
    """One line for each problem, of all kinds or of one.

    Raises:
        ValueError: a phrasing names a column that the table lacks.
    """
    for kind in wiki.kinds.values():
        if only in ("", kind.name):
            for lang, edition in kind.editions.items():
                yield from _phrasings(kind, edition, lang)
            for entry in kind.entries:
                for lang in LANGS:
                    try:
                        yield from _article(Writer(wiki, entry, lang))
                    except KeyError as error:
                        raise ValueError(f"{kind.name} [{lang}]: unknown column or format {error}") from error


def _phrasings(kind: Kind, edition: Edition, lang: str) -> Iterator[str]:
    for section in (edition.lead, *edition.sections):
        for group in section.groups:
            if all(re.fullmatch(r"\{\w+\}", text) for text in group.say):
                continue  # a sentence of its own for each article, written out in the table
            where = f"{kind.name} [{lang}]: {group.say[0]!r}"
            if len(set(group.say)) < _LEAST_PHRASINGS:
                yield f"{where}: {len(set(group.say))} phrasings, {_LEAST_PHRASINGS} needed"
            for text in group.say:
                end = ".!?" if lang == "en" else "。！？"
                if text[-1] not in end:
                    yield f"{where}: no full stop at the end of {text!r}"
                if lang == "zh" and re.search(r"[一-鿿][,;:?!(]|[,;:?!)][一-鿿]", re.sub(r"\{[^{}]*\}", "字", text)):
                    yield f"{where}: half-width punctuation in {text!r}"


def _article(writer: Writer) -> Iterator[str]:
    where = f"{writer.entry.id} [{writer.lang}]"
    text = prose(writer)
    length = len(text.split()) if writer.lang == "en" else len(text)
    least, most = _LENGTH[writer.lang]
    if not least <= length <= most:
        yield f"{where}: {length} {'words' if writer.lang == 'en' else 'characters'}, wanted {least} to {most}"
    if writer.entry.name(writer.lang).casefold() not in text.casefold():
        yield f"{where}: the text does not name {writer.entry.name(writer.lang)!r}"
    for key, value in writer.facts():
        # A unit behind the number may be written differently in the text ({{convert}}).
        value = re.sub(r"(?<=\d)(?:平方千米|千米|米|°C|℃|千克)$", "", plain(value))
        if _bare(value) not in _bare(text):
            yield f"{where}: the text does not say {key} = {value!r}"
    if re.search(r"\{[a-z_]+\}|\.\.| {2}|，，|。。|、、|  ", text):
        yield f"{where}: odd characters in {text!r}"
    if (
        line := re.search(r"(?<![\w'’.-])(a (?!eu|on[ec]|u)[aeio]\w|the the\b|an [^aeiouhxfmnlrs8A-Z])", text)
    ) and writer.lang == "en":
        yield f"{where}: odd article in {text[max(0, line.start() - 20) : line.end() + 20]!r}"


def summary(wiki: Wiki) -> Iterator[str]:
    """A line for each kind: number of entries and mean length in both languages."""
    for kind in wiki.kinds.values():
        lengths = {lang: [prose(Writer(wiki, entry, lang)) for entry in kind.entries] for lang in LANGS}
        words = sum(len(text.split()) for text in lengths["en"]) / max(1, len(kind.entries))
        characters = sum(map(len, lengths["zh"])) / max(1, len(kind.entries))
        yield f"{kind.name:14} {len(kind.entries):5}   {words:5.0f} words   {characters:5.0f} characters"
    yield f"{'total':14} {len(wiki.entries):5}"


def _bare(text: str) -> str:
    """Without case and without "the": "Gurmukhi and the Arabic script" says "Gurmukhi and Arabic script"."""
    return re.sub(r"\bthe ", "", text.casefold())


def find(wiki: Wiki, name: str) -> Iterator[Writer]:
    """Writers for the articles that `name` means: `KIND/KEY`, `KIND`, or a title."""
    for entry in wiki.entries:
        titles = {entry.title(lang) for lang in LANGS} | {base_name(entry.title(lang)) for lang in LANGS}
        if name in (entry.id, entry.kind) or name in titles:
            yield from (Writer(wiki, entry, lang) for lang in LANGS)
