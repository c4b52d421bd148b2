"""What is kept of each article while conversations are made: enough to talk about it, little for a whole wiki."""

import hashlib
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from wikigpt.corpus.document import Document
from wikigpt.corpus.sentences import split_sentences
from wikigpt.instruct.relations import (
    Catalogue,
    Fact,
    Relation,
    acceptable,
    askable_key,
    clean_value,
    plain_key,
    read_toml,
)
from wikigpt.instruct.settings import InstructSettings
from wikigpt.instruct.wording import display_name, find_value, running_name, takes_the
from wikigpt.knowledge.passages import FACTS, LEAD, Piece, cut, sections

MAX_PIECES = 8
_ENOUGH_ARTICLES = 5  # an unknown infobox key must be this frequent to be asked for
_NOTES = re.compile(r"\s*[(（][^()（）]*[)）]")
_KIND_EN = re.compile(
    r"\b(?:is|was|are|were) ((?:an?|one of the) [^.,;:()\"“”]{3,48}?)"
    r"(?=[.;:(]|(?<!ed)(?<!al)(?<!ic)(?<!ous)(?<!ive)(?<!ant)(?<!ent)(?<!ky),"
    r"(?= (?:which|who|whose|that|where|when|an?|the|one|in|on|at|by|with|from|of|as|to|for|it|its|he|she|they|best"
    r"|most|also|often|usually|especially|particularly|primarily|mainly|now|\w+ed|known|born"
    r"|and (?:an?|the|one|is|was))\b)"
    r"| (?:that|which|who|whose|in|on|at|from|by|for|with|to|used|located|situated|found|native|born|founded"
    r"|often|usually|commonly|designed|developed|based|made|formed)\b|(?<! and)(?<! or)(?<! of) [a-z]+ing\b)"
)
# What a kind must not end in: "a molecule or ion capable", "an artist formerly"; but "a political family".
_KIND_END_EN = re.compile(
    r"(?: (?:(?!family|assembly|anomaly|monopoly|butterfly|homily)[a-z]+ly"
    r"|(?!breed|seed|weed|feed|bed|reed|shed)[a-z]+ed"
    r"|held|of|and|or|of (?:one|two|three|four|five)|capable|able|similar|equal|equivalent|prominent|famous|notable|due"
    r"|important|responsible|unique|common|available|close|necessary|typical|dependent|popular|as|such|where|when"
    r"|an?|the))+$"
)
_NO_KIND = re.compile(
    r" of the |born$|(?:ous|esoteric)$|^an? (?:type|kind|form|set|group|part|member|name|word|number|series)$"
    r"|其中|^(?:位于|位於|在|由)|分支|门类|部分|之一|总称|統稱|统称"
)
_KIND_ZH = re.compile(
    r"是(?![^，。；]{0,24}(?:研究|利用|把|以|用|由|将|將|指))[^，。；：（）“”]{0,24}?(?:一[种種个個位座部家條条支名款艘架颗顆间間所]|的)([^的，。；、：（）“”是在]{2,12})[，。；]"
)
_PERSON = {
    "en": re.compile(
        r"(?:^|[.\n] )(?:He|She) (?:is|was|had|has|became|won|wrote|served|played|worked|received|died)\b"
    ),
    "zh": re.compile(r"(?:^|[。\n])[他她](?:是|在|于|於|曾|的|也|出|毕|畢|从|從|为|為)"),
}
_PLURAL = re.compile(r"[^.,;]{2,60}? (?:are|were) ")
_NOT_A_THING = re.compile(r"^\s*$|^(?:Lists? of|Outline of|Index of) |\((?:disambiguation|消歧义|消歧義)\)$|列表$")
_SAYS_EN = re.compile(r"\b(?:is|was|are|were|has|have|lies?|stands?|belongs?|flows?|serves?|means|refers?|consists?)\b")
_SAYS_ZH = re.compile(r"[是为為指属屬位]|，.{4,}[人家员員者手]。$|建于|成立|起源|包括")
_DULL_HEADINGS = re.compile(
    r"see also|references?|external links|notes|further reading|sources|bibliography|literature|gallery"
    r"|参见|參見|参考|參考|外部链接|外部連結|外部鏈接|注释|註釋|注解|脚注|腳註|延伸阅读|延伸閱讀|相关条目|相關條目|文献|文獻|图集|來源|来源"
)


@dataclass(slots=True)
class Article:
    """An article as conversations need it; `shown` is its name in running text."""

    id: str
    title: str
    url: str
    revision: str
    lang: str
    split: str
    name: str
    shown: str
    first: str
    sections: list[tuple[str, str]]
    pieces: list[Piece]
    pairs: tuple[tuple[str, str], ...]
    facts: list[Fact]
    categories: tuple[str, ...]
    aliases: tuple[str, ...]
    langlinks: tuple[tuple[str, str], ...]
    lacks: list[int]  # numbers of the `absent` attributes that fit the article and are not in it

    @property
    def source(self) -> dict[str, str]:
        """What a conversation says about where it comes from."""
        return {"title": self.title, "id": self.id, "url": self.url, "revision": self.revision}

    @property
    def is_person(self) -> bool:
        """Whether the article is about a person; without an infobox its lead may tell by "he" or "she"."""
        if self.pairs or any(fact.relation.person for fact in self.facts):
            return any(fact.relation.person for fact in self.facts)
        lead = " ".join(piece.text for piece in self.pieces[:2] if piece.kind == LEAD)
        return _PERSON[self.lang].search(lead) is not None

    @property
    def is_several(self) -> bool:
        """Whether English text speaks of the subject in the plural ("Arabs are …"), told without an infobox only."""
        return self.lang == "en" and not self.pairs and _PLURAL.match(self.first) is not None


@dataclass(slots=True)
class View:
    """All articles of one language, by split, and what can be known only from all of them."""

    lang: str
    articles: list[Article]
    titles: dict[str, Article] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.articles.sort(key=lambda article: (article.title, article.id))
        names = Counter(article.name.casefold() for article in self.articles)
        for article in self.articles:
            if names[article.name.casefold()] > 1:  # "Mercury" alone would not say which one is meant
                article.name = article.shown = article.title
            self.titles[article.title] = article
        for article in self.articles:
            self.titles.setdefault(article.name, article)

    def of(self, split: str) -> list[Article]:
        """The articles of one split."""
        return [article for article in self.articles if article.split == split]

    def the(self, value: str) -> str:
        """Return "the " if running English text puts it before `value`."""
        if self.lang != "en":
            return ""
        known = self.titles.get(value)
        return "the " if takes_the(value) or (known and known.shown.startswith("the ")) else ""


class Same:
    """Facts of one relation over all articles of a language: where other values and look-alikes come from."""

    def __init__(self, articles: Iterable[Article]) -> None:
        self.holders: dict[tuple[str, int], list[tuple[Article, Fact]]] = defaultdict(list)
        for article in articles:
            for fact in article.facts:
                self.holders[fact.relation.id, fact.relation.variant].append((article, fact))

    def __getitem__(self, relation: Relation) -> list[tuple[Article, Fact]]:
        return self.holders.get((relation.id, relation.variant), [])

    @cached_property
    def titles_of(self) -> Counter[tuple[str, str]]:
        """How many articles have the value of (relation id, value)."""
        return Counter((fact.relation.id, fact.value) for holders in self.holders.values() for _, fact in holders)


@dataclass(frozen=True, slots=True)
class Absent:
    """An attribute that articles of some kind could have, see `tasks.toml`; `relation` gives it its phrasings."""

    marks: str
    heldout: bool
    words: dict[str, tuple[str, ...]]
    relation: Relation


def absent_attributes() -> list[Absent]:
    """The attributes of `tasks.toml`, in its order."""
    attributes = []
    for entry in read_toml("tasks.toml")["absent"]:
        words = {lang: tuple(entry[lang].pop("words")) for lang in ("en", "zh")}
        phrases = {lang: {"what": "是什么" if lang == "zh" else "What is", **entry[lang]} for lang in words}
        relation = Relation.model_validate({"id": entry["en"]["noun"], "type": "text", **phrases})
        attributes.append(Absent(entry["with"], entry.get("heldout", False), words, relation))
    return attributes


def gather(
    documents: Iterable[Document],
    settings: InstructSettings,
    catalogue: Catalogue,
    passage_bytes: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, View]:
    """Read documents once and keep at most `max_articles` a language: a sample by hash, infoboxes first.

    Which articles are kept depends on them alone, not on their order.
    """
    core = None if settings.core_relations is None else frozenset(settings.core_relations)
    absent = absent_attributes()
    kept: dict[str, list[tuple[float, str, int, Article]]] = {lang: [] for lang in settings.languages}
    for number, document in enumerate(documents, start=1):
        if progress and number % 500 == 0:
            progress(number)
        heap = kept.get(document.lang)
        if heap is None or not document.text.strip() or _NOT_A_THING.search(document.title):
            continue
        rank = -_rank(document)
        if len(heap) >= settings.max_articles and rank <= heap[0][0]:
            continue
        article = glean(document, catalogue, core, absent, passage_bytes)
        entry = (
            rank,
            f"{document.title}\0{document.id}",
            number,
            article,
        )  # `number` only so that articles are never compared
        (heapq.heappushpop if len(heap) >= settings.max_articles else heapq.heappush)(heap, entry)
    views = {lang: View(lang, [article for *_, article in heap]) for lang, heap in kept.items()}
    for view in views.values():
        _add_unknown_keys(view, catalogue)
    return views


def glean(
    document: Document, catalogue: Catalogue, core: frozenset[str] | None, absent: list[Absent], passage_bytes: int
) -> Article:
    """Take from a document what conversations need."""
    lang = document.lang
    parts = list(sections(document.text))
    lead = " ".join(parts[0][1]) if parts and not parts[0][0] else ""
    name = display_name(document.title)
    first = _first_sentence(lead, name, lang)
    facts = catalogue.facts(document, core)
    if not document.facts and (kind := _kind_of(lead, name, lang)):
        facts.append(Fact(catalogue.kind, kind))
    ids = {fact.relation.id for fact in facts}
    whole = f"{document.text}\n{' '.join(key for key, _ in document.facts)}".casefold()
    pieces = []
    for piece in cut(document, passage_bytes):
        if piece.kind == FACTS or not _DULL_HEADINGS.search(piece.section.lower()):
            pieces.append(piece)
        if len(pieces) == MAX_PIECES:
            break
    return Article(
        id=document.id,
        title=document.title,
        url=document.url,
        revision=document.revision,
        lang=lang,
        split=document.split,
        name=name,
        shown=running_name(name, document.text[:3000], lang),
        first=first if document.facts or lang == "en" or name[:2] in first[:16] else "",  # not late, and by the way
        sections=[
            (heading, text)
            for heading, lines in parts
            if heading
            and not _DULL_HEADINGS.search(heading.lower())
            and not lines[0].startswith("- ")
            and len(text := _opening(" ".join(lines), lang)) >= (15 if lang == "zh" else 40)
        ][:4],
        pieces=pieces,
        pairs=document.facts,
        facts=facts,
        categories=document.categories,
        aliases=document.aliases,
        langlinks=document.langlinks,
        lacks=[
            number
            for number, attribute in enumerate(absent)
            if attribute.marks in ids and not any(word in whole for word in attribute.words[lang])
        ],
    )


def holding(fact: Fact, pieces: Iterable[Piece]) -> list[tuple[Piece, str]]:
    """Return the passages that hold the fact, each with the wording in which it does ("1643年" may stand as "1643")."""
    wordings = list(dict.fromkeys([fact.value, fact.value.removesuffix("年")]))
    return [
        (piece, wording)
        for piece in pieces
        if (wording := next((w for w in wordings if find_value(w, piece.text)), None))
    ]


def speaks_of(fact: Fact, piece: Piece) -> bool:
    """Whether the passage says the fact rather than happens to hold its value.

    Infobox lines do by their key; of running text we trust only the lead, where facts of the infobox are told.
    """
    if piece.kind != FACTS:
        return piece.kind == LEAD
    return _key_of(fact, piece) is not None


def label(fact: Fact, piece: Piece, lang: str) -> str:
    """Return what the passage calls the attribute: the infobox its key, running text no word of its own."""
    return _key_of(fact, piece) or fact.relation.phrases(lang).noun


def _key_of(fact: Fact, piece: Piece) -> str | None:
    if piece.kind != FACTS:
        return None
    keys = (re.split(r"[:：]", line, maxsplit=1)[0] for line in piece.text.splitlines())
    return next((key for key in keys if plain_key(key) == plain_key(fact.key)), None)


def trimmed(sentence: str, lang: str) -> str:
    """Return a sentence without what stands in parentheses, cut at a comma if it is long."""
    sentence = _NOTES.sub("", _NOTES.sub("", sentence)).strip()
    most, comma, stop = (90, "，；", "。") if lang == "zh" else (220, ",;", ".")
    if len(sentence) <= most:
        return sentence
    cut_at = max(sentence.rfind(mark, 0, most) for mark in comma)
    return sentence[:cut_at] + stop if cut_at > most // 3 else ""


def _rank(document: Document) -> float:
    """Small for articles to be kept: a hash in [0, 1), one more for those without facts."""
    digest = hashlib.blake2b(
        f"{document.lang}:{document.title}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") / 2**64 + (not document.facts)


def _first_sentence(lead: str, name: str, lang: str) -> str:
    """Return the sentence that says what the article is about, or "" if it does not read like one."""
    sentence = trimmed(next(iter(split_sentences(lead[:1500], lang)), ""), lang)
    shortest = 8 if lang == "zh" else 25
    start = name[:2] if lang == "zh" else re.split(r"[\s,]", name)[0]
    clean = acceptable(sentence[:60]) and not re.search(r"[{}|<>\n]|\*\*|,,| ,|(?<!\w)['’][,\s]", sentence)
    ends = sentence.endswith(("。", "！", "？") if lang == "zh" else (".", "!", "?"))
    if lang == "zh" and (re.search(r"[\u4e00-\u9fff] [\u4e00-\u9fff]", sentence) or not _SAYS_ZH.search(sentence)):
        return ""  # a caption ran into the text, or the cut took the verb away
    whole = lang == "zh" or _SAYS_EN.search(sentence)
    about = start.casefold() in sentence[:80].casefold()
    return sentence if clean and ends and whole and about and len(sentence) >= shortest else ""


def _kind_of(lead: str, name: str, lang: str) -> str | None:
    """Return what the first sentence says the thing is ("a genus of moths"), if it says so plainly."""
    sentence = _NOTES.sub("", next(iter(split_sentences(lead[:600], lang)), ""))
    if not re.match(rf"(?:(?:the|an?) )?《?{re.escape(name)}", sentence, re.IGNORECASE):
        return None
    match = (_KIND_ZH if lang == "zh" else _KIND_EN).search(sentence)
    kind = re.sub(r"^一[大种種个個位座部家條条支名款艘架颗顆间間所门門类類]", "", match[1].strip()) if match else ""
    kind = _KIND_END_EN.sub("", kind)
    too_little = len(kind) < 2 if lang == "zh" else not 2 <= len(kind.split()) <= 8
    return (
        None
        if too_little or not acceptable(kind) or name.casefold() in kind.casefold() or _NO_KIND.search(kind)
        else kind
    )


def _opening(text: str, lang: str) -> str:
    """Return the first sentences of a text, up to a length that can be learnt."""
    most = 80 if lang == "zh" else 220
    opening = ""
    for sentence in split_sentences(text[:1000], lang):
        longer = f"{opening}{'' if lang == 'zh' or not opening else ' '}{sentence}"
        if len(longer) > most:
            break
        opening = longer
    return opening if opening.endswith((".", "。", "!", "！", "?", "？")) else ""


def _add_unknown_keys(view: View, catalogue: Catalogue) -> None:
    """Turn infobox keys that no relation knows, but many articles have, into facts with general phrasings."""
    known = catalogue.by_key.get(view.lang, {})
    values: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for article in view.articles:
        for key in {key for key, _ in article.pairs if plain_key(key) not in known and askable_key(key, view.lang)}:
            counts[key] += 1
            values[key].update(value for k, value in article.pairs if k == key)
    relations = {
        key: catalogue.unknown(key, view.lang)
        for key in sorted(counts)
        if counts[key] >= _ENOUGH_ARTICLES and len(values[key]) > 1
    }
    for article in view.articles:
        for key, value in article.pairs:
            relation = relations.get(key)
            if not relation or relation.id in {fact.relation.id for fact in article.facts}:
                continue
            # "largest city: capital" points at another line.
            if plain_key(value) not in known and (cleaned := clean_value(value, relation, key, view.lang)):
                article.facts.append(Fact(relation, *cleaned, False, key))
