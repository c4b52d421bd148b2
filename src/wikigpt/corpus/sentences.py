"""Sentence splitting for Chinese and for languages that write like English."""

import re

from wikigpt.corpus.languages import words

# A full stop of Chinese or Japanese ends a sentence wherever it stands; closing quotes and brackets after it
# still belong to the sentence.
_CJK_END = re.compile(r"[。！？!?…‥]+[”’」』】）》〉\"')\]]*|(?<=[\u3040-\u30ff\u4e00-\u9fff])[.](?=\s|\Z)")
_LATIN_END = re.compile(r"[.!?…。！？]+[\"'”’»)\]]*(?=\s+|\Z)")

_ABBREVIATIONS = words(
    """mr mrs ms dr prof rev hon st sr jr gen col sgt capt lt cmdr adm maj gov sen rep pres messrs mme mlle vs
    v etc eg ie cf al approx ca c fl b d r née no nos vol vols pp p ed eds rev trans tr ch sec fig figs inc
    ltd co corp bros dept univ assn mt ft ave blvd rd jan feb mar apr jun jul aug sep sept oct nov dec mon
    tue wed thu fri sat sun e.g i.e a.m p.m u.s u.k u.n ph.d m.d b.a m.a b.c a.d d.c"""
)
# After these, a capital letter may well open the next sentence, so the rest of the text decides.
_MAYBE_LAST = frozenset({"etc", "al", "inc", "ltd", "co", "corp", "jr", "sr", "a.m", "p.m", "u.s", "u.k", "u.n",
                         "ph.d", "b.c", "a.d", "d.c", "no", "fig", "sec"})  # fmt: skip
_BEFORE = re.compile(r"([\w'’]+(?:\.[\w'’]+)*)\Z")
_OPENERS = "\"'“‘«([—–"
_COMMON_STARTS = re.compile(
    r"(?:The|A|An|In|On|At|It|Its|He|She|His|Her|They|Their|This|These|That|There|However|As|After|Before|"
    r"When|While|For|By|But|And|Although|During|Since|From|With|To|One|Some|Many|Most|Today|Later)\b"
)


def split_sentences(text: str, lang: str) -> list[str]:
    """Split text into sentences, losing nothing but the white space between them.

    Line breaks always end a sentence, and headings and list items are sentences of their own. `lang` chooses
    the rules: full stops of Chinese and Japanese need no space after them; the others mind abbreviations,
    initials and decimals.
    """
    split = _split_cjk if lang.partition("-")[0] in {"zh", "ja", "yue", "wuu", "gan"} else _split_latin
    return [s for line in text.split("\n") if line.strip() for piece in split(line.strip()) if (s := piece.strip())]


def _split_cjk(line: str) -> list[str]:
    sentences = []
    start = scanned = open_brackets = 0
    for match in _CJK_END.finditer(line):
        end = match.end()
        open_brackets += line.count("（", scanned, end) - line.count("）", scanned, end)
        scanned = end
        mark = match.group()
        following = line[end : end + 1]
        if mark in "!?" and line[match.start() - 1 : match.start()].isascii() and following.strip():
            continue  # Yahoo!奇摩, a?b
        if mark[0] in "…‥" and following:
            continue  # an ellipsis pauses more often than it ends
        if following and (following in "，、；：,;:" or (following in "的一" and len(mark) > 1)):
            continue  # “……！”的说法, “……！”一词: the sentence visibly goes on
        if mark[-1] in "）)" and line[start] not in "（(" and following:
            continue  # a full stop inside （…） does not end the sentence around it
        if open_brackets > 0 and line.find("）", end, end + 60) >= 0:
            continue
        sentences.append(line[start:end])
        start, open_brackets = end, 0
    sentences.append(line[start:])
    return sentences


def _split_latin(line: str) -> list[str]:
    sentences = []
    start = 0
    for match in _LATIN_END.finditer(line):
        end = match.end()
        if end < len(line) and not _ends_sentence(line, match.start(), match.group(), end):
            continue
        sentences.append(line[start:end])
        start = end
    sentences.append(line[start:])
    return sentences


def _ends_sentence(line: str, dot: int, mark: str, end: int) -> bool:
    rest = line[end : end + 40].lstrip()
    first = rest.lstrip(_OPENERS)[:1]
    if first.islower():
        return False  # also keeps “Yahoo! is”, “e.g. this” and an unlisted abbreviation together
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    match = _BEFORE.search(line, max(0, dot - 30), dot)
    if match is None:
        return True
    word = match.group(1)
    lower = word.lower().strip("'’")
    if len(word) == 1 and word.isalpha():
        # One capital letter is an initial (J. Smith), unless a word opens that no name begins with.
        return not word.isupper() or _COMMON_STARTS.match(rest) is not None
    if lower in _MAYBE_LAST:
        if lower in {"no", "fig", "sec"}:
            return not first.isdigit()
        return _COMMON_STARTS.match(rest) is not None
    if lower in _ABBREVIATIONS or (word.count(".") >= 1 and len(word.replace(".", "")) <= 4):
        return word[-1:].isdigit()
    return True
