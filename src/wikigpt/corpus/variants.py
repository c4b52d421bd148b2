"""Chinese variants: `-{…}-` markup, and conversion of everything else to one script.

How MediaWiki does it: https://www.mediawiki.org/wiki/Writing_systems/Syntax. Text inside `-{…}-` is chosen
by the writer and must not be converted again; rules with the flags A and H hold for the rest of the page.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from wikigpt.corpus.marks import ANY_MARK, KEEP_CLOSE, KEEP_OPEN, RULE

# The order in which MediaWiki looks for a text when the wanted variant has none of its own.
FALLBACKS: dict[str, tuple[str, ...]] = {
    "zh-hans": ("zh-hans", "zh-cn", "zh-sg", "zh-my"),
    "zh-cn": ("zh-cn", "zh-hans", "zh-sg", "zh-my"),
    "zh-sg": ("zh-sg", "zh-hans", "zh-cn", "zh-my"),
    "zh-my": ("zh-my", "zh-hans", "zh-sg", "zh-cn"),
    "zh-hant": ("zh-hant", "zh-tw", "zh-hk", "zh-mo"),
    "zh-tw": ("zh-tw", "zh-hant", "zh-hk", "zh-mo"),
    "zh-hk": ("zh-hk", "zh-hant", "zh-mo", "zh-tw"),
    "zh-mo": ("zh-mo", "zh-hant", "zh-hk", "zh-tw"),
}
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

# Languages whose wikis switch on MediaWiki's language converter; elsewhere `-{` is ordinary text.
CONVERTER_LANGUAGES = frozenset({"zh", "gan", "sr", "sh", "kk", "ku", "iu", "uz", "shi", "tg", "crh", "ban"})

_FLAGS = re.compile(r"[\sA-Za-z0-9+;-]*\Z")
_RULE_CODE = re.compile(r"\s*((?:zh|gan|sr|kk|ku|iu|uz|shi|tg|crh|ban|sh)(?:-[a-z]+)?)\s*:", re.IGNORECASE)
_MAX_RULES = 2000
_MAX_WORD = 60  # characters


@dataclass(slots=True)
class Rules:
    """The conversion rules that a page gives for itself, in the order of their `RULE` marks."""

    variant: str | None
    words: list[dict[str, str]] = field(default_factory=list)
    title: str | None = None

    def add(self, texts: dict[str, str], one_way: list[tuple[str, str, str]]) -> str:
        """Remember one rule; return the mark that says from where it holds."""
        if self.variant is None or len(self.words) >= _MAX_RULES:
            return ""
        words: dict[str, str] = {}
        target = pick(texts, self.variant)
        if target is not None:
            words |= dict.fromkeys(texts.values(), target)
        order = FALLBACKS.get(self.variant, (self.variant,))
        words |= {source: text for source, code, text in one_way if code in order}
        words = {ANY_MARK.sub("", source): ANY_MARK.sub("", text) for source, text in words.items()}
        words = {source: text for source, text in words.items() if 0 < len(source) <= _MAX_WORD and source != text}
        if not words:
            return ""
        self.words.append(words)
        return RULE

    def set_title(self, title: str) -> None:
        """Remember the title that the page gives itself."""
        self.title = ANY_MARK.sub("", title).strip() or self.title


def pick(texts: dict[str, str], variant: str | None) -> str | None:
    """The text for `variant`, or for its nearest relative; None if there is neither."""
    if variant is None:
        return next(iter(texts.values()), None)
    for code in FALLBACKS.get(variant, (variant,)):
        if code in texts:
            return texts[code]
    return None


def parse_rule(body: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Read `zh-cn:甲;zh-tw:乙` into texts by variant, and `丙=>zh-cn:甲` into one-way replacements.

    A `;` that no variant code follows belongs to the text before it, as in MediaWiki.
    """
    texts: dict[str, str] = {}
    one_way: list[tuple[str, str, str]] = []
    code, source, value = "", "", ""

    def finish() -> None:
        if code and source:
            one_way.append((source, code, value.strip()))
        elif code:
            texts.setdefault(code, value.strip())

    for piece in body.rstrip("; \n").split(";"):
        before, arrow, after = piece.partition("=>")
        match = _RULE_CODE.match(after if arrow else piece)
        if match:
            finish()
            code = match.group(1).lower()
            source = before.strip() if arrow else ""
            value = (after if arrow else piece)[match.end() :]
        elif code:
            value += ";" + piece
    finish()
    return texts, one_way


def resolve(parts: list[str], rules: Rules) -> str:
    """Render one `-{…}-`, given its content split at `|` (content already free of nested markup)."""
    flags: set[str] = set()
    body = "|".join(parts)
    if len(parts) > 1 and _FLAGS.match(parts[0]):
        flags = {flag.strip() for flag in parts[0].split(";")}
        body = "|".join(parts[1:])
        codes = {flag.lower() for flag in flags if "-" in flag or flag.lower() == "zh"} - {"-"}
        if codes:  # -{zh-hans;zh-hant|text}-: converted in these variants, left alone in the others
            return body
    if "R" in flags:
        return _keep(body)
    texts, one_way = parse_rule(body)
    hidden = bool(flags & {"H", "T", "-", "D", "N"})
    mark = ""
    if flags & {"A", "H", "+"}:
        mark = rules.add(texts, one_way)
    chosen = pick(texts, rules.variant)
    if chosen is None and one_way:
        order = FALLBACKS.get(rules.variant or "", ())
        chosen = next((text for _, code, text in one_way if not order or code in order), None)
    if "T" in flags and (texts or body.strip()):
        rules.set_title(chosen if chosen is not None else next(iter(texts.values()), body))
    if hidden:
        return mark
    if chosen is not None:
        return mark + _keep(chosen)
    if texts:  # none for this variant or its relatives: show one, and let it be converted
        return mark + next(iter(texts.values()))
    return mark + _keep(body)


def _keep(text: str) -> str:
    """Protect `text` from conversion (flattening what is already protected inside)."""
    inner = text.replace(KEEP_OPEN, "").replace(KEEP_CLOSE, "")
    return f"{KEEP_OPEN}{inner}{KEEP_CLOSE}" if inner else ""


@cache
def converter(variant: str) -> Callable[[str], str] | None:
    """A function that converts text to `variant` by opencc, or None if the variant is not a Chinese one."""
    config = OPENCC_CONFIG.get(variant)
    if config is None:
        return None
    import opencc

    convert: Callable[[str], str] = opencc.OpenCC(config).convert
    return convert


class Conversion:
    """Applies a page's rules and then opencc to text in which `resolve` left its marks."""

    def __init__(self, rules: Rules) -> None:
        self.convert = converter(rules.variant) if rules.variant else None
        # Source word -> (target, number of RULE marks after which it holds). A later rule for the same word
        # replaces an earlier one.
        self.words: dict[str, tuple[str, int]] = {}
        for number, words in enumerate(rules.words, start=1):
            self.words |= {source: (target, number) for source, target in words.items()}
        starts = "".join({RULE, *(source[0] for source in self.words)})
        self.starts = re.compile(f"[{re.escape(starts)}]") if self.words else None
        self.lengths = sorted({len(source) for source in self.words}, reverse=True)

    def __call__(self, text: str, *, everywhere: bool = False) -> str:
        """Convert `text` and remove the marks; with `everywhere`, all rules hold from the beginning."""
        if KEEP_OPEN not in text and self.starts is None:
            text = text.replace(RULE, "").replace(KEEP_CLOSE, "")
            return self.convert(text) if self.convert else text
        return "".join(self._pieces(text, everywhere))

    def _pieces(self, text: str, everywhere: bool) -> Iterable[str]:
        passed = 1 << 30 if everywhere else 0  # RULE marks so far
        out: list[tuple[bool, str]] = []  # (whether it is kept as it is, text)
        for number, stretch in enumerate(text.split(KEEP_OPEN)):
            kept, close, rest = stretch.partition(KEEP_CLOSE) if number else ("", "", stretch)
            if number and not close:
                kept, rest = "", kept
            if kept:
                passed += kept.count(RULE)
                out.append((True, kept.replace(RULE, "")))
            passed = self._replace(rest.replace(KEEP_CLOSE, ""), passed, out)
        if self.convert is None:
            return [piece for _, piece in out]
        # One call of opencc for the whole page: the stretches joined by a character it leaves alone.
        converted = iter(self.convert(RULE.join(piece for kept, piece in out if not kept)).split(RULE))
        return [piece if kept else next(converted) for kept, piece in out]

    def _replace(self, text: str, passed: int, out: list[tuple[bool, str]]) -> int:
        """Append `text` to `out` with the page's words replaced, the longest first; return the new `passed`."""
        done = position = 0
        while self.starts and (match := self.starts.search(text, position)):
            at = match.start()
            position = at + 1
            if match.group() == RULE:
                passed += 1
                out.append((False, text[done:at]))
                done = position
                continue
            for length in self.lengths:
                target, since = self.words.get(text[at : at + length], ("", passed + 1))
                if since <= passed:
                    out += [(False, text[done:at]), (True, target)]
                    done = position = at + length
                    break
        out.append((False, text[done:].replace(RULE, "")))
        return passed
