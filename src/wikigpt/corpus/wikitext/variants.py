"""Chinese variants: `-{…}-` markup, and conversion of everything else to one script.

What the markup means: https://www.mediawiki.org/wiki/Writing_systems/Syntax. Text that a writer chose inside
`-{…}-` is not converted again; rules with the flags A and H hold from where they stand to the end of the page,
`-{-|…}-` ends them. What readers of each variant see is told in docs/chinese.md.
"""

import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

from wikigpt.corpus.languages import FALLBACKS, words
from wikigpt.corpus.wikitext import kernels
from wikigpt.corpus.wikitext.marks import ANY_MARK, COLON, KEEP_CLOSE, KEEP_OPEN, PIPE, RULE, RULE_BITS, STRIP, ZERO
from wikigpt.corpus.wikitext.phrases import phrases

# Like FALLBACKS, for a page shown as it is written; on other wikis than Chinese ones, the first text.
AS_WRITTEN = ("zh", "zh-hans", "zh-hant", "zh-cn", "zh-tw", "zh-hk", "zh-sg", "zh-mo", "zh-my")
OPENCC_CONFIG = {
    "zh-hans": "t2s",
    "zh-cn": "t2s",
    "zh-sg": "t2s",
    "zh-my": "t2s",
    "zh-hant": "s2t",
    "zh-tw": "s2tw",
    "zh-hk": "s2hk",
    "zh-mo": "s2hk",
}
# What `-{N|zh-cn}-` shows.
_NAMES = {
    "zh": "原文",
    "zh-hans": "简体",
    "zh-hant": "繁體",
    "zh-cn": "大陆",
    "zh-tw": "臺灣",
    "zh-hk": "香港",
    "zh-mo": "澳門",
    "zh-sg": "新加坡",
    "zh-my": "大马",
}

# Languages whose wikis switch on MediaWiki's language converter; elsewhere `-{` is ordinary text. (Kazakh wikis
# did until 2023.)
CONVERTER_LANGUAGES = words("zh gan wuu sr sh kk ku iu uz shi tg crh ban mni tly zgh")
_CODES = words(
    """gan gan-hans gan-hant wuu wuu-hans wuu-hant sr sr-ec sr-el sh sh-latn sh-cyrl kk kk-cyrl kk-latn kk-arab kk-kz
    kk-tr kk-cn ku ku-latn ku-arab iu ike-cans ike-latn uz uz-latn uz-cyrl shi shi-latn shi-tfng tg tg-latn crh
    crh-latn crh-cyrl ban ban-bali mni mni-beng tly tly-cyrl zgh zgh-latn"""
).union(AS_WRITTEN)
_STANDARD_CODES = {
    "zh-hans-cn": "zh-cn",
    "zh-hans-sg": "zh-sg",
    "zh-hans-my": "zh-my",
    "zh-hant-tw": "zh-tw",
    "zh-hant-hk": "zh-hk",
    "zh-hant-mo": "zh-mo",
    "sr-cyrl": "sr-ec",
    "sr-latn": "sr-el",
}
_FLAGS = frozenset("ARTHDN-")

_ANY_CODE = "|".join(sorted(_CODES.union(_STANDARD_CODES), key=len, reverse=True))
# A semicolon ends a text only if the next one, or nothing, follows: `style="a:b;c:d"` is left whole. Those that
# end an entity (&nbsp;) never do.
_SEPARATOR = re.compile(
    rf"&[#A-Za-z0-9]+;|(;)(?=\s*(?:{_ANY_CODE})\s*:|[^;]*?=>\s*(?:{_ANY_CODE})\s*:|\s*\Z)", re.IGNORECASE
)
_LIST_OR_TABLE = re.compile(r"\s*\n[*#:;{|=]")  # means something at the beginning of a line only
_MARKUP = re.compile(r"<[^<>]*>|'{2,}")
_NO_TEXT_CONVERSION = re.compile(r"__(?:NOCONTENTCONVERT|NOCC|不转换内容|不轉換內容)__")
_NO_TITLE_CONVERSION = re.compile(r"__(?:NOTITLECONVERT|NOTC|不转换标题|不轉換標題)__")
_MAX_WORD = 60  # characters of what a rule replaces: bounds the time spent at each character of the text

# A mark says which rule holds from here on. Marks may get lost with the text around them, so they are numbered,
# in binary, by characters that `ANY_MARK` removes and that no later step takes for a number.
_STRAY = re.compile(f"[{KEEP_OPEN}{KEEP_CLOSE}{ZERO}{RULE}]")

OneWay = tuple[str, str, str]  # the word, the variant in which it is replaced, by what


@dataclass(slots=True)
class Rules:
    """The conversion rules that a page gives for itself, in the order of their marks."""

    variant: str | None
    changes: list[dict[str, str | None]] = field(default_factory=list)  # None: the word has no rule any more
    title: str | None = None
    converts_text: bool = True
    converts_title: bool = True

    def read_switches(self, text: str) -> None:
        """Look for __NOCC__ and __NOTC__ in the page's wikitext, which switch conversion off."""
        if kernels.follows(text, "_", "_"):
            self.converts_text = _NO_TEXT_CONVERSION.search(text) is None
            self.converts_title = _NO_TITLE_CONVERSION.search(text) is None

    def note(self, body: str) -> str:
        """Remember the rule `-{H|body}-`; return the mark that says from where it holds."""
        return self.add(*parse_rule(body), body)

    def note_title(self, body: str) -> None:
        """Remember the title that the page gives itself by `-{T|body}-`."""
        texts, one_way = parse_rule(body)
        if self.variant is None:
            shown = texts.get("zh")
        elif texts or one_way:
            shown = choose(texts, one_way, self.variant)
        else:
            shown = body
        self.title = (shown and _plain(shown)) or self.title

    def add(self, texts: dict[str, str], one_way: list[OneWay], body: str = "", *, ends: bool = False) -> str:
        """Remember one rule, or with `ends` that it ends; return the mark that says from where.

        A `body` without rules is a word that must not be converted.
        """
        if self.variant is None or len(self.changes) >= 1 << RULE_BITS:
            return ""
        if not texts and not one_way:
            texts = {self.variant: body.strip()}
        target = _plain(pick(texts, self.variant) or "")
        pairs = [(_plain(text), target) for text in texts.values()] if target else []
        # Unlike texts, replacements in one direction have no fallback: zh-hans does not use those of zh-cn.
        pairs += [
            (_plain(word), _plain(text)) for word, code, text in one_way if code == self.variant and STRIP not in text
        ]
        change = {source: None if ends else target for source, target in pairs if 0 < len(source) <= _MAX_WORD}
        if not change:
            return ""
        self.changes.append(change)
        number = f"{len(self.changes) - 1:0{RULE_BITS}b}"
        return RULE + number.replace("0", ZERO).replace("1", RULE)


def _plain(text: str) -> str:
    """A rule's text as it will look in the finished page; "" if it holds more than text (a formula)."""
    text = text.replace(COLON, ":").replace(PIPE, "|")
    if STRIP in text:
        return ""
    return " ".join(html.unescape(_MARKUP.sub("", ANY_MARK.sub("", text))).split())


def pick(texts: dict[str, str], variant: str | None) -> str | None:
    """The text for `variant`, or for its nearest relative; None if there is neither."""
    order = FALLBACKS.get(variant, (variant,)) if variant else AS_WRITTEN
    given = [texts[code] for code in order if code in texts]
    if not given and variant is None:
        given = list(texts.values())
    return next((text for text in given if text), given[0] if given else None)


def choose(texts: dict[str, str], one_way: list[OneWay], variant: str | None) -> str | None:
    """What a rule shows where it stands; None if it has nothing for `variant`."""
    chosen = pick(texts, variant)
    if chosen is None:
        chosen = next((text for _, code, text in one_way if variant in (None, code)), None)
    return chosen


def parse_rule(body: str) -> tuple[dict[str, str], list[OneWay]]:
    """Read `zh-cn:甲;zh-tw:乙` into texts by variant, and `丙=>zh-cn:甲` into one-way replacements.

    Both are empty if `body` is no rule, or one with an unknown variant.
    """
    texts: dict[str, str] = {}
    one_way: list[OneWay] = []
    for choice in _choices(body) if ":" in body else ():
        left, colon, text = choice.partition(":")
        source, arrow, code = left.partition("=>")
        if not arrow:
            source, code = "", left
        code = code.strip().lower()
        code = _STANDARD_CODES.get(code, code)
        starts_line = _LIST_OR_TABLE.match(text)
        text = f"\n{text.strip()}" if starts_line else text.strip()
        if not colon:
            continue
        if code not in _CODES:
            return {}, []
        if not arrow:
            texts[code] = text or texts.get(code, "")
        elif source.strip():
            one_way.append((source.strip(), code, text))
    return texts, one_way


def _choices(body: str) -> Iterator[str]:
    start = 0
    for separator in _SEPARATOR.finditer(body):
        if separator.group(1):
            yield body[start : separator.start()]
            start = separator.end()
    yield body[start:]


def resolve(parts: list[str], rules: Rules) -> str:
    """Render one `-{…}-`, given its content split at `|` (content already free of nested markup)."""
    head, bar, body = "|".join(parts).partition("|")
    flags = {flag.strip() for flag in head.split(";")} & (_FLAGS | _CODES) if bar else set()
    body = body if bar else head
    if "R" in flags:
        return _keep(body)
    if "N" in flags:
        return _keep(_NAMES.get(body.strip(), ""))
    if "-" in flags:
        return rules.add(*parse_rule(body), body, ends=True)
    if "H" not in flags and (codes := flags & _CODES):  # converted in these variants only
        order = FALLBACKS.get(rules.variant or "", AS_WRITTEN)
        return _keep(body) if codes.isdisjoint(order) else body
    texts, one_way = parse_rule(body)
    mark = rules.add(texts, one_way, body) if flags & {"A", "H"} else ""
    if "T" in flags:
        rules.note_title(body)
    if "D" in flags and (texts or one_way):
        return mark + _keep(_describe(texts, one_way))
    if "H" in flags or flags == {"T"}:
        return mark
    if not texts and not one_way:
        return mark + _keep(body)
    chosen = choose(texts, one_way, rules.variant)
    if chosen is None:  # MediaWiki shows an error: better one of the texts, converted
        return mark + next((text for text in (*texts.values(), *(text for _, _, text in one_way)) if text), "")
    return mark + _keep(chosen)


def _describe(texts: dict[str, str], one_way: list[OneWay]) -> str:
    """`-{D|zh-cn:甲;zh-tw:乙}-` shows 大陆：甲；臺灣：乙；"""
    both = [f"{_NAMES.get(code, code)}：{text}；" for code, text in texts.items() if text]
    return "".join(both + [f"{source}⇒{_NAMES.get(code, code)}：{text}；" for source, code, text in one_way])


def _keep(text: str) -> str:
    """Protect `text` from conversion (flattening what is already protected inside)."""
    inner = text.replace(KEEP_OPEN, "").replace(KEEP_CLOSE, "")
    return f"{KEEP_OPEN}{inner}{KEEP_CLOSE}" if inner else ""


@cache
def converter(variant: str) -> Callable[[str], str] | None:
    """A function that converts text to `variant`: characters by opencc, and quotation marks.

    None if the variant is not a Chinese one.
    """
    config = OPENCC_CONFIG.get(variant)
    if config is None:
        return None
    import opencc

    convert: Callable[[str], str] = opencc.OpenCC(config).convert
    if config == "t2s":
        return _to_simplified(convert)
    adapt: Callable[[str], str] = str if config == "s2t" else opencc.OpenCC(config.replace("s2", "t2")).convert
    simplified, traditional, counterpart = _only_in_one_script()

    def to_traditional(text: str) -> str:
        """Convert line by line, since one that is Traditional already must not be read as Simplified."""
        lines = text.split("\n")
        counts = [len(simplified.findall(line)) - len(traditional.findall(line)) for line in lines]
        mostly = sum(counts) >= 0
        chosen = [count > 0 or (count == 0 and mostly) for count in counts]
        converted = iter(
            convert("\n".join(line for line, simple in zip(lines, chosen, strict=True) if simple)).split("\n")
        )
        others = "\n".join(line for line, simple in zip(lines, chosen, strict=True) if not simple)
        adapted = iter(adapt(simplified.sub(lambda match: counterpart[match.group()], others)).split("\n"))
        return _traditional("\n".join(next(converted if simple else adapted) for simple in chosen))

    return to_traditional


# Simplified characters that Traditional text uses as well, for other words (皇后, 公里) or as a variant (群, 峰).
_IN_BOTH_SCRIPTS = frozenset(
    "里台群秘后峰岩占于干准征斗床余岳吃游并范咸庄杰雇伙厘恒郁云丑唇筑涌皂冲刹夸咤辟凶采朴痴熏栖涂灶仆几吁咨啰尸挂杠"
    "淀烟霉谥"
)


@cache
def _only_in_one_script() -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
    """Patterns of the characters of Simplified and of Traditional text only, and the former's counterparts.

    By opencc's own tables. Whole texts would not do: s2tw changes 1,300 of the 449,000 characters of DRCD, which
    is Traditional, and more than half of these changes are wrong (加布里埃爾, 坂里村, 征服, 國家具有).
    """
    import opencc

    characters = [chr(code) for code in range(0x3400, 0xA000)]
    lines = "\n".join(characters)
    counterpart = {
        old: new
        for old, new in zip(characters, opencc.OpenCC("s2t").convert(lines).split("\n"), strict=True)
        if old != new and old not in _IN_BOTH_SCRIPTS
    }
    to_simplified = zip(characters, opencc.OpenCC("t2s").convert(lines).split("\n"), strict=True)
    traditional = {old for old, new in to_simplified if old != new} - counterpart.keys()
    return (
        re.compile(f"[{''.join(sorted(counterpart))}]"),
        re.compile(f"[{''.join(sorted(traditional))}]"),
        counterpart,
    )


# opencc leaves 著 alone, since it is also the 著 of 著作 and 显著. Where it only marks an aspect, or begins a word
# like 着手, Simplified writes 着. In 20,000 articles of the Chinese Wikipedia this changes 2,098 of 3,927; of 200 of
# them, read one by one, 198 were right.
_ASPECT = re.compile(
    r"著(?:(?<=[随接带看跟靠沿朝穿载味系连配响活坐站躺笑哭绕]著)(?![名作者书述称录])|"
    r"(?<![显原专土所名巨论译遗拙新卓昭撰彰自编大]著)(?<![^配结联综融混组集整符]合著)"
    r"(?![名作者书述称录史文论译于於《〈（(“‘，。、；：！？）”’》)\s]|\Z)(?!(?<=[，。、；：！？\s（]著)有))"
)
_SIMPLIFIED_QUOTES = (("「", "“"), ("」", "”"), ("『", "‘"), ("』", "’"), ("｢", "“"), ("｣", "”"))
_TRADITIONAL_QUOTES = (("“", "「"), ("”", "」"))
# Single ones by pairs within a line, so that apostrophes (O’Brien, the students’) stay.
_SINGLE_QUOTE = re.compile(r"[‘\n]|(?<![A-Za-z])’|’(?![A-Za-z])")


def _to_simplified(convert: Callable[[str], str]) -> Callable[[str], str]:
    """`convert`, and then quotation marks and 着; compiled if possible."""

    def with_quotes(text: str) -> str:
        text = convert(text)
        for old, new in _SIMPLIFIED_QUOTES:
            text = text.replace(old, new)
        return text

    known_words = lru_cache(maxsize=4096)(with_quotes)

    def word(text: str) -> str:
        return known_words(text) if len(text) < 16 else with_quotes(text)

    characters = with_quotes
    if kernels.compiled and (known := phrases("t2s")) is not None:
        from wikigpt.corpus.wikitext.native import Converter

        characters = Converter(word, known)

    def to_simplified(text: str) -> str:
        text = characters(text)
        return _ASPECT.sub("着", text) if "著" in text else text

    return to_simplified


def _traditional(text: str) -> str:
    for old, new in _TRADITIONAL_QUOTES:
        text = text.replace(old, new)
    if "‘" not in text:
        return text
    opened: list[int] = []
    paired: dict[int, str] = {}
    for match in _SINGLE_QUOTE.finditer(text):
        if match.group() == "‘":
            opened.append(match.start())
        elif match.group() == "\n":
            opened.clear()
        elif opened:
            paired |= {opened.pop(): "『", match.start(): "』"}
    return _SINGLE_QUOTE.sub(lambda match: paired.get(match.start(), match.group()), text)


class Conversion:
    """Applies a page's rules and then `converter` to text in which `resolve` left its marks."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.script = converter(rules.variant) if rules.variant else None
        self.final: dict[str, str] = {}  # what holds at the end of the page, and for titles and facts
        for change in rules.changes:
            _apply(change, self.final)
        sources = {source for change in rules.changes for source in change}
        self.words = kernels.Words(sources) if sources else None

    def __call__(self, text: str, *, everywhere: bool = False) -> str:
        """Convert `text` and remove the marks; with `everywhere`, all rules hold from the beginning."""
        if not self.rules.converts_text:
            return _STRAY.sub("", text)
        return self._converted(text, everywhere)

    def title(self, title: str) -> str:
        """The page's title as readers see it."""
        if self.rules.title is not None:
            return self.rules.title
        return self._converted(title, everywhere=True) if self.rules.converts_title else title

    def _converted(self, text: str, everywhere: bool) -> str:
        if KEEP_OPEN not in text and self.words is None:
            text = _STRAY.sub("", text)
            return self.script(text) if self.script else text
        pieces = self._pieces(text, everywhere)
        if self.script is None:
            return "".join(piece for _, piece in pieces)
        # One call of opencc for the whole page: the stretches joined by a character it leaves alone.
        converted = iter(self.script(RULE.join(piece for kept, piece in pieces if not kept)).split(RULE))
        return "".join(piece if kept else next(converted) for kept, piece in pieces)

    def _pieces(self, text: str, everywhere: bool) -> list[tuple[bool, str]]:
        """Cut `text` into pieces, each with whether it is kept as it is, or still to be converted."""
        words: dict[str, str] = self.final if everywhere else {}
        held = len(self.rules.changes) if everywhere else 0  # how many changes are in `words`
        tokens = kernels.cut_at_marks(text)
        # A rule whose mark got lost, in an infobox for example, holds from the mark before it on.
        stops = [*sorted({_number(mark) for mark in tokens[1::2] if mark[0] == RULE}), len(self.rules.changes)]

        def hold(stop: int) -> None:
            nonlocal held
            for change in self.rules.changes[held:stop]:
                _apply(change, words)
            held = max(held, stop)

        hold(stops[0])
        out: list[tuple[bool, str]] = []
        paired = _paired(tokens)
        depth = 0  # of what is kept
        for number, token in enumerate(tokens):
            if token in (KEEP_OPEN, KEEP_CLOSE):
                depth += (number in paired) * (1 if token == KEEP_OPEN else -1)
            elif number % 2:
                hold(stops[bisect_right(stops, _number(token))])
            else:
                if ZERO in token or RULE in token:  # half a mark
                    token = _STRAY.sub("", token)
                if depth or not words or self.words is None:
                    out.append((depth > 0, token))
                else:
                    self.words.take(token, words, out)
        return out


def _paired(tokens: list[str]) -> set[int]:
    """The positions of `KEEP_OPEN` and `KEEP_CLOSE` that belong together: HTML may open without closing."""
    paired: set[int] = set()
    opened: list[int] = []
    for number, token in enumerate(tokens):
        if token == KEEP_OPEN:
            opened.append(number)
        elif token == KEEP_CLOSE and opened:
            paired |= {opened.pop(), number}
    return paired


def _number(mark: str) -> int:
    return int(mark[1:].replace(ZERO, "0").replace(RULE, "1"), 2)


def _apply(change: dict[str, str | None], words: dict[str, str]) -> None:
    for source, target in change.items():
        if target is None:
            words.pop(source, None)
        else:
            words[source] = target
