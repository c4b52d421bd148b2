"""Which articles are worth learning from; each refusal has a reason that is counted."""

import re
import unicodedata

from wikigpt.corpus.languages import words

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+")
_SCRIPTS = {
    "han": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"),
    "japanese": re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"),
    "hangul": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]+"),
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+"),
    "cyrillic": re.compile(r"[\u0400-\u052f]+"),
    "greek": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]+"),
    "arabic": re.compile(r"[\u0600-\u06ff\u0750-\u077f]+"),
    "hebrew": re.compile(r"[\u0590-\u05ff]+"),
    "thai": re.compile(r"[\u0e00-\u0e7f]+"),
    "devanagari": re.compile(r"[\u0900-\u097f]+"),
}
_SCRIPT_OF = {
    **dict.fromkeys(("zh", "yue", "wuu", "gan", "lzh"), "han"),
    "ja": "japanese",
    "ko": "hangul",
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), "cyrillic"),
    **dict.fromkeys(
        words(
            """en simple de fr es it pt nl sv da no nb nn fi pl cs sk hu ro tr id ms vi ca eu gl et lv lt sl hr
            is ga cy la eo"""
        ),
        "latin",
    ),
    "el": "greek",
    **dict.fromkeys(("ar", "fa", "ur"), "arabic"),
    **dict.fromkeys(("he", "yi"), "hebrew"),
    "th": "thai",
    **dict.fromkeys(("hi", "mr", "ne"), "devanagari"),
}
_LETTER = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
_ODD_SPACE = re.compile(r"[\t\u00a0\u2002-\u200a\u202f\u205f]")
_SAMPLE = 1000  # characters looked at to judge the script
_NOT_ENGLISH = bytes({*range(128)} - {*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"})
_HAN_BLOCKS = bytes(range(0x4E, 0x9F))  # U+4E00 to U+9EFF


def weight(text: str) -> int:
    """Length in characters, where a CJK character, which says as much as a short word, counts twice."""
    return len(text) + _count(_CJK, text)


def _count(characters: re.Pattern[str], text: str) -> int:
    return sum(map(len, characters.findall(text)))


def single_spaces(text: str) -> str:
    """One ordinary space for each run of tabs, no-break spaces and the like (but not the ideographic space)."""
    text = _ODD_SPACE.sub(" ", text)
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def few_empty_lines(text: str) -> str:
    """At most one empty line in a row."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def normalise(text: str) -> str:
    """NFC, without control characters and lone surrogates."""
    return unicodedata.normalize("NFC", _CONTROL.sub("", text))


# Sections that hold references and links, not knowledge. Lower case.
BOILERPLATE = words(
    """see_also references external_links further_reading notes footnotes bibliography sources citations
    notes_and_references references_and_notes works_cited related_pages other_websites
    参考文献 参考资料 參考文獻 參考資料 参考来源 參考來源 参考 參考 参考书目 參考書目 外部链接 外部連結 外部连结
    参见 參見 参看 參看 参阅 參閱 延伸阅读 延伸閱讀 扩展阅读 擴展閱讀 注释 註釋 注釋 脚注 腳註 注脚 註腳 备注 備註
    相关条目 相關條目 相关链接 来源 來源 资料来源 資料來源 参考文献和注释 注释与参考文献 注释和参考文献
    关联项目 出典 関連項目 外部リンク 각주 참고_문헌 외부_링크 같이_보기
    einzelnachweise weblinks literatur siehe_auch quellen notes_et_références références liens_externes voir_aussi
    bibliographie annexes articles_connexes referencias enlaces_externos véase_también bibliografía notas note
    bibliografia voci_correlate collegamenti_esterni altri_progetti примечания ссылки литература см._также"""
)


_HEADING = re.compile(r"\n##[^ \n]* ([^\n]*)")
_AROUND_NAMES = " :："


def without_boilerplate(text: str) -> tuple[str, int]:
    """The text without its sections of references and links, and how many there were."""
    if not any(name.strip(_AROUND_NAMES).lower() in BOILERPLATE for name in _HEADING.findall("\n" + text)):
        return text, 0
    kept: list[str] = []
    dropping = dropped = 0  # `dropping`: level of the section that is being dropped
    lead, *sections = ("\n" + text).split("\n##")
    for section in sections:
        marks, _, name = section[:80].partition("\n")[0].partition(" ")
        level = len(marks)
        if level < dropping or not dropping:
            dropping = level + 1 if name.strip(_AROUND_NAMES).lower() in BOILERPLATE else 0
            dropped += dropping > 0
        if not dropping:
            kept.append(section)
    if not dropped:
        return text, 0
    return few_empty_lines("\n##".join([lead, *kept])).strip(), dropped


def _at_least(script: str | None, text: str) -> int:
    """So many letters of the script, or more, are in the text: told in a twentieth of the time of counting all."""
    if script == "latin":
        return len(text.encode("ascii", "ignore").translate(None, _NOT_ENGLISH))
    if script in ("han", "japanese"):
        high = text.encode("utf-16-be", "surrogatepass")[::2]
        return len(high) - len(high.translate(None, _HAN_BLOCKS))
    return 0


def reason_to_drop(text: str, lang: str, min_chars: int) -> str | None:
    """Why an article should not be in the corpus, or None if it should."""
    if not text:
        return "empty"
    if len(text) < min_chars and weight(text) < min_chars:
        return "too_short"
    sample = text[:_SAMPLE]
    script = _SCRIPT_OF.get(lang)
    if _at_least(script, sample) >= 0.4 * len(sample):  # of nearly all articles, which then pass what follows
        return None
    letters = _count(_LETTER, sample)
    if letters < 0.4 * len(sample.replace(" ", "").replace("\n", "")):
        return "not_text"
    if script == "latin" and sample.isascii():
        return None
    # A Chinese character says as much as two or three letters of the Latin words between them.
    least = 0.15 if script in ("han", "japanese") else 0.3
    if script and _count(_SCRIPTS[script], sample) < least * letters:
        return "wrong_script"
    return None
