"""Relations: what infobox facts mean, and the phrasings with which people ask for them (`relations.toml`)."""

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wikigpt.corpus.document import Document
from wikigpt.instruct.wording import find_value, is_list

Type = Literal["entity", "person", "number", "year", "text", "code"]

MAX_VALUE = 60
"""Longest value, in characters, that still is a fact and not a text."""

_MARKUP = re.compile(r"[\[\]{}|<>=*#_\\\n]|https?:|www\.|\.(?:svg|jpe?g|png)\b", re.IGNORECASE)
_NOTE = re.compile(r"\s*(?:[(（][^()（）]*[)）]|\[[^\[\]]{1,12}\])")
_NOTHING = frozenset(
    {"", "n/a", "none", "unknown", "-", "–", "—", "?", "无", "未知", "不明", "tba", "tbd", "yes", "no", "various"}
)
_YEAR_EN = re.compile(r"(?:(?:AD|CE) )?\b(\d{1,4}) ?(BCE?)\b|\b(\d{4})\b|\b(\d{3})\b")
_YEAR_ZH = re.compile(r"(公元前|西元前|前)\s?(\d{1,4})年?|(\d{3,4})\s?年|(?<!\d)(\d{4})(?!\d)|^(\d{1,4})年?$")
_NUMBER = re.compile(r"^(?:约|about |approximately |[~≈])?\s?([+−-]?\d[\d,.\u00a0\u202f ]*)(.{0,24})$")
_VERB = re.compile(r" (?:is|was|are|were) |[是为為]")
_NO_PERSON = re.compile(
    r"\b(?:wars?|battle|conflict|campaign|siege|period|dynasty|era|movement|treaty|series|film|album|festival|revolution|empire"
    r"|kingdom|state|republic|expedition|party|newspaper|magazine|league|election|hymn|novel|ship|company|band|country|city)\b"
    r"|战争|戰爭|战役|戰役|王朝|时期|時期|政权|政權|帝国|帝國|国家|國家|条约|條約|运动|運動|电影|電影|专辑|專輯|报纸|公司|乐团|樂團|城市"
)
_POINTS = re.compile(r"[该該其此本列全的]|一[个個座条條]|(?:the|this|that|its) |.*(?:他们|他們|自己|多[名位人])")
# How a sentence begins whose subject is that of the article; Chinese ones leave it out, English ones do not.
_SUBJECT_EN = re.compile(r"(?:It|Its|He|His|She|Her|The [a-z]+(?: [a-z]+)?|This [a-z]+)\b")
_SUBJECT_ZH = re.compile(
    r"[它牠他她该該其本\d]|全[长長]|人口|面[积積]|海拔|位[于於]|坐落|[总總]部|成立|[创創]立|建立|出生|生[于於]|首都|由"
)
_KEY_EN = re.compile(r"[a-z][a-z_ -]{2,24}")
_KEY_ZH = re.compile(r"[\u4e00-\u9fff]{2,8}")
# Keys that say something about the page rather than about its subject.
_KEY_STOP = re.compile(
    r"\b(?:mi|km|on|in|by|at|of|for|to|year|rank|change|estimate|nominal|ppp|gini|hdi|dst|offset|magnitude|event)\b|name|title|image|caption|logo|map|width|size|colou?r|footnote|note|coord|website|url|homepage|flag|seal|map|align|alt|type|style"
    r"|native|label|ref|date|latitude|longitude|label|module|embed|link|signature|header|border|color|background"
    r"|名|图|圖|网站|網站|网址|標題|标题|颜色|顏色|注|坐标|座標|地圖|地图|官网|備註|备注|大小|说明|說明|經度|緯度|日期"
)


class Phrases(BaseModel):
    """How one relation is put into words in one language; the fields are explained in `relations.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noun: str
    nouns: str = ""
    np: str = ""
    what: str = "What is"
    unit: str = ""
    frames: bool = True
    ask: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    inverse: tuple[str, ...] = ()


class Condition(BaseModel):
    """Of which relations an article must have all, at least one, none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    has: tuple[str, ...] = Field((), alias="with")
    any: tuple[str, ...] = ()
    lacks: tuple[str, ...] = Field((), alias="without")

    def holds(self, ids: set[str]) -> bool:
        """Whether an article with the relations `ids` meets the condition."""
        some = not self.any or not ids.isdisjoint(self.any)
        return some and ids.issuperset(self.has) and ids.isdisjoint(self.lacks)


class Relation(BaseModel):
    """A relation between an article and a value, as "capital"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    type: Type
    core: bool = False
    person: bool = False
    many: bool = False
    when: Condition = Condition()
    keys: dict[str, tuple[str, ...]] = {}
    patterns: dict[str, tuple[str, ...]] = {}
    lead: dict[str, tuple[str, ...]] = {}
    en: Phrases
    zh: Phrases
    variant: int = 0  # which of the entries with this id

    def phrases(self, lang: str) -> Phrases:
        """The wording in `lang` ("en" or "zh")."""
        return self.zh if lang == "zh" else self.en


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an article says about its subject, clean enough to be asked for."""

    relation: Relation
    value: str
    unit: str = ""
    core: bool = False
    key: str = ""  # the infobox's own key; empty if the fact was read from the lead


class Catalogue:
    """All relations, and the frames in which every one of them can be asked for."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.frames: dict[str, dict[str, list[str]]] = data["frames"]
        seen: dict[str, int] = {}
        self.relations: list[Relation] = []
        for entry in data["relation"]:
            variant = seen[entry["id"]] = seen.get(entry["id"], -1) + 1
            self.relations.append(Relation(**entry, variant=variant))
        self._questions: dict[tuple[str, int, str, str], tuple[str, ...]] = {}

    @cached_property
    def by_key(self) -> dict[str, dict[str, list[Relation]]]:
        """Language -> infobox key (see `plain_key`) -> the relations that it may mean, in order."""
        table: dict[str, dict[str, list[Relation]]] = {}
        for relation in self.relations:
            for lang, keys in relation.keys.items():
                for key in dict.fromkeys(map(plain_key, keys)):
                    table.setdefault(lang, {}).setdefault(key, []).append(relation)
        return table

    @cached_property
    def _patterns(self) -> dict[str, list[tuple[Relation, re.Pattern[str], bool]]]:
        """Language -> relation, pattern, and whether it is only for pages without an infobox."""
        table: dict[str, list[tuple[Relation, re.Pattern[str], bool]]] = {}
        for only_bare, kind in ((False, "patterns"), (True, "lead")):
            for relation in self.relations:
                for lang, patterns in getattr(relation, kind).items():
                    table.setdefault(lang, []).extend((relation, re.compile(p), only_bare) for p in patterns)
        return table

    def questions(self, relation: Relation, lang: str, use: Literal["train", "heldout"]) -> tuple[str, ...]:
        """All phrasings of the question for `relation`, its own before those of the frames."""
        key = (relation.id, relation.variant, lang, use)
        if key not in self._questions:
            phrases = relation.phrases(lang)
            own = phrases.ask if use == "train" else phrases.heldout
            frames = self.frames[lang][use] if phrases.frames and phrases.what else ()
            self._questions[key] = tuple(dict.fromkeys(with_noun(text, phrases, lang) for text in (*own, *frames)))
        return self._questions[key]

    def question(self, relation: Relation, lang: str, use: Literal["train", "heldout"], rng: Random) -> str:
        """Draw a phrasing of the question for `relation`.

        In training as often one of its own as one that fits every relation, and of the latter half are put together
        out of an opening and a closing: what is asked is to be told from the words for it, whatever stands around.
        """
        phrases, frames = relation.phrases(lang), self.frames[lang]
        if use == "heldout" or not phrases.frames or not phrases.what:
            return rng.choice(self.questions(relation, lang, use))
        if phrases.ask and rng.random() < 0.5:
            text = rng.choice(phrases.ask)
        elif rng.random() < 0.5:
            text = rng.choice(frames["train"])
        else:
            owned = "{owner} {noun}" if lang == "en" and not phrases.np and rng.random() < 0.3 else "{np}"
            text = rng.choice(frames["openings"]) + owned + rng.choice(frames["closings"])
        return with_noun(text, phrases, lang)

    def facts(self, document: Document, core: frozenset[str] | None = None) -> list[Fact]:
        """Return the facts of a document's infobox; without a usable infobox those that patterns find in its lead.

        `core`: ids of the relations that count as core; None takes those that are marked so.
        """
        meanings = self.by_key.get(document.lang, {})
        pairs = [(key, meanings.get(plain_key(key), []), value) for key, value in document.facts]
        ids = {relation.id for _, relations, _ in pairs for relation in relations}
        facts: dict[str, Fact] = {}
        for key, relations, value in pairs:
            relation = next((r for r in relations if r.when.holds(ids)), None)
            if relation and relation.id not in facts and (cleaned := clean_value(value, relation, key, document.lang)):
                facts[relation.id] = Fact(relation, *cleaned, is_core(relation, core), key)
        if len(facts) < 2:
            for relation, value in self._in_lead(document):
                if relation.id not in facts and (cleaned := clean_value(value, relation, "", document.lang)):
                    facts[relation.id] = Fact(relation, *cleaned, is_core(relation, core))
        return list(facts.values())

    def _in_lead(self, document: Document) -> Iterator[tuple[Relation, str]]:
        bare = not document.facts
        lead = document.text[:400]
        lead = lead.partition("\n#")[0] if bare else lead
        verb = _VERB.search(lead)
        for relation, pattern, only_bare in self._patterns.get(document.lang, []):
            match = pattern.search(lead) if bare or not only_bare else None
            if not match or _POINTS.match(match[1]):
                continue
            if bare and not _says_of_subject(relation, match, document):
                continue
            # A person's years stand behind the name; years behind the verb are of something else, as those of wars.
            if relation.person and relation.type == "year" and verb and match.start() > verb.start():
                continue
            if relation.person and verb and _NO_PERSON.search(lead[verb.start() : verb.start() + 60]):
                continue
            yield relation, match[1]

    @cached_property
    def kind(self) -> Relation:
        """The relation "is a": what a thing is, read from its first sentence."""
        return next(relation for relation in self.relations if relation.id == "kind")

    def unknown(self, key: str, lang: str) -> Relation:
        """Return a relation for an infobox key that has none of its own."""
        frames, name = self.frames[lang], key.replace("_", " ").strip().lower()
        named = {
            use: tuple(t.replace("{key}", name) for t in frames[f"unknown_{use}"])
            for use in ("train", "heldout", "answers")
        }
        words = Phrases(noun=name, frames=False, ask=named["train"], heldout=named["heldout"], answers=named["answers"])
        return Relation(id=name, type="text", en=words, zh=words)

    def wordings(self, lang: str) -> list[tuple[tuple[str, ...], tuple[str, ...], str]]:
        """Return for each relation its infobox keys, the texts that ask for it or state it, and its type.

        Held-out phrasings are not among them.
        """
        return [
            (
                relation.keys.get(lang, ()),
                (
                    relation.phrases(lang).noun,
                    *self.questions(relation, lang, "train"),
                    *relation.phrases(lang).answers,
                ),
                relation.type,
            )
            for relation in self.relations
            if relation.keys.get(lang)
        ]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The relations that come with the package."""
    return Catalogue(read_toml("relations.toml"))


def read_toml(name: str) -> dict[str, Any]:
    """Read one of this package's data files."""
    return tomllib.loads((files("wikigpt.instruct") / name).read_text(encoding="utf-8"))


def _says_of_subject(relation: Relation, match: re.Match[str], document: Document) -> bool:
    """Whether a lead that matches a pattern says it of what the article is about, and says something by it."""
    if relation.type in ("entity", "person") and find_value(match[1], document.title):
        return False  # "Aveiro, Portugal is in Portugal"
    if relation.person and relation.type == "year":
        return True  # these patterns fix the place themselves
    lead, start = match.string, match.start()
    begin = max(lead.rfind(end, 0, start) + len(end) for end in ("\n", ". ", "。", "! ", "？"))
    if begin < len("Dr. "):
        return True  # the first sentence
    subject, name = (
        (_SUBJECT_ZH, document.title[:2]) if document.lang == "zh" else (_SUBJECT_EN, document.title.partition(" ")[0])
    )
    return subject.match(lead, begin) is not None or lead.startswith(name, begin)


def with_noun(text: str, phrases: Phrases, lang: str) -> str:
    """Fill in what a question template takes from its relation; {title} and its forms stay."""
    zh = "{title}{noun}" if "的" in phrases.noun else "{title}的{noun}"
    np = phrases.np or (zh if lang == "zh" else "the {noun} of {title}")
    fields = {"np": np, "what": phrases.what, "noun": phrases.noun}
    for name, value in fields.items():
        text = text.replace("{" + name + "}", value)
    return text


def is_core(relation: Relation, core: frozenset[str] | None) -> bool:
    """Whether facts of `relation` are taught by heart."""
    return relation.core if core is None else relation.id in core


def plain_key(key: str) -> str:
    """Return an infobox key without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", key)).casefold()


def askable_key(key: str, lang: str) -> bool:
    """Whether a question about an unknown infobox key would read like language."""
    plain = key.replace("_", " ").strip().lower()
    return bool((_KEY_ZH if lang == "zh" else _KEY_EN).fullmatch(plain)) and not _KEY_STOP.search(plain)


def clean_value(value: str, relation: Relation, key: str, lang: str) -> tuple[str, str] | None:
    """Return an infobox value fit for a sentence, and the unit to be written behind it; None if it is not fit."""
    value = (
        _NOTE.sub("", re.sub(r"\s*\n\s*", "、" if lang == "zh" else ", ", value.strip()))
        .strip(" ,;、，；·")
        .rstrip(".。")
    )
    if not acceptable(value):
        return None
    if relation.type == "year":
        year = year_in(value, lang)
        return (year, "") if year else None
    if relation.type == "number":
        match = _NUMBER.match(value)
        if not match or ":" in value:
            return None
        unit = relation.phrases(lang).unit
        rest = match[2].strip()
        if not unit or rest or not _says_unit(key, lang):
            return value, ""
        return value, unit if lang == "zh" else f" {unit}"
    if relation.type in ("entity", "person"):
        several = is_list(value, lang)
        if not re.search(r"[^\W\d]", value) or "%" in value or (several and not relation.many and len(value) > 30):
            return None
        if not several and (len(value.split()) > 6 or value[0].isdigit()):  # a remark rather than a name
            return None
        return value, ""
    if (relation.type == "code" and len(value) > 24) or (relation.type == "text" and "%" in value):
        return None
    return value, ""


def acceptable(value: str) -> bool:
    """Whether a value is short, free of markup, and says something."""
    return 0 < len(value) <= MAX_VALUE and not _MARKUP.search(value) and value.casefold() not in _NOTHING


def year_in(value: str, lang: str) -> str:
    """Return the first year in `value` as people write it ("1643", "551 BC"; "1643年", "公元前551年"), or ""."""
    if lang == "zh":
        if match := _YEAR_ZH.search(value):
            before, old, *others = match.groups()
            return f"公元前{old}年" if before else f"{next(filter(None, others))}年"
        return ""
    if match := _YEAR_EN.search(value):
        old, _, four, three = match.groups()
        return f"{old} BC" if old else four or three
    return value if value.isdigit() and len(value) <= 4 else ""


def _says_unit(key: str, lang: str) -> bool:
    """Whether the key fixes the unit (`area_km2`); in Chinese infoboxes of bare numbers it is the metric one."""
    return lang == "zh" or bool(re.search(r"[\s_-](?:km2?|m)$", key))
