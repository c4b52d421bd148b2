"""Writes the sample wiki as two MediaWiki XML export dumps, one a language."""

import bz2
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from wikigpt.sample.compose import CATEGORY, Wiki, join
from wikigpt.sample.facts import LANGS, draw, read_kinds

SITE = {
    "en": {"sitename": "WikiGPT Sample", "dbname": "samplewiki_en", "main": "Main_Page"},
    "zh": {"sitename": "WikiGPT样例百科", "dbname": "samplewiki_zh", "main": "Wikipedia:首页"},
}
NAMESPACES = {
    "en": {-2: "Media", -1: "Special", 0: "", 1: "Talk", 2: "User", 3: "User talk", 4: "WikiGPT Sample",
           5: "WikiGPT Sample talk", 6: "File", 7: "File talk", 8: "MediaWiki", 9: "MediaWiki talk", 10: "Template",
           11: "Template talk", 12: "Help", 13: "Help talk", 14: "Category", 15: "Category talk"},
    "zh": {-2: "媒体", -1: "特殊", 0: "", 1: "讨论", 2: "用户", 3: "用户讨论", 4: "WikiGPT样例百科",
           5: "WikiGPT样例百科讨论", 6: "文件", 7: "文件讨论", 8: "MediaWiki", 9: "MediaWiki讨论", 10: "模板",
           11: "模板讨论", 12: "帮助", 13: "帮助讨论", 14: "分类", 15: "分类讨论"},
}  # fmt: skip
TEMPLATE = {"en": "Template", "zh": "模板"}
REDIRECT = {"en": "#REDIRECT", "zh": "#重定向"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the dump holds it."""

    title: str
    namespace: int
    text: str
    redirect: str = ""


def write_dumps(folder: Path) -> list[Path]:
    """Writes `samplewiki-zh.xml.bz2` and `samplewiki-en.xml.bz2` into `folder`, which is made if need be.

    The files are the same, byte for byte, each time; a page depends on its own facts alone, so that a new
    row in a table changes only the pages which name it.

    Returns:
        The paths of the two dumps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wiki = Wiki(read_kinds())
    paths = []
    for lang in LANGS:
        path = folder / f"samplewiki-{lang}.xml.bz2"
        path.write_bytes(bz2.compress("".join(export(wiki, lang)).encode("utf-8")))
        paths.append(path)
    return paths


def export(wiki: Wiki, lang: str) -> Iterator[str]:
    """The dump of one language as pieces of XML (export format 0.11)."""
    yield (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation='
        '"http://www.mediawiki.org/xml/export-0.11/ http://www.mediawiki.org/xml/export-0.11.xsd"'
        f' version="0.11" xml:lang="{lang}">\n'
    )
    yield _siteinfo(lang)
    for page in pages(wiki, lang):
        yield _page(page, lang)
    yield "</mediawiki>\n"


def pages(wiki: Wiki, lang: str) -> Iterator[Page]:
    """All pages of one language: articles, redirects, disambiguation, templates, categories, about."""
    categories: dict[str, set[str]] = defaultdict(set)
    for entry in wiki.entries:
        article = wiki.article(entry, lang)
        for category in article.categories:
            categories[category].add(wiki.edition(entry, lang).label)
        yield Page(article.title, 0, article.wikitext)
    for name, target in wiki.redirects[lang].items():
        title = target.title(lang)
        yield Page(name, 0, f"{REDIRECT[lang]} [[{title}]]", redirect=title)
    for name, entries in wiki.ambiguous[lang].items():
        lines = [f"* [[{entry.title(lang)}]]{_gloss(wiki.edition(entry, lang).label, lang)}" for entry in entries]
        base = name.removesuffix(" (disambiguation)").removesuffix(" (消歧义)")
        intro = {"en": f"'''{base}''' may refer to:", "zh": f"'''{base}'''可以指："}[lang]
        yield Page(name, 0, "\n".join([intro, *lines, "", {"en": "{{disambiguation}}", "zh": "{{消歧义}}"}[lang]]))
    for name, text in _templates(wiki, lang).items():
        yield Page(f"{TEMPLATE[lang]}:{name}", 10, text)
    for name, labels in categories.items():
        things = join(sorted(labels), lang)
        about = {"en": f"Articles on: {things}.", "zh": f"收录关于{things}的条目。"}[lang]
        parent = {"en": "Contents", "zh": "页面分类"}[lang]
        yield Page(f"{CATEGORY[lang]}:{name}", 14, f"{about}\n\n[[{CATEGORY[lang]}:{parent}]]")
    yield Page(f"{NAMESPACES[lang][4]}:{ {'en': 'About', 'zh': '关于'}[lang] }", 4, _about(wiki, lang))


def _gloss(label: str, lang: str) -> str:
    return f", {label}" if lang == "en" else f"，{label}"


def _templates(wiki: Wiki, lang: str) -> dict[str, str]:
    """A few template pages, as short as a sample may have them."""
    texts = {
        "Reflist": "<references />",
        "Cite web": "[{{{url}}} {{{title}}}]. {{{publisher|}}}.",
        "Lang": '<span lang="{{{1}}}">{{{2}}}</span>',
        "Nowrap": '<span style="white-space:nowrap">{{{1}}}</span>',
        "Circa": "c. {{{1|}}}",
        "Convert": "{{#invoke:convert|convert}}",
    }
    for kind in wiki.kinds.values():
        edition = kind.editions[lang]
        rows = "\n".join(f"|-\n! {key}\n| {{{{{{{key}|}}}}}}" for key, _ in edition.fields)
        texts[edition.infobox] = f'{{| class="infobox"\n{rows}\n|}}<noinclude>{edition.label}</noinclude>'
    return texts


def _about(wiki: Wiki, lang: str) -> str:
    """Where the facts come from, kind by kind."""
    intro = {
        "en": "An original mini-encyclopedia composed for WikiGPT. The text is under the Apache License 2.0; facts:",
        "zh": "为WikiGPT编写的原创小型百科。文字采用Apache许可证2.0；事实来源：",
    }
    rows = [f"|-\n| {k.editions[lang].label} || {k.source} || {k.licence}" for k in wiki.kinds.values()]
    return "\n".join([intro[lang], '{| class="wikitable"', *rows, "|}"])


def _siteinfo(lang: str) -> str:
    site = SITE[lang]
    namespaces = "".join(
        f'      <namespace key="{key}" case="first-letter"' + (f">{name}</namespace>\n" if name else " />\n")
        for key, name in NAMESPACES[lang].items()
    )
    return (
        "  <siteinfo>\n"
        f"    <sitename>{site['sitename']}</sitename>\n"
        f"    <dbname>{site['dbname']}</dbname>\n"
        f"    <base>https://{lang}.sample.wikigpt.org/wiki/{site['main']}</base>\n"
        "    <generator>MediaWiki 1.44.0</generator>\n"
        "    <case>first-letter</case>\n"
        f"    <namespaces>\n{namespaces}    </namespaces>\n"
        "  </siteinfo>\n"
    )


def _page(page: Page, lang: str) -> str:
    seed = f"{lang}/{page.namespace}/{page.title}"
    # Identifiers come from the title, not from the place in the file, so that they never move.
    number, revision = 1 + draw("page/" + seed, 1 << 31), 1 + draw("revision/" + seed + page.text, 1 << 31)
    day, second = draw("day/" + seed, 60), draw("time/" + seed, 86_400)
    timestamp = (
        f"2026-{1 + day // 28:02}-{1 + day % 28:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
    )
    redirect = f'    <redirect title="{escape(page.redirect, {chr(34): "&quot;"})}" />\n' if page.redirect else ""
    text = page.text.encode("utf-8")
    sha1 = _base36(int(hashlib.sha1(text, usedforsecurity=False).hexdigest(), 16)).zfill(31)
    return (
        "  <page>\n"
        f"    <title>{escape(page.title)}</title>\n"
        f"    <ns>{page.namespace}</ns>\n"
        f"    <id>{number}</id>\n"
        f"{redirect}"
        "    <revision>\n"
        f"      <id>{revision}</id>\n"
        f"      <timestamp>{timestamp}</timestamp>\n"
        "      <contributor>\n        <username>Sample writer</username>\n        <id>1</id>\n      </contributor>\n"
        "      <model>wikitext</model>\n"
        "      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(text)}" sha1="{sha1}" xml:space="preserve">{escape(page.text)}</text>\n'
        f"      <sha1>{sha1}</sha1>\n"
        "    </revision>\n"
        "  </page>\n"
    )


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
