"""The judge of short answers: is the fact in the answer, whatever its dress?

An answer is one sentence with the fact in Markdown bold. `exact_match` wants the bold span (or, without one, the whole
answer) to equal one of the accepted answers after `normalise`; `contains` wants an accepted answer anywhere in it.
Normalisation follows SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250: case, punctuation, articles) and adds what
Chinese and numbers need. It never compares meanings: a wrong answer must not pass because it is near.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache

from wikigpt.chat.grounding import NOT_FOUND, without_citations

_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", re.DOTALL)
_CJK = r"\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# "1,200,000" and "1 200 000" (with a space that does not break) are one number; "1990,2000" are two.
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[,'’\u00a0\u2009\u202f]\d{3})+(?![\d])")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(r"(\d+(?:\.\d+)?)\s*(thousand|million|billion|trillion)\b")
_SCALED_ZH = re.compile(
    r"(?:(?P<yi>\d+(?:\.\d+)?)[亿億](?:(?P<rest>\d+(?:\.\d+)?)[万萬])?|(?P<wan>\d+(?:\.\d+)?)[万萬])(?P<ones>\d{4})?(?!\d)"
)
_ABOUT = re.compile(
    r"(?:\b(?:about|approximately|approx\.?|around|roughly|nearly|circa|ca?\.)\s*|约为|約為|大约|大約|大概|约|約|[~≈]\s*)(?=\d)"
)
_SO_OR = re.compile(r"(?<=\d)左右")
_NOTHING_AFTER_POINT = re.compile(r"(?<=\d)\.0+(?![\d.])")
_YEAR = re.compile(r"^(?:公元|西元)?(前)?(\d+)年$")
_WORDS_OR_CHARACTERS = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_IGNORED_SYMBOLS = frozenset("~^`=|<>¨´")


def normalise(text: str, lang: str) -> str:
    """Return `text` in the form in which answers are compared.

    Ignored: case, width, accents of Latin letters, Traditional against Simplified, punctuation, articles, thousands
    separators, spaces around Chinese characters, "about". Kept: decimal points, minus signs, currency and unit signs.
    """
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text.translate(_DASHES))
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), _unaccented(text))  # full-width digits are plain now
    text = _SO_OR.sub("", _ABOUT.sub("", text))
    text = _SCALED.sub(lambda m: f"{(Decimal(m[1]) * 10 ** _SCALES[m[2]]).normalize():f}", text)
    text = _NOTHING_AFTER_POINT.sub("", _SCALED_ZH.sub(_in_digits, text))
    if lang == "zh" or re.search(rf"[{_CJK}]", text):
        text = _simplified()(text)
    words = "".join(_kept(text, i) for i in range(len(text))).split()
    if lang in ("en", "zh"):  # Chinese answers hold English names too
        words = _without_small_words(words)
    kept = " ".join(words) or text  # a sign alone, as ′ for minutes of arc, is the answer itself
    kept = re.sub(rf"(?<=[{_CJK}]) | (?=[{_CJK}])", "", kept)
    return _YEAR.sub(lambda m: ("公元前" if m[1] else "") + m[2], kept)


def extract_fact(answer: str) -> str:
    """Return what `answer` states in bold, without citations; the whole answer if nothing is bold.

    Different bold spans are all taken, joined by commas: hedging between two answers does not pass for either.
    """
    answer = without_citations(answer)
    spans = list(dict.fromkeys(span.strip() for span in _BOLD.findall(answer)))
    return ", ".join(spans) if spans else answer.strip()


def exact_match(answer: str, golds: Iterable[str], lang: str) -> bool:
    """Whether the fact of `answer` equals one of `golds`."""
    fact = normalise(extract_fact(answer), lang)
    return bool(fact) and any(fact == normalise(gold, lang) for gold in golds)


def contains(answer: str, golds: Iterable[str], lang: str) -> bool:
    """Whether one of `golds` stands in `answer`: as whole words and numbers, in Chinese as a substring."""
    text = normalise(without_citations(answer).replace("**", ""), lang)
    return any(_found(normalise(gold, lang), text) for gold in golds)


def f1(answer: str, golds: Iterable[str], lang: str) -> float:
    """Return the best F1, 0 to 1, of the fact's words (Chinese: characters) against one of `golds`."""
    got = Counter(_WORDS_OR_CHARACTERS.findall(normalise(extract_fact(answer), lang)))
    best = 0.0
    for gold in golds:
        wanted = Counter(_WORDS_OR_CHARACTERS.findall(normalise(gold, lang)))
        if common := sum((got & wanted).values()):
            best = max(best, 2 * common / (got.total() + wanted.total()))
    return best


def refused(answer: str, lang: str) -> bool:
    """Whether `answer` says that the wiki does not hold it (`NOT_FOUND`), in its own language."""
    return lang in NOT_FOUND and normalise(NOT_FOUND[lang], lang) in normalise(answer, lang)


_DASHES = {ord(dash): "-" for dash in "−‐‑‒–—―"}


def _unaccented(text: str) -> str:
    """Drop accents from Latin letters only: in Japanese or Devanagari the marks make another letter."""
    letters: list[str] = []
    for char in unicodedata.normalize("NFD", text):
        if unicodedata.combining(char) and letters and "a" <= letters[-1] <= "z":
            continue
        letters.append(char)
    return unicodedata.normalize("NFC", "".join(letters))


def _kept(text: str, i: int) -> str:
    """Return character `i` of `text`, or a space in its place where it carries no meaning."""
    char = text[i]
    before = text[i - 1] if i else " "
    after = text[i + 1] if i + 1 < len(text) else " "
    kind = unicodedata.category(char)
    if kind[0] in "LNM" or (kind[0] == "S" and char not in _IGNORED_SYMBOLS and char != "+"):
        return char
    if char == "." and before.isdigit() and after.isdigit():
        return char
    if char == "-" and after.isdigit() and not before.isalnum():  # a minus sign, not 1990-2000
        return char
    if char in "+#" and (before.isalpha() or before == char) and not after.isalnum():  # C++, C#
        return char
    if char == "%":
        return char
    return "" if char in "'’" else " "


def _without_small_words(words: list[str]) -> list[str]:
    """Drop "the" and "and" anywhere, "a" and "an" only in front: vitamin A is not vitamin. BCE is BC, AD is nothing."""
    words = ["bc" if word == "bce" else word for word in words]
    kept = [word for word in words if word not in ("the", "and")]
    if len(kept) > 1 and kept[0] in ("a", "an"):
        kept = kept[1:]
    if len(kept) == 2 and {"ad", "ce"} & set(kept) and any(word.isdigit() for word in kept):
        kept = [word for word in kept if word.isdigit()]
    return kept or words


def _in_digits(number: re.Match[str]) -> str:
    """Return "1亿4000万" or "6.7万" as digits."""
    yi, ten_thousands = Decimal(number["yi"] or 0), Decimal(number["rest"] or number["wan"] or 0)
    return f"{yi * 10**8 + ten_thousands * 10**4 + int(number['ones'] or 0):f}"


def _found(gold: str, text: str) -> bool:
    """Whether `gold` stands in `text` with no letter or digit of a larger word or number at its ends."""
    if not gold:
        return False
    start = text.find(gold)
    while start >= 0:
        end = start + len(gold)
        if not (_continues(text, start - 1, gold[0], -1) or _continues(text, end, gold[-1], 1)):
            return True
        start = text.find(gold, start + 1)
    return False


def _continues(text: str, i: int, edge: str, step: int) -> bool:
    """Whether the character at `i` carries on, in direction `step`, the word or number that `edge` ends."""
    if not 0 <= i < len(text) or re.match(rf"[{_CJK}]", edge):
        return False
    if edge.isdigit() and text[i] in ".-":
        beyond = i + step
        return (text[i] == "-" and step < 0) or (0 <= beyond < len(text) and text[beyond].isdigit())
    return edge.isalnum() and text[i].isalnum() and not re.match(rf"[{_CJK}]", text[i])


@lru_cache(maxsize=1)
def _simplified() -> Callable[[str], str]:
    from opencc import OpenCC

    return OpenCC("t2s").convert
