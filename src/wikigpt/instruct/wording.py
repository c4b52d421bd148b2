"""Small rules of language: names in running text, values in sentences, made-up names, careless typing."""

import re
import unicodedata
from random import Random

_PARENTHESIS = re.compile(r"\s*[(（][^()（）]*[)）]$")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_TAKES_THE = re.compile(
    r"(?:United (?:States|Kingdom|Nations|Arab Emirates)\b.*|Netherlands|Philippines|Bahamas"
    r"|Maldives|Seychelles|Comoros|Gambia|Central African Republic|Vatican|Czech Republic|Dominican Republic"
    r"|(?:Democratic |People's )?Republic of .*"
    r"|.*\b(?:Islands|Emirates|Mountains|Alps|Andes|Himalayas|Rockies|Ocean|Sea|River|Desert|Peninsula|Archipelago"
    r"|Gulf|Strait|Tower|Canal|Union|Empire|Balkans|Caribbean|Middle East|Levant|Mediterranean)"
    r"|[A-Z]\w+ (?:alphabet|script|syllabary)"
    r"|(?:Gulf|Bay|Isle|Statue|Leaning Tower|Kingdom|Sea) of .*|Nile|Amazon|Congo River|Sun|Moon|Americas)"
)
# Proper names that look like the ones above.
_TAKES_NO_THE = frozenset({"South China Sea Islands", "Easter Island"})


def display_name(title: str) -> str:
    """Return a title without what stands in parentheses behind it: `Mercury (planet)` -> `Mercury`."""
    return _PARENTHESIS.sub("", title) or title


def takes_the(name: str) -> bool:
    """Whether English running text puts "the" before this name, by a short list of countries, waters and the like."""
    return name not in _TAKES_NO_THE and _TAKES_THE.fullmatch(name) is not None


def running_name(name: str, text: str, lang: str) -> str:
    """Return `name` as running text writes it: "the Netherlands", "hydrogen", "the lion".

    In English the article's own text is the evidence: how often the name follows "the" (or "a"), and whether it is
    written with a small letter. Without evidence a short list of names decides. Chinese titles of works get 《》.
    """
    if lang == "zh" and not text.startswith(name) and f"《{name}》" in text[:60]:
        return f"《{name}》"
    if lang != "en" or not name or not name[0].isascii():
        return name
    small = name[0].lower() + name[1:]
    found = re.findall(
        rf"(?:\b([Tt]he|[Aa]n?) )?(?<![\w-])({re.escape(name)}|{re.escape(small)})(?![\w-]| [A-Z])", text
    )
    if not found:
        return f"the {name}" if takes_the(name) else name
    # A small letter in the middle of a sentence shows a common noun; a proper name never has one.
    shown = small if any(form == small for _, form in found) and not name[1:2].isupper() else name
    with_article = sum(bool(article) for article, _ in found)
    return f"the {shown}" if takes_the(name) or 2 * with_article > len(found) else shown


def possessive(name: str, lang: str) -> str:
    """Return "France's", "the Netherlands'", "法国的"."""
    if lang == "zh":
        return f"{name}的"
    plural = name.endswith("s") and takes_the(name.removeprefix("the "))
    return f"{name}'" if plural else f"{name}'s"


def sentence_case(text: str, *, bold: bool = True) -> str:
    """Return `text` with its first letter in upper case, also inside bold unless `bold` is false ("**fr** is …").

    Words such as "iPhone" or "pH" keep their small letter.
    """
    start = 2 if text.startswith("**") else 0
    if start and not bold:
        return text
    first, second = text[start : start + 1], text[start + 1 : start + 2]
    return text if not first.islower() or second.isupper() else text[:start] + first.upper() + text[start + 1 :]


def is_list(value: str, lang: str) -> bool:
    """Whether an infobox value names several things."""
    return bool(re.search(r"[、；;]|[^\d][,，] ?|.和.", value) if lang == "zh" else re.search(r"[;/]|, | and ", value))


def find_value(value: str, text: str) -> list[tuple[int, int]]:
    """Return where `value` stands in `text` as a whole: no letter or digit goes on at its ends (Chinese: anywhere)."""
    spans = []
    start = text.find(value) if value else -1
    while start >= 0:
        end = start + len(value)
        if not (_goes_on(text, start - 1, value[0], -1) or _goes_on(text, end, value[-1], 1)):
            spans.append((start, end))
        start = text.find(value, end)
    return spans


def _goes_on(text: str, i: int, edge: str, step: int) -> bool:
    """Whether the character at `i` belongs to the word or number that has `edge` at its end, in direction `step`."""
    if not 0 <= i < len(text) or _CJK.match(edge) or (step > 0 and not edge.isalnum()):
        return False
    if text[i] in ".,":  # 3.12, 1,200
        return edge.isdigit() and 0 <= i + step < len(text) and text[i + step].isdigit()
    return text[i] == "-" or (text[i].isalnum() and not _CJK.match(text[i]))


def replace_value(text: str, value: str, other: str) -> str:
    """Return `text` with every whole occurrence of `value` replaced by `other`."""
    for start, end in reversed(find_value(value, text)):
        text = text[:start] + other + text[end:]
    return text


def bare(text: str) -> str:
    """Return the letters, digits and Chinese characters of `text`, casefolded: what makes two questions the same."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def careless(question: str, lang: str, rng: Random) -> str:
    """Return `question` as someone in a hurry types it."""
    stripped = question.rstrip("?？。.!！")
    if lang == "zh":
        return rng.choice([stripped, stripped + "?", stripped])
    return rng.choice([stripped, question.lower(), stripped.lower()])


_EN_STARTS = "b br c cl d dr f fl g gl h j k l m n p pr qu r s st t tr v w z"
_EN_MIDDLES = "a e i o u ai ea ou ar en or il an um"
_EN_ENDS = "nd rn x l m sk th via ria don land more tia ka ros vel"
_ZH_NAME = "阿巴贝布茨达德多尔法菲弗格哈赫伊杰卡科库拉莱林洛马梅米莫纳尼诺帕佩皮奇萨塞斯索塔特图瓦维乌西希雅泽佐"


def made_up_name(lang: str, rng: Random) -> str:
    """Return a name that no wiki holds, pronounceable in `lang`."""
    if lang == "zh":
        return "".join(rng.choice(_ZH_NAME) for _ in range(rng.randint(3, 5)))
    syllables = (rng.choice(_EN_STARTS.split()) + rng.choice(_EN_MIDDLES.split()) for _ in range(rng.randint(2, 3)))
    return ("".join(syllables) + rng.choice(_EN_ENDS.split())).capitalize()
