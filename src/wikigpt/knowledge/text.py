"""Words as the index sees them: one folding and one cutting for titles, passages and questions.

Everything is compared in folded form: NFKC, case, accents of Latin letters and the Chinese script
(Traditional -> Simplified) make no difference. Scripts that put no spaces between words (Chinese, Japanese,
Thai, ...) are cut into characters for names and into overlapping pairs for search: pairs need no dictionary
and find 北京 as one term (Nie, Gao et al. 2000, "On the use of words and n-grams for Chinese IR").
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

UNSPACED = (
    r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han, kana
    r"\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\uac00-\ud7af"  # Thai, Lao, Burmese, Khmer, Hangul
)
"""Character class (inside of `[...]`) of the scripts that are cut by character."""

_RUN = re.compile(rf"[{UNSPACED}]+")
_ACCENTED = re.compile(r"[\u00e0-\u024f\u1e00-\u1eff]|[a-z][\u0300-\u036f]")
_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
# A number keeps its decimal point and loses its thousands separators, so that 1,200 is 1200 and 3.14 is one unit.
_THOUSANDS = re.compile(r"(?<=\d)[,'’\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_UNIT = re.compile(rf"[{UNSPACED}]|\d+(?:\.\d+)+|[^\W_{UNSPACED}]+")
_ENDINGS = re.findall(
    r"\w+", "ations ation ities ity ments ment nesses ness ings ing ions ion ers ors er or ies ied ed es s y al ic ly e"
)


def fold(text: str) -> str:
    """Return `text` in the form in which everything is compared."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _THOUSANDS.sub("", text.casefold())
    if text.isascii():
        return text
    if _HAN.search(text):
        text = _simplified()(text)
    return _unaccented(text)


def units(text: str) -> list[str]:
    """Cut into folded words, numbers and single characters of unspaced scripts, in order; the rest is dropped."""
    return _UNIT.findall(fold(text))


def name_key(name: str) -> str:
    """Return the key under which a title or alias is looked up: its units, separated by spaces."""
    return " ".join(units(name))


def segmented(text: str) -> str:
    """Return folded `text` for FTS5: a run of unspaced script becomes its overlapping pairs.

    The last character of a run stands alone, so a search for the prefix `金*` finds every 金.
    """
    return _RUN.sub(lambda run: f" {' '.join(pairs(run[0]))} ", fold(text))


def pairs(run: str) -> list[str]:
    """Cut "北京市" into ["北京", "京市", "市"]."""
    return [run[i : i + 2] for i in range(len(run))]


def search_terms(text: str) -> list[str]:
    """Return the terms of a question, each once: whole words, and pairs of unspaced script (a lone character alone).

    Pairs with a function character in them (的, 是, 哪 ...) say nothing and are left out.
    """
    found: list[str] = []
    for word in _word_runs(fold(text)):
        if _RUN.match(word):
            for piece in meaningful(word):
                found += pairs(piece)[:-1] or [piece]
        elif word not in STOP_WORDS:
            found.append(word)
    return list(dict.fromkeys(found))


def term_counts(text: str) -> Counter[str]:
    """Count the stems of the words and the pairs of unspaced script in `text`."""
    counts: Counter[str] = Counter()
    for word in _word_runs(fold(text)):
        if _RUN.match(word):
            counts.update(pairs(word))
        elif word not in STOP_WORDS:
            counts[stem(word)] += 1
    return counts


def occurrences(text: str, terms: Iterable[str]) -> list[tuple[int, int]]:
    """Return where (start, end) words of `text` stand whose stems, or pairs of unspaced script, are among `terms`.

    What stands side by side is one place.
    """
    wanted = {stem(term) for term in terms}
    alone = {term for term in wanted if len(term) == 1}
    found: list[tuple[int, int]] = []
    for match in _UNIT.finditer(text):  # before folding, which may change the length
        folded = fold(match[0])
        if not _RUN.match(match[0]):
            if stem(folded) in wanted:
                found.append(match.span())
        elif folded in alone or fold(text[match.start() : match.start() + 2]) in wanted:
            found.append((match.start(), match.start() + (1 if folded in alone else 2)))
    joined: list[tuple[int, int]] = []
    for start, end in found:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def lone_characters(text: str) -> list[str]:
    """Return the characters of unspaced script that stand alone between function characters: 铁 in 铁的符号."""
    runs = (word for word in _word_runs(fold(text)) if _RUN.match(word))
    return [piece for run in runs for piece in meaningful(run) if len(piece) == 1]


def weighed_terms(text: str) -> set[str]:
    """Return what two texts are compared by: stems of words, and pairs and single characters of unspaced script."""
    found: set[str] = set()
    for word in _word_runs(fold(text)):
        if _RUN.match(word):
            for piece in meaningful(word):
                found.update(pairs(piece)[:-1])
                found.update(piece)
        elif word not in STOP_WORDS:
            found.add(stem(word))
    return found


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Strip English endings for as long as four letters remain: discoverer, discovery, discovered -> discov.

    It conflates more than Porter's (1980), on purpose: a question says "Who invented", the text "inventor".
    """
    if not word.isascii() or not word.isalpha():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return stem(word[: -len(ending)])
    return word


def singulars(word: str) -> list[str]:
    """Return what an English plural may be the plural of: wolves -> wolf, wolfe; cities -> city."""
    if not word.isascii() or len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return []
    found = [word[:-1]]
    if word.endswith("ies"):
        found.append(word[:-3] + "y")
    elif word.endswith("ves"):
        found += [word[:-3] + "f", word[:-3] + "fe"]
    elif word.endswith("es"):
        found.append(word[:-2])
    return found


def holds(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words, numbers or (unspaced scripts) characters, folded."""
    return find_units(units(text), units(phrase)) >= 0


def find_units(text: list[str], phrase: list[str]) -> int:
    """Return where the units `phrase` stand in a row in the units `text`; -1 where they do not (or are none)."""
    if not phrase:
        return -1
    for start in range(len(text) - len(phrase) + 1):
        if text[start : start + len(phrase)] == phrase:
            return start
    return -1


def without(text: str, names: Iterable[str]) -> str:
    """Return folded `text` with every name (folded, whole units, whatever stands between them) replaced by a comma."""
    text = fold(text)
    for name in sorted({tuple(units(name)) for name in names}, key=lambda name: -sum(map(len, name))):
        if name:
            left = "" if _RUN.match(name[0]) else rf"(?<![^\W{UNSPACED}])"
            right = "" if _RUN.match(name[-1]) else rf"(?![^\W{UNSPACED}])"
            text = re.sub(left + r"[\W_]*".join(map(re.escape, name)) + right, " , ", text)
    return text


def meaningful(run: str) -> list[str]:
    """Cut a run of unspaced script at question words and function characters, which are left out."""
    return [piece for piece in _HAN_STOP.split(_asking_words().sub("的", run)) if piece]


def _word_runs(folded: str) -> list[str]:
    return re.findall(rf"[{UNSPACED}]+|\d+(?:\.\d+)+|[^\W_{UNSPACED}]+", folded)


def _unaccented(text: str) -> str:
    """Drop accents from Latin letters only: in Japanese or Devanagari the marks make another letter."""
    if not _ACCENTED.search(text):
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


@lru_cache(maxsize=1)
def _simplified() -> Callable[[str], str]:
    from opencc import OpenCC

    return OpenCC("t2s").convert


STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about an and any are as at be been being by can could did do does for from had has have he her hers him his "
        "how i in into is it its itself me much my of on or our s shall she should so some than that the their them "
        "there these they this those through to up us was we were what when where which while who whom whose why will "
        "with would you your tell please know name give say according called look find need want wonder remind help "
        "show ask asked answer like",
    )
)
"""English words that every question has."""

# 在, 有, 和, 及 and 其 are function words alone, but not in 所在地, 所有, 共和国, 埃及, 土耳其.
_HAN_STOP = re.compile(
    r"(?:[的是了吗呢吧啊呀哪谁几么与于之这那您你我它他她们请被把]"
    r"|(?<![所现存实潜])在|(?<![所拥具国私公])有(?![机效限色])|(?<![共饱柔])和(?![平谐尚约])|(?<![埃普以危])及)+"
)
_ASKING = re.findall(
    r"\w+",
    "什么 怎么 怎样 如何 多少 哪里 哪儿 哪个 哪些 哪种 哪位 哪年 哪国 何时 何地 何处 何种 何人 为何 请问 请告诉我 "
    "告诉我 帮我 提醒 知道 想知道 介绍 查查 一下 回答 答案 忘了 能否 可以 是否 属于 叫做 叫作 称为 关于",
)


@lru_cache(maxsize=1)
def _asking_words() -> re.Pattern[str]:
    return re.compile("|".join(sorted(_ASKING, key=len, reverse=True)))
