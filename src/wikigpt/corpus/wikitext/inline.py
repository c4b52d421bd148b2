"""The templates whose text has to be computed: dates, languages, quantities, lists, quotes.

What each template shows stands in `templates.toml`; its rules name the handlers of this file as "@date" and the
like (`HANDLERS` at the end). A handler gets a `Call` and returns wikitext.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import COUNTRIES, LANGUAGE_CODES, language_label, language_name
from wikigpt.corpus.wikitext import units
from wikigpt.corpus.wikitext.dates import long_date, month_number
from wikigpt.corpus.wikitext.expressions import expression
from wikigpt.corpus.wikitext.functions import format_number
from wikigpt.corpus.wikitext.infobox import note_facts
from wikigpt.corpus.wikitext.marks import ANY_MARK, GONE, KEEP_CLOSE, KEEP_OPEN, OWN_BRACKETS

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page


@dataclass(slots=True)
class Call:
    """One use of a template: arguments by name, the unnamed ones as "1", "2", …"""

    name: str
    arguments: dict[str, str]
    page: "Page"

    def __getitem__(self, key: int | str) -> str:
        """The argument, stripped; "" if it is absent."""
        return self.arguments.get(str(key), "").strip()

    def first(self, *keys: int | str) -> str:
        """The first of these arguments that is not empty."""
        return next((value for key in keys if (value := self[key])), "")

    def listed(self, start: int = 1) -> list[str]:
        """The unnamed arguments in order from `start` on, empty ones left out."""
        values = []
        for number in range(start, len(self.arguments) + 1):
            value = self[number]
            if value:
                values.append(value)
        return values

    @property
    def lang(self) -> str:
        return self.page.lang

    @property
    def chinese(self) -> bool:
        return self.page.lang == "zh" or self.page.lang.startswith("zh-")

    @property
    def cjk(self) -> bool:
        return self.chinese or self.page.lang == "ja"


Handler = Callable[[Call], str]


# Languages


def foreign(content: str, call: Call) -> str:
    """Text in another language, which must not be converted on a Chinese wiki."""
    if not call.chinese or not content:
        return content
    return f"{KEEP_OPEN}{content.replace(KEEP_OPEN, '').replace(KEEP_CLOSE, '')}{KEEP_CLOSE}"


def verbatim(call: Call) -> str:
    """zh {{jap|駅}}: the first argument, which must not be converted."""
    return foreign(call[1], call) or GONE


def lang(call: Call) -> str:
    """{{lang|fr|Paris}}"""
    content = call.first(2, "text", "texte", "testo")
    return (content if call[1].partition("-")[0] in ("zh", "") else foreign(content, call)) or GONE


def lang_xx(call: Call) -> str:
    """{{lang-fr|Paris}} shows "French: Paris", 法语：Paris"""
    return _labelled(call, call.name.partition("-")[2], call.first(1, "text"), call.first(2, "translit"))


def langx(call: Call) -> str:
    """{{langx|fr|Paris}}, the newer form of {{lang-fr|Paris}}."""
    return _labelled(call, call[1].lower(), call.first(2, "text"), call.first(3, "translit", "tr"))


def _labelled(call: Call, code: str, content: str, roman: str) -> str:
    content = foreign(content, call)
    if not content:
        return GONE
    given = call["label"]
    if given in ("none", "no") or call["links"] == "none":
        label = ""
    elif given:
        label = f"{given}{'：' if call.chinese else ': '}"
    else:
        label = language_label(code, call.lang)
    literal = call["lit"]
    shown = label + content
    if roman and not call.chinese and roman != "-":
        shown += f", {roman}"
    return f"{shown}, lit. '{literal}'" if literal and call.lang in ("en", "simple") else shown


def german_language(call: Call) -> str:
    """de {{enS|London}} shows "englisch London"."""
    return _labelled(call, call.name.removesuffix("s"), call.first(1, "text"), call[2] or call["de"])


def french_language(call: Call) -> str:
    """fr {{en langue|de|Wien}} shows "en allemand : Wien"."""
    return _labelled(call, call[1].lower(), call[2], "")


# In the order of https://en.wikipedia.org/wiki/Template:Lang-zh; English and Chinese label.
_CHINESE_FORMS = {
    "c": ("Chinese", "中文"),
    "s": ("simplified Chinese", "简体中文"),
    "t": ("traditional Chinese", "繁体中文"),
    "p": ("pinyin", "拼音"),
    "hp": ("pinyin", "拼音"),
    "tp": ("Tongyong Pinyin", "通用拼音"),
    "w": ("Wade–Giles", "威妥玛拼音"),
    "j": ("Jyutping", "粤拼"),
    "cy": ("Cantonese Yale", "粤语耶鲁拼音"),
    "sl": ("Sidney Lau", "刘锡祥拼音"),
    "poj": ("Pe̍h-ōe-jī", "白话字"),
    "tl": ("Tâi-lô", "台罗"),
    "zhu": ("Zhuyin Fuhao", "注音"),
    "l": ("lit.", "字面意思"),
    "tr": ("trans.", "翻译"),
}


def lang_zh(call: Call) -> str:
    """{{zh|s=汉语|t=漢語|p=Hànyǔ|l=…}} shows all that is given, each with its label.

    `labels=no` leaves the labels out; `first=t` or `first=j` moves those forms to the front; if both scripts write
    the same, they are shown once.
    """
    values = {key: call[key] for key in _CHINESE_FORMS if call[key]}
    if not values:
        return foreign(call[1], call) or GONE
    if values.get("s") and values.get("s") == values.get("t"):
        values = {"c": values.pop("s")} | {key: value for key, value in values.items() if key != "t"}
    order = list(values)
    moved = re.findall("poj|t|j", call["first"].lower())
    if "t" in moved and "s" in values and "t" in values:
        order.remove("t")
        order.insert(order.index("s"), "t")
    romanised: list[str] = [key for key in ("j", "cy", "sl") if key in values] if "j" in moved else []
    romanised += ["poj"] if "poj" in moved and "poj" in values else []
    if romanised:
        scripts = [key for key in order if key in ("c", "s", "t")]
        order = [*scripts, *romanised, *(key for key in order if key not in (*scripts, *romanised))]
    labels = call["labels"] != "no" and call["out"] != "unlabeled"
    shown = []
    for key in order:
        value = values[key]
        if key in ("l", "tr"):
            value = f"‘{value}’" if call.chinese else f"'{value}'"
        elif key in ("c", "s", "t"):
            value = foreign(value, call)
        name = _CHINESE_FORMS[key][call.chinese]
        label = f"{name}：" if call.chinese else f"{name} " if key in ("l", "tr") else f"{name}: "
        shown.append((label if labels else "") + value)
    return ("；" if call.chinese else "; ").join(shown)


def with_name(call: Call) -> str:
    """zh {{LangWithName|en|英文|London}} shows 英文：London."""
    content = foreign(call[3], call)
    return f"{call[2]}{'：' if call.chinese else ': '}{content}" if content else GONE


def nihongo(call: Call) -> str:
    """{{nihongo|English|kanji|romaji|extra}} shows "English (kanji, romaji, extra)"."""
    values = [value for value in (foreign(call[2], call), call[3], call.first(4, "extra"), call[5]) if value]
    if not call[1] or not values:
        return call[1] or ", ".join(values) or GONE
    return f"{call[1]}（{'，'.join(values)}）" if call.chinese else f"{call[1]} ({', '.join(values)})"


def korean(call: Call) -> str:
    """{{korean|hangul=서울|hanja=…|rr=Seoul}}; {{ko-hhrm|서울|…|Seoul|…}}"""
    labels = {"hangul": "Korean", "hanja": "Hanja", "rr": "RR", "mr": "MR", "lit": "lit."}
    values = {key: call.first(key, number) for number, key in enumerate(labels, start=1)}
    if call["labels"] == "no" or call.lang not in ("en", "simple"):
        return ", ".join(filter(None, values.values())) or GONE
    return "; ".join(f"{labels[key]}: {value}" for key, value in values.items() if value) or GONE


def ipa(call: Call) -> str:
    """{{IPA|[a]}} in running text is kept; with a language, {{IPA|fr|paʁi}}, it is a lead's pronunciation."""
    return GONE if call[2] and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", call[1]) else call[1] or GONE


def ipa_xx(call: Call) -> str:
    """{{IPA-fr|paʁi}} is a lead's pronunciation; {{IPA-fr|ʁ|}}, without a label, stands in a sentence."""
    return f"[{call[1]}]" if call[1] and call.arguments.get("2", "?").strip() in ("", "-") else GONE


def ruby(call: Call) -> str:
    if not call[1]:
        return GONE
    if call.chinese and call[2]:
        return f"{call[1]}({call[2]})"
    return f"{call[1]}（{call[2]}）" if call.lang == "ja" and call[2] else call[1] + (call[2] and f"({call[2]})")


def language(call: Call) -> str:
    """{{#language}} as a template: {{ISO 639 name|fr}}."""
    return language_name(call[1].lower(), call.lang) or GONE


def note_ta(call: Call) -> str:
    """zh {{NoteTA|T=title rule|1=zh-hans:甲;zh-hant:乙|…}}: rules for the whole page."""
    marks = ""
    for key, value in call.arguments.items():
        if key.isdecimal():
            marks += call.page.rules.note(value)
        elif key in ("T", "t"):
            call.page.rules.note_title(value)
    return marks


# Links to what this wiki does not have


def interlanguage(call: Call) -> str:
    """{{ill|Some One|de|Jemand|lt=shown}}; once it was {{ill|de|Jemand|Some One}}."""
    title = call.first(3, 2) if call[1] in LANGUAGE_CODES and call[2] else call[1]
    return call.first("lt", "tekst", "текст") or title or GONE


def helper_link(call: Call) -> str:
    """zh {{internal link helper|lang-code=ja|lang=日語|甲|Foo|d=shown}}, {{ilh|…}}"""
    return call.first("d", "display", 3, 1, 2) or GONE


# Dates and ages


def _number_in(value: str) -> int | None:
    digits = value.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= 4 else None


def _date(call: Call, year: str, month: str, day: str) -> str:
    df = call["df"].lower() in ("y", "yes", "1", "true")
    return long_date(year, month, day, "zh" if call.chinese else call.lang, day_first=df)


def date(call: Call) -> str:
    """{{start date|1950|1|2}}: year, month, day."""
    if len(call[1]) > 4 and not call[2]:  # {{birth-date|2 January 1950}}
        return call[1]
    return _date(call, call[1], call[2], call[3]) or GONE


def date_dmy(call: Call) -> str:
    """{{date|2|janvier|1950}}: day, month, year."""
    if not call[2]:
        return call[1] or GONE
    return _date(call, call[3], call[2], call[1]) or GONE


def date_iso(call: Call) -> str:
    """{{dts|1950-01-02}}, {{DatumZelle|1950-01-02}}"""
    match = re.fullmatch(r"(-?\d{1,4})-(\d{1,2})(?:-(\d{1,2}))?", call[1])
    return _date(call, match.group(1), match.group(2), match.group(3) or "") if match else date(call)


def second_date(call: Call) -> str:
    """{{birth date and age2|2000|1|1|1950|1|2}}: the second date; the first one is "today"."""
    return _date(call, call[4], call[5], call[6]) if call[4] else date(call)


def date_range(call: Call) -> str:
    """{{start and end dates|1950|1|2|1950|3|4}}"""
    start, end = _date(call, call[1], call[2], call[3]), _date(call, call[4], call[5], call[6])
    return f"{start}{'至' if call.chinese else ' – '}{end}" if start and end else start or GONE


_AGED = {
    "en": " (aged {})",
    "simple": " (aged {})",
    "zh": "（{}岁）",
    "ja": "（{}歳没）",
    "fr": " (à {} ans)",
    "es": " ({} años)",
    "pt": " ({} anos)",
    "ko": " ({}세)",
    "it": " ({} anni)",
}


def _years_between(born: tuple[str, ...], died: tuple[str, ...], lang: str) -> int | None:
    """Whole years between two dates of year, month (number or name), day; None if one is not known."""
    numbers = [month_number(value, lang) if i in (1, 4) else _number_in(value) for i, value in enumerate(died + born)]
    if None in numbers:
        return None
    year, month, day, born_year, born_month, born_day = (number or 0 for number in numbers)
    age = year - born_year - ((month, day) < (born_month, born_day))
    return age if 0 <= age <= 150 else None


def _aged(shown: str, age: int | None, call: Call) -> str:
    return shown + _AGED.get("zh" if call.chinese else call.lang, "").format(age) if age is not None else shown


def death_and_age(call: Call) -> str:
    """{{death date and age|1950|5|6|1900|2|3}}: the date, with the age then."""
    died, born = (call[1], call[2], call[3]), (call[4], call[5], call[6])
    return _aged(date(call), _years_between(born, died, call.lang), call)


def death_and_age_dmy(call: Call) -> str:
    """es {{fecha de fallecimiento|6|5|1950|3|2|1900}}"""
    died, born = (call[3], call[2], call[1]), (call[6], call[5], call[4])
    return _aged(date_dmy(call), _years_between(born, died, call.lang), call)


def birth_then_death(call: Call) -> str:
    """ja {{死亡年月日と没年齢|1900|2|3|1950|5|6}}: the birth comes first, the death is shown."""
    born, died = (call[1], call[2], call[3]), (call[4], call[5], call[6])
    shown = _date(call, *died)
    return _aged(shown, _years_between(born, died, call.lang), call) if shown else GONE


def age(call: Call) -> str:
    """{{age|1950|1|2|2000|1|1}}; without a second date it depends on today."""
    years = _years_between((call[1], call[2], call[3]), (call[4], call[5], call[6]), call.lang)
    return GONE if years is None else f"{years}歳" if call.lang == "ja" else str(years)


def birth_death(call: Call) -> str:
    """zh {{bd|1900年|1月2日|1950年|3月4日}} shows （1900年1月2日－1950年3月4日）."""
    born, died = call[1] + call[2], call[3] + call[4]
    return f"{OWN_BRACKETS}（{born}－{died}）" if born or died else GONE


def as_of(call: Call) -> str:
    if call["alt"]:
        return call["alt"]
    day = date(call)
    if day == GONE:
        return GONE
    if call.chinese:
        return f"截至{day}"
    since = call["since"].lower() in ("y", "yes")
    word = "since" if since else "as of"
    return f"{word if call['lc'] else word.capitalize()} {day}"


def old_style_date(call: Call) -> str:
    """{{OldStyleDate|2 February|1905|20 January}} shows "2 February [O.S. 20 January] 1905"."""
    old = f" [O.S. {call[3]}]" if call.lang in ("en", "simple") else f" [{call[3]}]"
    return f"{call[1]}{old if call[3] else ''} {call[2]}".strip() or GONE


_ERAS = (("令和", 2019), ("平成", 1989), ("昭和", 1926), ("大正", 1912), ("明治", 1868))


def japanese_era(call: Call) -> str:
    """ja {{和暦|1990}} shows 平成2年."""
    year = _number_in(call[1])
    for name, first in _ERAS:
        if year and year >= first:
            return f"{name}{'元' if year == first else year - first + 1}年"
    return GONE


# fr {{s-|XIX}}, {{s-av|V}}


def french_century(call: Call) -> str:
    """fr {{s|XX}} shows "XXe siècle", {{sav|V}} "Ve siècle av. J.-C."; {{s2|XIX|XX}} "XIXe et XXe siècles"."""
    numerals = [value.upper() for value in call.listed() if re.fullmatch(r"[IVXLivxl]{1,6}", value)]
    if not numerals:
        return GONE
    ordinals = [f"{value}{'er' if value == 'I' else 'e'}" for value in numerals]
    if "mini" in call.name:
        return ordinals[0]
    before = " av. J.-C." if "av" in call.name or call.name in ("-s", "-s-") else ""
    return f"{' et '.join(ordinals)} siècle{'s' if len(ordinals) > 1 else ''}{before}"


def spanish_century(call: Call) -> str:
    """es {{siglo|V|a|s}} shows "siglo V a. C."; the last argument asks for the word, in ca {{segle|V|s}} too."""
    if not call[1]:
        return GONE
    style = call[3] or call[2]
    word = {"ca": "segle ", "gl": "século "}.get(call.lang, "siglo ") if style in ("s", "S") else ""
    return f"{word.capitalize() if style == 'S' else word}{call[1]}{' a. C.' if call[2] == 'a' else ''}"


# Numbers


def convert(call: Call) -> str:
    named = call.arguments
    if call.name == "cvt" and not call["abbr"]:
        named = named | {"abbr": "on"}
    return units.convert(call.listed(), named, "zh" if call.chinese else call.lang) or GONE


def height(call: Call) -> str:
    """{{height|ft=6|in=2}}, {{height|m=1.88}}"""
    if call["m"] or call["cm"]:
        values = [call.first("m", "cm"), "m" if call["m"] else "cm", "ftin"]
    elif call["ft"]:
        values = [call["ft"], "ft", call["in"] or "0", "in", "m"]
    else:
        return GONE
    return units.convert(values, {"abbr": "on"}, "zh" if call.chinese else call.lang)


def number(call: Call) -> str:
    """{{formatnum|1234}}, ru {{число|1234}}; a unit may follow: fr {{nb|1234|habitants}}."""
    return " ".join([format_number(call[1], call.lang), *call.listed(2)]) if call[1] else GONE


def quantity(call: Call) -> str:
    """fr {{unité|1234|km}}, {{unité|10|m|2|s|-1}}: numbers, units, and the exponents of these."""
    shown = ""
    after_unit = False
    for value in call.listed():
        digits = re.fullmatch(r"[-−+]?\d+([.,]\d+)?", value) is not None
        if digits and after_unit:
            shown += f"<sup>{value.replace('-', '−')}</sup>"
        else:
            shown += (" " if shown else "") + (format_number(value, call.lang) if digits else value)
            after_unit = not digits and value not in ("à", "et", "ou", "x", "×", "-", "–", "±")
    return shown or GONE


def fraction(call: Call) -> str:
    """{{frac|3|1|2}} shows 3 1/2."""
    values = call.listed()
    if len(values) == 1:
        return f"1/{values[0]}"
    if len(values) == 2:
        return f"{values[0]}/{values[1]}"
    return f"{values[0]} {values[1]}/{values[2]}" if values else GONE


def value(call: Call) -> str:
    """{{val|1.23|0.05|e=6|u=km}} shows 1.23±0.05×10⁶ km; two errors are an upper and a lower one."""
    shown = format_number(call[1], call.lang)
    if call[3]:
        shown += f"<sup>+{call[2].lstrip('+')}</sup><sub>−{call[3].lstrip('-−')}</sub>"
    elif call[2]:
        shown += call[2] if call[2].startswith("(") else f"±{call[2]}"
    if call["e"]:
        shown += f"{'×' if shown else ''}10<sup>{call['e'].replace('-', '−')}</sup>"
    unit = _raised_powers(call.first("u", "ul"))
    per = _raised_powers(call.first("up", "upl"))
    if unit or per:
        shown += ("" if unit in ("%", "°", "°C", "′", "″") else " ") + unit + (f"/{per}" if per else "")
    end = call.first("end", "s", "suffix")
    return call.first("p", "pre") + shown + end or GONE


def _raised_powers(unit: str) -> str:
    """m/s2 -> m/s²"""
    return re.sub(r"(?<=[A-Za-z])[-−]?\d", lambda match: f"<sup>{match.group().replace('-', '−')}</sup>", unit)


def percentage(call: Call) -> str:
    """{{percentage|3|12|1}} shows 25.0%."""
    try:
        part, whole = float(call[1]), float(call[2] or 100)
        digits = int(call[3] or 0)
        return f"{100 * part / whole:.{min(max(digits, 0), 9)}f}%"
    except (ValueError, ZeroDivisionError, OverflowError):
        return GONE


def ordinal(call: Call) -> str:
    """1 -> 1st, 12 -> 12th."""
    digits = call[1]
    if not digits.isdecimal():
        return digits or GONE
    suffix = {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")
    return digits + ("th" if digits[-2:-1] == "1" else suffix)


def spelled(call: Call) -> str:
    """{{number in words|42}} shows "forty-two"."""
    return units.in_words(int(call[1])) if re.fullmatch(r"\d{1,6}", call[1], re.ASCII) else call[1] or GONE


_ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
          (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip


def roman(call: Call) -> str:
    rest = _number_in(call[1])
    if not rest:
        return call[1] or GONE
    shown = ""
    for amount, sign in _ROMAN:
        shown += sign * (rest // amount)
        rest %= amount
    return shown


def population_density(call: Call) -> str:
    """{{pop density|1000|50|km2|sqmi}}"""
    people = re.fullmatch(r"[\d,]{1,15}", call[1])
    area = re.fullmatch(r"[\d,]{1,15}(?:\.\d{1,6})?", call[2])
    size = float(call[2].replace(",", "")) if area else 0.0
    if not people or not size:
        return GONE
    density = f"{float(call[1].replace(',', '') or 0) / size:.{1 if call['prec'] == '1' else 0}f}"
    return units.convert([density, f"/{call[3]}"], {"abbr": "on"}, "zh" if call.chinese else call.lang)


def rounded(call: Call) -> str:
    """{{round|1234.5|-2}}"""
    return format_number(expression(f"({call[1]}) round ({call[2] or 0})"), call.lang)


_RUPEES = {"c": " crore", "l": " lakh", "b": " billion", "m": " million", "k": " thousand"}


def rupees(call: Call) -> str:
    """{{INRConvert|5|c}} shows ₹5 crore; what that was in dollars changes."""
    return f"₹{call[1]}{_RUPEES.get(call[2].lower(), '')}" if call[1] else GONE


_NOTES = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮", "doublesharp": "𝄪", "doubleflat": "𝄫"}


def music(call: Call) -> str:
    """{{music|flat}}"""
    return _NOTES.get(call[1].lower()) or call.first(2, 1) or GONE


def tex(call: Call) -> str:
    """{{tmath|a^2}}"""
    return call.page.literal(f"${ANY_MARK.sub('', call[1])}$") if call[1] else GONE


def calculated(call: Call) -> str:
    """{{#expr}} as a template: {{calc|1+1}}."""
    return expression(call[1]) or GONE


SUBSCRIPT = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_CHARGE = re.compile(r"(?:\((\d*[-+−])\)|\^(\d*[-+−]))")
_IN_FORMULA = re.compile(r"(?<=[A-Za-z)\]])\d+")


def chemical(formula: str) -> str:
    """Lower the numbers of a chemical formula and raise its charge: H2O -> H₂O, SO4(2-) -> SO₄²⁻."""
    formula = _CHARGE.sub(lambda match: f"<sup>{(match.group(1) or match.group(2)).replace('-', '−')}</sup>", formula)
    return _IN_FORMULA.sub(lambda match: match.group().translate(SUBSCRIPT), formula)


def chem(call: Call) -> str:
    """{{chem|SO|4|2-}}: letters and, each on its own, the numbers and charges behind them. {{chem2|SO4(2-)}}"""
    shown = ""
    for value in call.listed():
        if shown and re.fullmatch(r"\d*[-+−]", value):
            shown += f"<sup>{value.replace('-', '−')}</sup>"
        else:
            shown += value
    return chemical(shown).replace("\n", "") or GONE


def unichar(call: Call) -> str:
    """{{unichar|0041|Latin capital letter A}} shows "U+0041 A LATIN CAPITAL LETTER A"."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2,6}", call[1]) or int(call[1], 16) < 32:
        return GONE
    return f"U+{call[1].upper()} &#x{call[1]}; {call[2].upper()}".strip()


# Lists, quotes, names


def bullets(call: Call) -> str:
    return "".join(f"\n* {value}" for value in call.listed()) + "\n"


def listed(call: Call) -> str:
    """{{cslist|a|b}} shows "a, b"."""
    return ("、" if call.cjk else ", ").join(call.listed()) or GONE


def columns(call: Call) -> str:
    """{{columns|col1=…|col2=…}}"""
    return "".join(f"\n{call[f'col{number}']}\n" for number in range(1, 7) if call[f"col{number}"])


def quote(call: Call) -> str:
    """{{quote|text|author|source}} as a paragraph."""
    quoted = call.first(1, "text", "quote", "content", "testo", "tekst", "texte", "texto", "цитата")
    if not quoted:
        return GONE
    who = call.first(2, "author", "sign", "by", "autor", "auteur", "autore", "автор").lstrip("—–- ")
    where = call.first(3, "source", "title", "obra", "источник").lstrip("—–- ")
    source = ", ".join(value for value in (who, where) if value)
    return f"\n\n{quoted}\n\n" + (f"— {source}\n\n" if source else "")


def ship(call: Call) -> str:
    """{{USS|Enterprise|CV-6|3}}: name, hull number, which of them to show."""
    prefix, at = (call[1], 2) if call.name == "ship" else (call.name.upper(), 1)
    name, number, form = call[at], call[at + 1], call[at + 2]
    if form == "1":
        return number or name
    shown = name if form in ("2", "5", "6") else f"{prefix} {name}".strip()
    return f"{shown} ({number})" if number and form not in ("2", "3") else shown or GONE


def marriage(call: Call) -> str:
    years = "–".join(value for value in (call[2], call[3]) if value)
    return f"{call[1]} (m. {years})" if years else call[1] or GONE


_FORMS = {
    "jpn": {"j": "日语", "hg": "平假名", "kk": "片假名", "rm": "罗马字"},
    "kor": {"hg": "谚文", "hj": "汉字", "rr": "罗马字", "rm": "罗马字"},
}


def country(call: Call) -> str:
    """{{USA}}: a flag and the country's name; only known to us in two languages.

    Not to be taken for it: zh {{jpn|j=東京|hg=とうきょう|rm=Tōkyō}}, a word and how it is written.
    """
    forms = [f"{label}：{foreign(call[key], call)}" for key, label in _FORMS.get(call.name, {}).items() if call[key]]
    if forms:
        return "，".join(forms)
    names = COUNTRIES.get(call.name.upper())
    return names[call.chinese] if names and (call.chinese or call.lang in ("en", "simple")) else GONE


def flag(call: Call) -> str:
    """{{flag|France}}, {{flag|FRA}}: a picture and the name."""
    given = call.first("name", "nombre", 1)
    names = COUNTRIES.get(given) if call.chinese or call.lang in ("en", "simple") else None
    return names[call.chinese] if names else given or GONE


_GAUGES = {
    "sg": "1,435 mm (4 ft 8 1/2 in) standard gauge",
    "ussg": "4 ft 8 1/2 in (1,435 mm) standard gauge",
    "uksg": "4 ft 8 1/2 in (1,435 mm) standard gauge",
    "1435mm": "1,435 mm (4 ft 8 1/2 in)",
    "1000mm": "1,000 mm (3 ft 3 3/8 in)",
    "1067mm": "1,067 mm (3 ft 6 in)",
    "1520mm": "1,520 mm (4 ft 11 27/32 in)",
    "1668mm": "1,668 mm (5 ft 5 21/32 in)",
    "3ft6in": "3 ft 6 in (1,067 mm)",
    "3ft": "3 ft (914 mm)",
    "2ft": "2 ft (610 mm)",
    "5ft3in": "5 ft 3 in (1,600 mm)",
    "5ft6in": "5 ft 6 in (1,676 mm)",
}


def gauge(call: Call) -> str:
    key = call[1].replace(" ", "").replace(",", "").lower()
    return call["al"] or _GAUGES.get(key) or _GAUGES.get(f"{key}mm") or call[1] or GONE


def itself(call: Call) -> str:
    """fr {{XVe siècle}} shows its own name, the numeral in capitals."""
    return re.sub(r"\A[ivxl]+(?=(?:er|re|e)\b)", lambda match: match.group().upper(), call.name)


def bio(call: Call) -> str:
    """it {{Bio|Nome=…|AnnoNascita=…|Attività=…|…}} writes the first sentence of an article about a person."""
    name = " ".join(filter(None, (call["Titolo"], call["Nome"], call["Cognome"]))) + call["PostCognome"]
    if not name:
        return GONE
    note_facts(call.arguments, call.page)
    born = _place_and_date(call, "Nascita")
    died = _place_and_date(call, "Morte")
    dates = f" ({born}{f' – {died}' if died else ''})" if born or died else ""
    work = [call[key] for key in ("Attività", "Attività2", "Attività3") if call[key]]
    text = ", ".join(work[:-1]) + " e " + work[-1] if len(work) > 1 else "".join(work)
    text = f"{text}{call['AttivitàAltre']} {call['Nazionalità']}".strip()
    female = call["Sesso"].upper() == "F"
    if call["FineIncipit"]:
        end = call["FineIncipit"]
    elif not text:
        end = ""
    else:
        verb = ("è stata" if female else "è stato") if call["AnnoMorte"] else "è"
        article = _italian_article(text, female)
        end = f"{verb} {article}{text}{call['PostNazionalità']}"
    return f"\n'''{name}'''{dates}{' ' if end and end[0] not in ',.;' else ''}{end}.\n"


def _place_and_date(call: Call, what: str) -> str:
    """ "Roma, 2 gennaio 1950" of {{Bio}}'s LuogoNascita, GiornoMeseNascita and AnnoNascita."""
    day = f"{call[f'GiornoMese{what}']} {call[f'Anno{what}']}".strip()
    return ", ".join(filter(None, (call[f"Luogo{what}"], day)))


def _italian_article(noun: str, female: bool) -> str:
    first = ANY_MARK.sub("", noun).lstrip("[ ").lower()
    if female:
        return "un'" if first[:1] in tuple("aeiou") else "una "
    special = first.startswith(("z", "gn", "ps", "pn", "x")) or (first[:1] == "s" and first[1:2] not in tuple("aeiou"))
    return "uno " if special else "un "


HANDLERS: dict[str, Handler] = {
    function.__name__: function
    for function in (
        age, as_of, bio, birth_death, birth_then_death, bullets, calculated, chem, columns, convert, country,
        date, date_dmy, date_iso, date_range, death_and_age, death_and_age_dmy, flag, fraction,
        french_century, french_language, gauge, german_language, height, helper_link, interlanguage, ipa,
        ipa_xx, itself, japanese_era, korean, lang, lang_xx, lang_zh, language, langx, listed, marriage,
        music, nihongo, note_ta, number, old_style_date, ordinal, percentage, population_density, quantity,
        quote, roman, rounded, ruby, rupees, second_date, ship, spanish_century, spelled, tex, unichar, value,
        verbatim, with_name,
    )
}  # fmt: skip
