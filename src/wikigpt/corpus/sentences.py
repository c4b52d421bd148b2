"""Sentence splitting for Chinese, Japanese and languages that write like English."""

import re

from wikigpt.corpus.languages import words

# In Chinese and Japanese a full stop ends a sentence wherever it stands; closing quotes and brackets after it
# still belong to the sentence.
_CJK_CLOSERS = "”’」』】）》〉\"')\\]"
_CJK_END = re.compile(
    rf"(?:[。！？!?…‥｡]+(?: ?[”’」』])?[{_CJK_CLOSERS}]*)+|(?<=[\u3040-\u30ff\u4e00-\u9fff])[.](?=\s|\Z)"
)
_CJK_PAIRS = {"「": "」", "『": "』", "“": "”", "‘": "’", "《": "》", "〈": "〉", "（": "）", "【": "】"}
_CJK_OPENING = {closing: opening for opening, closing in _CJK_PAIRS.items()}
_PAIR_MARK = re.compile("[「」『』“”‘’《》〈〉（）()【】]")
_FULL_WIDTH = {"(": "（", ")": "）"}
# A quotation or bracket up to this length (characters) stays in one piece; longer ones are split inside.
_MAX_WHOLE = 100
_PAUSES = "，、；：,;:"
# What follows a closing quote where the sentence goes on: “……！”的说法, 「…。」等語, 「行こう。」と言った.
_GOES_ON = re.compile(r"[的等之是为為与與和及或とのをがはにでもや]|一[个個词詞语語话話句文书書曲歌事]")
# What stands before a quotation that is a sentence of its own: 他说：“走吧！”
_OPENS_SPEECH = "：:，,。！？；说說道问問喊叫称稱曰云答"
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")

_LATIN_END = re.compile(r"[.!?…。！？।؟۔։]+(?:[ \u00a0\u202f]»)?[\"'”’»)\]]*(?=\s|\Z)")
_ABBREVIATIONS = words(
    """mr mrs ms dr prof rev hon st sr jr gen col sgt capt lt cmdr adm maj gov sen rep pres messrs mme mlle vs
    v etc eg ie cf al approx ca c fl b d r née no nos vol vols pp p ed eds rev trans tr ch sec fig figs inc
    ltd co corp bros dept univ assn mt ft ave blvd rd jan feb mar apr jun jul aug sep sept oct nov dec mon
    tue wed thu fri sat sun e.g i.e a.m p.m u.s u.k u.n ph.d m.d b.a m.a b.c a.d d.c"""
)
_MORE_ABBREVIATIONS = {
    "de": words(
        """abs abt allg art aufl bd bde bspw bzw dipl ebd entspr etw ev evtl geb gegr gest ggf hl hll hrsg inkl ing kgl
        jh jhd jhs kath lat max min mind mio mrd nr österr rd schw sog st std str südl nördl östl westl tel u ugs usf
        usw vgl z zit zw zzgl z.b d.h u.a o.ä"""
    ),
    "fr": words("av apr env m mm mgr boul chap éd ex hab inéd juil janv févr sept oct nov déc n p vol"),
    "es": words("a aprox art cap d dña dto ed etc fig gral hnos núm pág págs sra srta tel ud uds vol"),
}
# After these, a capital letter may well open the next sentence, so the rest of the text decides.
_MAYBE_LAST = words("etc al inc ltd co corp jr sr a.m p.m u.s u.k u.n ph.d b.c a.d d.c")
# Languages that write ordinal numbers with a full stop: 5. Mai, 19. Jahrhundert.
_DOTTED_ORDINALS = words("de als bar nds lb da no nb nn fo is fi et lv cs sk hu sl hr bs sr sh tr hsb dsb")
_ROMAN = re.compile(r"[IVX]{2,5}|[VX]")
_BEFORE = re.compile(r"([\w'’]+(?:\.[\w'’]+)*)\Z")
_OPENERS = "\"'“‘«([—–"
_COMMON_STARTS = re.compile(
    r"(?:The|A|An|In|On|At|It|Its|He|She|His|Her|They|Their|This|These|That|There|However|As|After|Before|"
    r"When|While|For|By|But|And|Although|During|Since|From|With|To|One|Some|Many|Most|Today|Later)\b"
)


def split_sentences(text: str, lang: str) -> list[str]:
    """Split text into sentences, losing nothing but the white space between them.

    Line breaks always end a sentence, and headings and list items are sentences of their own. `lang`, a code
    like "zh" or "de", chooses the rules: full stops of Chinese and Japanese need no space after them; the
    others mind abbreviations, initials, decimals and, where they are written so, ordinal numbers.
    """
    code = lang.partition("-")[0]
    cjk = code in {"zh", "ja", "yue", "wuu", "gan", "lzh"}
    sentences: list[str] = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        ends = _cjk_ends(line) if cjk and _CJK.search(line) else _latin_ends(line, code)
        start = 0
        for end in (*ends, len(line)):
            if sentence := line[start:end].strip():
                sentences.append(sentence)
            start = end
    return sentences


def _cjk_ends(line: str) -> list[int]:
    """Where sentences end in a line of Chinese or Japanese."""
    opening = _pairs(line)
    whole = [(start, end) for end, start in opening.items() if end - start <= _MAX_WHOLE]
    whole.sort()
    dots = "。" not in line  # otherwise a dot belongs to a name: 约翰. 史密斯
    ends: list[int] = []
    start = following = whole_until = 0
    for match in _CJK_END.finditer(line):
        while following < len(whole) and whole[following][0] < match.start():
            whole_until = max(whole_until, whole[following][1])
            following += 1
        end = match.end()
        if whole_until >= end or (match.group() == "." and not dots):
            continue
        opened = opening.get(end - 1, -1)
        if _ends_cjk_sentence(line, match.start(), end, opened, opened == start):
            ends.append(end)
            start = end
    return ends


def _pairs(line: str) -> dict[int, int]:
    """The positions of closing quotes and brackets, with those of their opening ones."""
    opened: dict[str, list[int]] = {}
    pairs = {}
    for match in _PAIR_MARK.finditer(line):
        mark = _FULL_WIDTH.get(match.group(), match.group())
        if mark in _CJK_PAIRS:
            opened.setdefault(mark, []).append(match.start())
        elif positions := opened.get(_CJK_OPENING[mark]):
            pairs[match.start()] = positions.pop()
    return pairs


def _ends_cjk_sentence(line: str, begin: int, end: int, opened: int, opens_sentence: bool) -> bool:
    """Whether the marks from `begin` to `end` end a sentence.

    If the last of them closes something, it was opened at `opened`; -1 if not.
    """
    rest = line[end : end + 20]
    if not rest:
        return True
    mark = line[begin:end]
    if mark in "!?" and line[begin - 1 : begin].isascii() and rest.lstrip()[:1].isascii() | (not rest[0].isspace()):
        return False  # Yahoo!奇摩, a?b, M! Countdown
    if not set(mark) & set("。！？!?｡."):
        return False  # an ellipsis pauses more often than it ends
    if rest[0] in _PAUSES:
        return False
    stop = "。" in mark or "｡" in mark
    if mark[-1] not in _CJK_CLOSERS:
        return stop or rest[0] not in "（("  # la vie！（生活！）
    if mark[-1] in "》〉" or _GOES_ON.match(rest):
        return False
    if mark[-1] in "）)":
        return opens_sentence  # a full stop inside （…） does not end the sentence around it
    # “加油！”三个字: a cry within a sentence does not end it, words spoken do.
    return stop or opened <= 0 or opens_sentence or line[opened - 1] in _OPENS_SPEECH


def _latin_ends(line: str, lang: str) -> list[int]:
    """Where sentences end in a line of a language that writes a space after full stops."""
    abbreviations = _ABBREVIATIONS | _MORE_ABBREVIATIONS.get(lang, frozenset())
    ends = []
    for match in _LATIN_END.finditer(line):
        rest = line[match.end() : match.end() + 40].lstrip()
        first = rest.lstrip(_OPENERS)[:1]
        if first.islower():
            continue  # also keeps “Yahoo! is”, “e.g. this” and an unlisted abbreviation together
        if match.group().startswith(".") and not match.group().startswith(".."):
            word = _BEFORE.search(line, max(0, match.start() - 30), match.start())
            if word and _abbreviated(word.group(1), first, rest, abbreviations, lang in _DOTTED_ORDINALS):
                continue
        ends.append(match.end())
    return ends


def _abbreviated(word: str, first: str, rest: str, abbreviations: frozenset[str], dotted_ordinals: bool) -> bool:
    """Whether the full stop after `word` belongs to it; `rest` follows, `first` is its first letter or digit."""
    lower = word.lower().strip("'’")
    if dotted_ordinals and ((word.isdigit() and len(word) <= 2) or _ROMAN.fullmatch(word)) and first.isalpha():
        return True  # 5. Mai, Friedrich VI. Graf
    if len(word) == 1 and word.isalpha():
        # One capital letter is an initial (J. Smith), unless a word opens that no name begins with; a small one
        # may be short for circa, born or died, or the first of two (z. B.).
        initial = word.isupper() or lower in abbreviations or rest[1:2] == "."
        return initial and _COMMON_STARTS.match(rest) is None
    if lower in {"no", "fig", "sec"}:
        return first.isdigit()
    if lower in _MAYBE_LAST:
        return _COMMON_STARTS.match(rest) is None
    return lower in abbreviations or ("." in word and len(word.replace(".", "")) <= 4 and not word[-1].isdigit())
