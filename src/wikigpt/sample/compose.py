"""Composes the wikitext of the sample wiki's articles from fact tables and kind files.

Kinds are data, not code. A kind has two files:

`facts/KIND.tsv`: UTF-8, tab-separated, first line = column names, one row an article, empty cell = unknown.
    key                       lower-case ascii, unique in the kind; never changes, since it seeds every choice
    title_en, title_zh        page titles, unique over all kinds; a clash gets a parenthesis: `Mercury (planet)`
    noun_en                   optional: the name in running text with its article: `lion`, `the Netherlands`
    title_zh_hant             optional: the Traditional *wording* where it differs (新西兰 -> 紐西蘭)
    aliases_en, aliases_zh    optional: other names, `|`-separated; they become redirects
    …                         attributes: `capital_en` + `capital_zh` where the language matters, else `area_km2`
                              several values in a cell are `|`-separated and written "A, B and C" / "A、B和C"

`kinds/KIND.toml`: `name`, `source`, `licence`, optional `source_url`, and a table for each language:
    infobox                   name of the infobox template
    label                     what such a thing is called on a disambiguation page ("country")
    fields                    ["key = rendering", …]; a field whose column is empty is left out
    lead                      groups; a group is one fact in several phrasings: ["…", "…"] or
                              {say = ["…", "…"], needs = ["col", "!col", "col=value", "col!=value"]}
    [[LANG.section]]          `sentences` (groups) and optional `heading` (several, one is chosen)
    [[LANG.listing]]          optional list of entries of another `kind` whose column `where` names this
                              article; with `heading` and `intro` (several each)
    categories, redirects     optional lists of renderings
    see_also                  optional list of `{column:link}`: related articles, listed on some pages

A phrasing is usable if all columns that it names have a value; one of the usable ones is chosen by a hash of the
article's id. Placeholders are `{column}` or `{column:format:format…}`; besides the columns there are `{title}`,
`{name}` (title without parenthesis) and `{noun}`. Formats:
    link     [[Paris]] if there is such a page, else plain text (so there are no accidental red links)
    the      a link with the target's running-text name: the [[Netherlands]]
    num      {{formatnum:1234567}}                    big      68 million, 6800万
    convert:km2   {{convert|5|km2|sqmi}}              year     1869, 287 BC; 1869年, 公元前287年
    a        a noble gas, an alkali metal             plural:moon:moons    1 moon, 3 moons
    uc, lc   first letter upper, lower                words    0 to 20 in words
    nowrap   {{nowrap|…}}                             lang:fr  {{lang|fr|…}}; `lang` alone reads column `x_lang`
    count:language is:languages are                   the first if the cell holds one value, else the second
Refs, comments, tables, thumbnails, categories and interlanguage links are added here.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from wikigpt.sample.facts import LANGS, Edition, Entry, Group, Kind, Section, base_name, choose, draw, first_upper

FILE = {"en": "File", "zh": "文件"}
CATEGORY = {"en": "Category", "zh": "分类"}
_PLACEHOLDER = re.compile(r"(?<!\{)\{([a-z_0-9]+)((?::[A-Za-z0-9_ ]*)*)\}")
# Bold, quotes and the opening of a link may stand before the first letter of a sentence.
_FIRST_LETTER = re.compile(r"^((?:'''?|\[\[(?:[^\]|]*\|)?|\"|-\{)*)([a-z])")
_NUMBER_WORDS = {
    "en": "zero,one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve,thirteen,fourteen,fifteen,sixteen,"
    "seventeen,eighteen,nineteen,twenty",
    "zh": "零,一,二,三,四,五,六,七,八,九,十,十一,十二,十三,十四,十五,十六,十七,十八,十九,二十",
}
_IMPERIAL = {"km2": "sqmi", "km": "mi", "m": "ft", "C": "F", "kg": "lb", "cm": "in"}


@dataclass(frozen=True, slots=True)
class Article:
    """A composed article."""

    entry: Entry
    lang: str
    title: str
    wikitext: str
    categories: tuple[str, ...]


class Wiki:
    """All entries of the sample wiki and the names by which pages link to them.

    Raises:
        ValueError: two entries have the same title.
    """

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self.entries = [entry for kind in self.kinds.values() for entry in kind.entries]
        self.titles: dict[str, dict[str, Entry]] = {lang: {} for lang in LANGS}
        self.redirects: dict[str, dict[str, Entry]] = {lang: {} for lang in LANGS}
        self.ambiguous: dict[str, dict[str, list[Entry]]] = {lang: {} for lang in LANGS}
        for lang in LANGS:
            self._name_pages(lang)

    def _name_pages(self, lang: str) -> None:
        titles = self.titles[lang]
        for entry in self.entries:
            if (other := titles.setdefault(entry.title(lang), entry)) is not entry:
                raise ValueError(f"{entry.id} and {other.id} have the same title {entry.title(lang)!r}")
        claims: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            names = [entry.name(lang), *entry.aliases(lang)]
            for template in self.edition(entry, lang).redirects:
                names += filter(None, [Writer(self, entry, lang).render(template)])
            for name in dict.fromkeys(map(first_upper, names)):
                if name != entry.title(lang):
                    claims[name].append(entry)
        suffix = {"en": " (disambiguation)", "zh": " (消歧义)"}[lang]
        for name, claimants in claims.items():
            claimants.sort(key=lambda entry: entry.id)
            if name in titles:  # the page of that title stays; both are listed on a page of their own
                self.ambiguous[lang][name + suffix] = [titles[name], *claimants]
            elif len(claimants) > 1:
                self.ambiguous[lang][name] = claimants
            else:
                self.redirects[lang][name] = claimants[0]

    def edition(self, entry: Entry, lang: str) -> Edition:
        return self.kinds[entry.kind].editions[lang]

    def find(self, name: str, lang: str) -> Entry | None:
        """The entry whose page or redirect is called `name`; None if there is none or it is ambiguous."""
        name = first_upper(name)
        return self.titles[lang].get(name) or self.redirects[lang].get(name)

    @cached_property
    def mentions(self) -> dict[tuple[str, str, str], list[Entry]]:
        """Entries by (kind, column, title they name there), for listings."""
        found: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
        for lang in LANGS:
            for kind in self.kinds.values():
                for listing in kind.editions[lang].listings:
                    for entry in self.kinds[listing.kind].entries if listing.kind in self.kinds else ():
                        if not entry.has(listing.where, lang):
                            continue
                        for name in entry.get(listing.where, lang).split("|"):
                            if entry not in found[listing.kind, listing.where, name]:
                                found[listing.kind, listing.where, name].append(entry)
        return found

    def article(self, entry: Entry, lang: str) -> Article:
        """The article of `entry` in `lang`."""
        return Writer(self, entry, lang).article()


class Writer:
    """Writes the article of one entry in one language."""

    def __init__(self, wiki: Wiki, entry: Entry, lang: str) -> None:
        self.wiki = wiki
        self.entry = entry
        self.lang = lang
        self.edition = wiki.edition(entry, lang)
        self.title = entry.title(lang)

    def seed(self, slot: str) -> str:
        return f"{self.entry.id}/{self.lang}/{slot}"

    def chance(self, slot: str, one_in: int) -> bool:
        return draw(self.seed(slot), one_in) == 0

    def value(self, column: str) -> str:
        """The cell behind a placeholder; KeyError if there is no such column."""
        match column:
            case "title":
                return self.title
            case "name":
                return self.entry.name(self.lang)
            case "noun":
                return self.entry.noun(self.lang)
        return self.entry.get(column, self.lang)

    def usable(self, template: str) -> bool:
        """Whether every placeholder of `template` has a value."""
        return all(self.value(column) for column, _ in _PLACEHOLDER.findall(template))

    def render(self, template: str) -> str | None:
        """`template` with its placeholders filled in, or None if one of them has no value."""
        if not self.usable(template):
            return None
        return _PLACEHOLDER.sub(lambda m: self._fill(m[1], m[2].split(":")[1:]), template)

    def _fill(self, column: str, formats: list[str]) -> str:
        if formats == ["lang"]:
            formats = ["lang", self.value(f"{column}_lang")]
        if formats[:1] == ["count"]:
            return formats[1] if "|" not in self.value(column) else formats[2]
        # Names are not lists: a title may hold any character.
        cell = self.value(column)
        items = [cell] if column in ("title", "name", "noun") else cell.split("|")
        shown = []
        for item in items:
            rest = formats[:] or ["plain"]
            while rest:
                format_, arguments = _FORMATS[rest.pop(0)]
                item = format_(self, item, *(rest.pop(0) for _ in range(arguments)))
            shown.append(item)
        return join(shown, self.lang)

    def link(self, name: str, noun: bool = False) -> str:
        """A link to the page called `name`, or its plain name if there is no such page (or it is this one)."""
        target = self.wiki.find(name, self.lang)
        shown = base_name(name) if target else name
        if target is None or target is self.entry:
            return shown
        the = ""
        if noun and (running := target.noun(self.lang)).startswith("the "):
            the, shown = "the ", running.removeprefix("the ")
        title = target.title(self.lang) if first_upper(name) in self.wiki.titles[self.lang] else first_upper(name)
        hant = target.row.get("title_zh_hant") if self.lang == "zh" and shown == target.name("zh") else None
        if hant and self.chance(f"variant/{name}", 2):
            shown = f"-{{zh-hans:{shown};zh-hant:{base_name(hant)}}}-"
        return f"{the}[[{shown}]]" if first_upper(shown) == title else f"{the}[[{title}|{shown}]]"

    def holds(self, need: str) -> bool:
        """Whether a condition of a group (`col`, `!col`, `col=value`, `col!=value`) holds."""
        if "!=" in need:
            column, _, value = need.partition("!=")
            return self.value(column) != value
        if "=" in need:
            column, _, value = need.partition("=")
            return self.value(column) == value
        return not self.value(need[1:]) if need.startswith("!") else bool(self.value(need))

    def sentence(self, group: Group) -> str | None:
        """One phrasing of a fact, or None if the facts that it needs are unknown."""
        if not all(map(self.holds, group.needs)):
            return None
        usable = [template for template in group.say if self.usable(template)]
        if not usable:
            return None
        text = self.render(choose(self.seed(group.say[0]), usable)) or ""
        if self.lang == "zh":
            return text
        text = re.sub(r"\.(\]\])?\.$", r".\1", text)  # "Washington, D.C." needs no second full stop
        return _FIRST_LETTER.sub(lambda m: m[1] + m[2].upper(), text)

    def paragraph(self, section: Section) -> str:
        """The sentences of a section; the first one of the article names the source, some others repeat it."""
        sentences = [text for text in map(self.sentence, section.groups) if text]
        lead = section is self.edition.lead
        cited = [
            text + (self.citation() if lead and number == 0 else self.reference(text))
            for number, text in enumerate(sentences)
        ]
        return (" " if self.lang == "en" else "").join(cited)

    def reference(self, sentence: str) -> str:
        """A footnote behind some sentences."""
        if self.chance("ref/" + sentence, 4):
            return '<ref name="facts" />'
        if "formatnum" in sentence and self.chance("note/" + sentence, 4):
            note = {"en": "Figures are rounded.", "zh": "数字已取整。"}[self.lang]
            return f'<ref group="note">{note}</ref>'
        return ""

    def article(self) -> Article:
        """The whole page."""
        categories = tuple(first_upper(base_name(name)) for name in map(self.render, self.edition.categories) if name)
        parts = [
            *self.top(),
            self.infobox(),
            *self.thumbnail(),
            *self.body(),
            *self.listings(),
            *self.see_also(),
            *self.bottom(categories),
        ]
        wikitext = unicodedata.normalize("NFC", "\n".join(parts))
        return Article(self.entry, self.lang, self.title, wikitext, categories)

    def top(self) -> list[str]:
        """Templates at the head of the page."""
        lines = []
        if self.title != self.entry.name(self.lang) and self.entry.name(self.lang) in self.wiki.ambiguous[self.lang]:
            lines.append({"en": "{{Other uses|%s}}", "zh": "{{消歧义连结|%s}}"}[self.lang] % self.entry.name(self.lang))
        if self.lang == "en" and self.chance("dates", 4):
            lines.append("{{Use dmy dates|date=March 2026}}")
        if self.lang == "zh" and (hant := self.entry.row.get("title_zh_hant")):
            lines.append(f"{{{{NoteTA|1=zh-hans:{self.entry.name('zh')};zh-hant:{base_name(hant)};}}}}")
        return lines

    def facts(self) -> list[tuple[str, str]]:
        """The infobox: keys and wikitext values."""
        rendered = ((key, self.render(value)) for key, value in self.edition.fields)
        return [(key, value) for key, value in rendered if value]

    def infobox(self) -> str:
        name = {"en": "name", "zh": "名称"}[self.lang]
        width = max((len(key) for key, _ in self.facts()), default=0) if self.lang == "en" else 0
        lines = [
            f"| {key.ljust(width)} = {value}" for key, value in [(name, self.entry.name(self.lang)), *self.facts()]
        ]
        if self.chance("comment", 5):
            comment = {"en": "Please keep the values as the source gives them.", "zh": "数值请与来源保持一致。"}
            lines.append(f"<!-- {comment[self.lang]} -->")
        return "\n".join([f"{{{{{self.edition.infobox}", *lines, "}}"])

    def thumbnail(self) -> list[str]:
        if not self.chance("thumbnail", 5):
            return []
        picture = f"{self.entry.kind}-{self.entry.key}.svg"
        if self.lang == "en":
            return [f"[[File:{picture}|thumb|upright=1.2|alt=A drawing|A drawing of '''{self.entry.noun('en')}''']]"]
        return [f"[[文件:{picture}|缩略图|右|'''{self.entry.name('zh')}'''示意图]]"]

    def body(self) -> list[str]:
        """Lead, sections, and on some pages a table."""
        blocks = [self.lead()]
        for section in self.edition.sections:
            if paragraph := self.paragraph(section):
                if section.heading:
                    heading = choose(self.seed("heading/" + section.heading[0]), section.heading)
                    paragraph = f"== {heading} ==\n{paragraph}"
                blocks.append(paragraph)
        return ["\n\n".join([*blocks, *self.table()]), ""]

    def lead(self) -> str:
        """The first paragraph, with the name in both variants of Chinese where they differ."""
        lead = self.paragraph(self.edition.lead)
        if self.lang == "zh" and (hant := self.entry.row.get("title_zh_hant")):
            rule = "A|" if self.chance("rule", 2) else ""
            variants = f"-{{{rule}zh-hans:{self.entry.name('zh')};zh-hant:{base_name(hant)}}}-"
            lead = lead.replace(f"'''{self.entry.name('zh')}'''", f"'''{variants}'''", 1)
        return lead

    def citation(self) -> str:
        kind = self.wiki.kinds[self.entry.kind]
        publisher, date = kind.source.partition(";")[0], f"2026-03-{1 + draw(self.seed('day'), 28):02}"
        return (
            f'<ref name="facts">{{{{cite web |title={self.title} |url={kind.source_url} '
            f"|publisher={publisher} |access-date={date}}}}}</ref>"
        )

    def table(self) -> list[str]:
        if not self.chance("table", 4):
            return []
        caption = {"en": "At a glance", "zh": "概览"}[self.lang]
        rows = [f"|-\n! {key.replace('_', ' ')}\n| {value}" for key, value in self.facts()]
        return ["\n".join(['{| class="wikitable"', f"|+ {caption}", *rows, "|}"])]

    def listings(self) -> list[str]:
        blocks = []
        for listing in self.edition.listings:
            found = self.wiki.mentions.get((listing.kind, listing.where, self.title), [])
            titles = sorted(entry.title(self.lang) for entry in found if entry is not self.entry)
            if len(titles) >= 3:
                shown = sorted(sorted(titles, key=lambda title: draw(self.seed("list/" + title), 1 << 30))[:8])
                intro = self.render(choose(self.seed("intro/" + listing.kind), listing.intro)) or ""
                intro = _FIRST_LETTER.sub(lambda m: m[1] + m[2].upper(), intro)
                blocks += [f"== {choose(self.seed('list/' + listing.kind), listing.heading)} ==", intro]
                blocks += [f"* {self.link(title)}" for title in shown]
                blocks.append("")
        return blocks

    def see_also(self) -> list[str]:
        if not self.chance("see also", 2):
            return []
        columns = [column for template in self.edition.see_also for column, _ in _PLACEHOLDER.findall(template)]
        names = [name for column in columns for name in self.value(column).split("|")]
        links = [text for text in dict.fromkeys(map(self.link, names)) if text.startswith("[[")][:5]
        if not links:
            return []
        return [{"en": "== See also ==", "zh": "== 参见 =="}[self.lang], *(f"* {text}" for text in links), ""]

    def bottom(self, categories: tuple[str, ...]) -> list[str]:
        """References, categories and the link to the other language."""
        other = "en" if self.lang == "zh" else "zh"
        return [
            {"en": "== References ==", "zh": "== 参考资料 =="}[self.lang],
            "{{Reflist}}",
            "",
            *([f"{{{{DEFAULTSORT:{self.title}}}}}"] if self.lang == "en" and self.chance("sort", 3) else []),
            *(f"[[{CATEGORY[self.lang]}:{name}]]" for name in categories),
            f"[[{other}:{self.entry.title(other)}]]",
        ]


def join(items: list[str], lang: str) -> str:
    """A list as running text: "A, B and C" / "A、B和C"."""
    if len(items) == 1:
        return items[0]
    comma, last = (", ", " and ") if lang == "en" else ("、", "和")
    return comma.join(items[:-1]) + last + items[-1]


def big(number: str, lang: str) -> str:
    """A large number as people say it: "68 million", "1.41 billion", "540,000" / "6800万", "14.1亿", "54万"."""
    value = float(number)
    steps = ((1e9, " billion"), (1e6, " million")) if lang == "en" else ((1e8, "亿"), (1e4, "万"))
    for step, word in steps:
        if value >= step:
            return f"{value / step:.6g}{word}"
    return f"{value:,.0f}" if lang == "en" else f"{value:.0f}"


def year(number: str, lang: str) -> str:
    """A year as people write it: "1869", "287 BC" / "1869年", "公元前287年"."""
    if number.startswith("-"):
        return f"{number[1:]} BC" if lang == "en" else f"公元前{number[1:]}年"
    return number if lang == "en" else f"{number}年"


def article_a(text: str) -> str:
    """`text` behind "a" or "an"."""
    spoken = re.sub(r"^[\['\"]*(?:[^\]|]*\|)?", "", text).lower()
    an = re.match(r"[aeiou]|8|11\b|18\b|hour|heir|honest", spoken) and not re.match(r"uni|eu|one\b|use|uk", spoken)
    return f"an {text}" if an else f"a {text}"


def _inner(change: Callable[[str], str]) -> Callable[..., str]:
    """Applies `change` to the first visible letter: behind `[[` or `[[target|`."""

    def apply(writer: Writer, text: str) -> str:
        if writer.lang != "en":
            return text
        return re.sub(r"^(\[\[(?:[^\]|]*\|)?)?(.)", lambda m: (m[1] or "") + change(m[2]), text, count=1)

    return apply


def _plain(writer: Writer, text: str) -> str:
    return base_name(text) if text in writer.wiki.titles[writer.lang] else text


def _convert(writer: Writer, text: str, unit: str) -> str:
    second = f"|{_IMPERIAL[unit]}" if writer.lang == "en" and unit in _IMPERIAL else ""
    short = "|abbr=on" if writer.chance("abbr", 2) else ""
    return f"{{{{convert|{text}|{unit}{second}{short}}}}}"


_FORMATS: dict[str, tuple[Callable[..., str], int]] = {
    "plain": (_plain, 0),
    "link": (lambda w, text: w.link(text), 0),
    "the": (lambda w, text: w.link(text, noun=True), 0),
    "num": (lambda w, text: f"{{{{formatnum:{text}}}}}", 0),
    "big": (lambda w, text: big(text, w.lang), 0),
    "convert": (_convert, 1),
    "year": (lambda w, text: year(text, w.lang), 0),
    "a": (lambda w, text: article_a(text) if w.lang == "en" else text, 0),
    "uc": (_inner(str.upper), 0),
    "lc": (_inner(str.lower), 0),
    "plural": (lambda w, text, one, many: f"{text} {one if text == '1' else many}", 2),
    "words": (lambda w, text: _NUMBER_WORDS[w.lang].split(",")[int(text)] if int(text) <= 20 else text, 0),
    "nowrap": (lambda w, text: f"{{{{nowrap|{text}}}}}", 0),
    "lang": (lambda w, text, code: f"{{{{lang|{code}|{text}}}}}", 1),
}
