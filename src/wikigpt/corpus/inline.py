"""The table of templates that stand in running text: what each of them shows to a reader.

`INLINE` maps names (lower case, spaces) to handlers; a handler gets a `Call` and returns wikitext. A template
that is not in the table shows nothing: most of the hundred thousand templates of a wiki are boxes, notices
and references.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wikigpt.corpus import units
from wikigpt.corpus.functions import format_number
from wikigpt.corpus.languages import COUNTRIES, language_name
from wikigpt.corpus.marks import GONE, GONE_WITH_BRACKETS, KEEP_CLOSE, KEEP_OPEN, OWN_BRACKETS
from wikigpt.corpus.variants import FALLBACKS, parse_rule, pick

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext import Page


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

    def listed(self) -> list[str]:
        """The unnamed arguments in order, empty ones left out."""
        values = []
        for number in range(1, len(self.arguments) + 1):
            value = self[number]
            if value:
                values.append(value)
        return values

    @property
    def chinese(self) -> bool:
        return self.page.lang.partition("-")[0] == "zh"


Handler = Callable[[Call], str]


def show(*keys: int | str) -> Handler:
    """Show the first of these arguments that is not empty."""
    return lambda call: call.first(*keys)


def text(shown: str) -> Handler:
    """Always show the same."""
    return lambda call: shown


def around(before: str, after: str = "") -> Handler:
    """Show the first argument between two strings."""
    return lambda call: f"{before}{call[1]}{after}" if call[1] else ""


def joined(separator: str) -> Handler:
    """Show the unnamed arguments with a separator between them."""
    return lambda call: separator.join(call.listed())


def dropped(call: Call) -> str:
    return GONE


def foreign(content: str, call: Call) -> str:
    """Text in another language, which must not be converted on a Chinese wiki."""
    if not call.chinese or not content:
        return content
    return f"{KEEP_OPEN}{content.replace(KEEP_OPEN, '').replace(KEEP_CLOSE, '')}{KEEP_CLOSE}"


def _lang(call: Call) -> str:
    content = call.first(2, "text")
    return content if call[1].partition("-")[0] in ("zh", "") else foreign(content, call)


def _lang_xx(call: Call) -> str:
    """{{lang-fr|Paris}} shows "French: Paris", 法语：Paris"""
    code = call.name.partition("-")[2]
    content = foreign(call.first(1, "text"), call)
    if not content:
        return GONE
    name = "" if call["label"] in ("none", "no") else (call["label"] or language_name(code, call.page.lang) or "")
    shown = f"{name}{'：' if call.chinese else ': '}{content}" if name else content
    roman = call.first(2, "translit") if not call.chinese else ""
    return f"{shown}, {roman}" if roman else shown


def _langx(call: Call) -> str:
    """{{langx|fr|Paris}}, the newer form of {{lang-fr|Paris}}."""
    moved = {"1": call[2], "2": call[3], "label": call["label"], "text": call["text"]}
    return _lang_xx(Call(f"lang-{call[1]}", moved, call.page))


def _lang_zh(call: Call) -> str:
    labels = {"t": "traditional Chinese", "s": "simplified Chinese", "c": "Chinese", "p": "pinyin", "l": "lit."}
    shown = [f"{label}: {call[key]}" for key, label in labels.items() if call[key]]
    return "; ".join(shown) or call[1]


def _nihongo(call: Call) -> str:
    """{{nihongo|English|kanji|romaji|extra}} shows "English (kanji, romaji, extra)"."""
    values = [value for value in (foreign(call[2], call), call[3], call.first(4, "extra")) if value]
    if not call[1] or not values:
        return call[1] or ", ".join(values)
    return f"{call[1]}（{'，'.join(values)}）" if call.chinese else f"{call[1]} ({', '.join(values)})"


def _ipa(call: Call) -> str:
    """{{IPA|[a]}} in running text is kept; with a language, {{IPA|fr|paʁi}}, it is a lead's pronunciation."""
    return GONE if call[2] else call[1]


def _link_from(call: Call) -> str:
    """{{link-en|local title|foreign title|shown}}, {{le|…}}: zh helpers for pages that only exist elsewhere."""
    return call.first("d", 3, 1, 2)


def _link_to(call: Call) -> str:
    """{{tsl|en|foreign title|local title|shown}}"""
    return call.first(4, 3, 2)


def _ill(call: Call) -> str:
    """{{ill|Title|de|Titel|lt=shown}}"""
    return call.first("lt", 1)


def _number_in(value: str) -> int | None:
    digits = value.strip()
    return int(digits) if digits.isdigit() and len(digits) <= 4 else None


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def date_text(call: Call, start: int = 1) -> str:
    """The date in three arguments from `start` on, as English or Chinese writes it."""
    year, month, day = call[start], call[start + 1], call[start + 2]
    number = _number_in(month)
    if number is not None and 1 <= number <= 12:
        if call.chinese:
            return f"{year}年{number}月" + (f"{day.lstrip('0')}日" if day else "")
        name = _MONTHS[number - 1]
        if not day:
            return f"{name} {year}"
        day = day.lstrip("0")
        return f"{day} {name} {year}" if call["df"] in ("y", "yes") else f"{name} {day}, {year}"
    if call.chinese and _number_in(year) is not None:
        return f"{year}年"
    return year


def _date_and_age(call: Call) -> str:
    """{{death date and age|1950|5|6|1900|2|3}}: the date, with the age then."""
    shown = date_text(call)
    numbers = [_number_in(call[i]) for i in range(1, 7)]
    if None in numbers:
        return shown
    year, month, day, born, born_month, born_day = (number or 0 for number in numbers)
    age = year - born - ((month, day) < (born_month, born_day))
    return f"{shown}（{age}岁）" if call.chinese else f"{shown} (aged {age})"


def _birth_death(call: Call) -> str:
    """zh {{bd|1900年|1月2日|1950年|3月4日}} shows （1900年1月2日－1950年3月4日）."""
    born, died = call[1] + call[2], call[3] + call[4]
    return f"{OWN_BRACKETS}（{born}－{died}）" if born else GONE


def _as_of(call: Call) -> str:
    day = date_text(call)
    if call["alt"]:
        return call["alt"]
    if call.chinese:
        return f"截至{day}"
    return f"{'as' if call['lc'] else 'As'} of {day}"


def _fraction(call: Call) -> str:
    """{{frac|3|1|2}} shows 3 1/2."""
    values = call.listed()
    if len(values) == 1:
        return f"1/{values[0]}"
    if len(values) == 2:
        return f"{values[0]}/{values[1]}"
    return f"{values[0]} {values[1]}/{values[2]}" if values else ""


def _val(call: Call) -> str:
    """{{val|1.23|0.05|e=6|u=km}} shows 1.23±0.05×10⁶ km."""
    shown = format_number(call[1])
    if call[2]:
        shown += f"±{call[2]}"
    if call["e"]:
        shown += f"×10<sup>{call['e']}</sup>"
    unit = call.first("u", "ul")
    per = call.first("up", "upl")
    if unit:
        shown += ("" if unit in ("%", "°", "°C") else " ") + unit + (f"/{per}" if per else "")
    return call["p"] + shown + call["s"]


SUBSCRIPT = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")


def chemical(formula: str) -> str:
    """Lower the numbers of a chemical formula: H2O -> H₂O."""
    return re.sub(r"(?<=[A-Za-z)\]])\d+", lambda match: match.group().translate(SUBSCRIPT), formula)


def _chem(call: Call) -> str:
    return chemical("".join(call.listed())).replace("\n", "")


def _ruby(call: Call) -> str:
    return f"{call[1]}({call[2]})" if call[2] else call[1]


def _bullets(call: Call) -> str:
    return "".join(f"\n* {value}" for value in call.listed()) + "\n"


def _quote(call: Call) -> str:
    quoted = call.first(1, "text", "quote", "content")
    if not quoted:
        return GONE
    who, where = call.first(2, "author", "sign", "by").lstrip("—–- "), call.first(3, "source", "title")
    source = ", ".join(value for value in (who, where) if value)
    return f"\n\n{quoted}\n\n" + (f"— {source}\n\n" if source else "")


def _note_ta(call: Call) -> str:
    """zh {{NoteTA|T=title rule|1=zh-hans:甲;zh-hant:乙|…}}: rules for the whole page."""
    marks = ""
    for key, value in call.arguments.items():
        if key.isdigit() or key in ("T", "t"):
            texts, one_way = parse_rule(value)
            if key.isdigit():
                marks += call.page.rules.add(texts, one_way)
            else:
                call.page.rules.set_title(pick(texts, call.page.rules.variant) or "")
    return marks


def _flag(call: Call) -> str:
    """{{flag|France}} shows a picture and the name."""
    return call.first("name", 2, 1) if call.name != "flagicon" else ""


def _marriage(call: Call) -> str:
    years = "–".join(value for value in (call[2], call[3]) if value)
    return f"{call[1]} (m. {years})" if years else call[1]


def _coordinate(call: Call) -> str:
    return GONE


def _multiple_columns(call: Call) -> str:
    return "\n" + call.first(1, "content") + "\n"


def _unit_fr(call: Call) -> str:
    return " ".join(call.listed())


def by_prefix(name: str) -> Handler | None:
    """Families of templates whose members share the beginning of their name."""
    if name.startswith("lang-") and name != "lang-zh":
        return _lang_xx
    if name.startswith("internal link helper/") or (name.startswith("link-") and len(name) <= 8):
        return _link_from
    if name.startswith(("ipa-", "ipac-")):
        return dropped
    if name.startswith("zh-") and name in FALLBACKS:
        return show(1)
    return None


def _country(call: Call) -> str:
    """{{USA}}: a flag and the country's name; only known to us in two languages."""
    names = COUNTRIES[call.name.upper()]
    return names[call.chinese] if call.page.lang in ("en", "simple", "zh") else GONE


def _table(*groups: tuple[str, Handler]) -> dict[str, Handler]:
    """Names separated by `|` in each group, all shown by the same handler."""
    return {name.strip(): handler for names, handler in groups for name in names.split("|")}


INLINE: dict[str, Handler] = _table(
    ("nowrap|nobr|nobreak|j|no wrap|small|smaller|smalldiv|big|larger|large|resize|midsize", show(1)),
    ("sc|small caps|smallcaps|sc2|sc1|allcaps|nobold|noitalic|normal|bold|strong|em|italic|b|i|u", show(1)),
    (
        "mono|mono text|code|codett|tt|kbd|key|keypress|key press|samp|var|mvar|unicode|math|bigmath|mathcal",
        show(1),
    ),
    ("not a typo|proper name|linktext|abbr|abbrlink|tooltip|visible anchor|vanchor|okina|angbr ipa", show(1)),
    ("sic", lambda call: call[1] + call[2] or GONE),
    ("angbr|angle bracket", around("⟨", "⟩")),
    (
        "color|font color|colored text|fontcolor|font|span|highlight|fs|fontsize",
        lambda call: call.first("text", 2, 1),
    ),
    (
        "script|script/hebrew|hebrew|script/arabic|script/nastaliq|polytonic|music|zh-no|rtl-lang",
        show(2, 1),
    ),
    ("align|center|centre|left|right|block indent|indent|centered|floatleft", show(2, 1)),
    (
        "anchor|anchors|clear|-|clr|toc limit|toclimit|tocright|toc|compacttoc|tocleft|toc right|toc left",
        text(""),
    ),
    (
        "text|plain text|identity|noprint|printworthy|nowrap begin|nowrap end|wrap|no col break|nbay",
        show(1),
    ),
    ("longitem", lambda call: call.first(2, 1)),  # {{longitem|style|text}}
    ("in lang|fr icon|de icon|es icon|ru icon|ja icon|it icon|en icon|zh icon", text("")),
    ("en|de|fr|ja|ru|es|la|it|ko|ar|el|pl|pt", lambda call: call[1] or GONE),
    (
        "nbsp|space|spaces|thinsp|hairsp|nnbsp|zwsp|shy|zwj|wbr|nbs|emsp|ensp|pad|0|00|figure space|gap",
        text(" "),
    ),
    ("ndash|–|en dash", text("–")),
    ("spaced ndash|spnd|snd|snds|spndash|dash|spaced en dash", text(" – ")),
    ("mdash|—|em dash|mdashb", text("—")),
    ("spaced mdash|snd mdash", text(" — ")),
    ("·|dot|middot|•|bull|bullet|\\", text(" · ")),
    ("'s", text("'s")),
    ("'|apostrophe", text("'")),
    ("pi", text("π")),
    ("sqrt|radic", lambda call: (call[2] and f"<sup>{call[2]}</sup>") + f"√{call[1]}"),
    ("pipe", text("&#124;")),
    ("asterisk|*", text("&#42;")),
    ("sharp", text("♯")),
    ("flat", text("♭")),
    ("natural", text("♮")),
    ("increase|augmentation|decrease|diminution|steady|increasenegative|decreasepositive|increase2", text("")),
    ("cross|no mark|x mark|xmark", text("✗")),
    ("tick|check mark|yes mark|check", text("✓")),
    ("ellipsis|…", text("…")),
    ("sup|ssup|^", lambda call: f"<sup>{call[1]}</sup>"),
    ("sub|ssub", lambda call: f"<sub>{call[1]}</sub>"),
    ("su", lambda call: f"<sup>{call['p']}</sup><sub>{call['b']}</sub>"),
    ("e|exp", lambda call: f"×10<sup>{call[1]}</sup>"),
    ("10^", lambda call: f"10<sup>{call[1]}</sup>"),
    ("smallsup", lambda call: f"<sup>{call[1]}</sup>"),
    (
        "convert|cvt|convinfobox|convert/spell|换算|度量衡换算",
        lambda call: units.convert(call.listed(), call.arguments, call.chinese),
    ),
    ("val", _val),
    (
        "formatnum|num|nts|number table sorting|formatnumber|commas|nombre|nts2",
        lambda call: format_number(call[1]),
    ),
    ("gaps|digits", lambda call: "".join(call.listed())),
    ("frac|fraction|sfrac|分数|frac2", _fraction),
    ("unité|unité/2|heure|nb|unit|euro|drillong", _unit_fr),
    (
        "circa|c.|ca|ca.|约",
        lambda call: f"c. {call[1]}" + (f" – c. {call[2]}" if call[2] else "") if not call.chinese else f"约{call[1]}",
    ),
    ("floruit|fl.|fl", around("fl. ")),
    ("reign|r.", lambda call: "r. " + "–".join(call.listed())),
    ("born|b.", around("b. ")),
    ("died|d.|died in", around("d. ")),
    (
        "birth date|birth-date|dob|birth date and age|bda|birth-date and age|birth year and age|birth year|birthdate",
        date_text,
    ),
    (
        "start date|start-date|start date and age|end date|end-date|film date|release date|date|dts|"
        "start and end dates|开始日期|生日|出生日期|release date2|established",
        date_text,
    ),
    (
        "birth date and age2|出生日期和年龄|出生日期及年龄|出生年月日|bd age",
        lambda call: date_text(call, 4) if call[4] else date_text(call),
    ),
    ("death date|death-date|dod|death year|逝世日期|死亡日期", date_text),
    (
        "death date and age|dda|death-date and age|逝世日期和年龄|逝世日期及年龄|死亡日期与年龄|死亡年月日和年龄",
        _date_and_age,
    ),
    ("bd|生卒", _birth_death),
    ("as of|asof|截至|as of?", _as_of),
    ("age|age in years|age nts|age in days", dropped),
    ("us$|usd|us dollar|$", around("US$")),
    ("gbp|pound sterling|£", around("£")),
    ("eur|€", around("€")),
    ("cny|rmb|¥|人民币|jpy|yen", around("¥")),
    ("inr|indian rupee|₹", around("₹")),
    ("us$linked|currency", show(1)),
    ("inflation|inflation/year|format price|formatprice", lambda call: GONE_WITH_BRACKETS),
    ("p.|p|page|pp.", around("p. ")),
    ("vol.|vol|volume", around("Vol. ")),
    ("no.|number|numero", around("No. ")),
    ("railgauge|track gauge|rail gauge|railgauge2", show("al", 1)),
    (
        "height",
        lambda call: f"{call['m']} m" if call["m"] else f"{call['ft']} ft {call['in']} in" if call["ft"] else GONE,
    ),
    ("coord|coor dms|coor|坐标|座標", _coordinate),
    ("ordinal|ord", lambda call: ordinal(call[1])),
    ("chem|chem2|chemf|ce|hydrocarbon|化学式", _chem),
    (
        "nuclide|simplenuclide|simplenuclide2|nuclide2|nuclide/link|su nuclide",
        lambda call: "-".join(call.listed()[:2]),
    ),
    ("lang|langue|lang2|ling|jalang|lange", _lang),
    ("langx", _langx),
    ("lang-zh|zh|zh-cn-tw|zhongwen", _lang_zh),
    ("transl|transliteration|translit|tlit", lambda call: call.first(3, 2)),
    ("nihongo|nihongo2|nihongo3|nihongo foot|日本語|japanese", _nihongo),
    ("jap|jp", lambda call: foreign(call[1], call)),
    ("korean|ko-hhrm|한국어", lambda call: call.first("hangul", 1)),
    (
        "ipac-en|ipac|respell|pron-en|usdict|audio|listen|pronunciation|發音|audio-nohelp",
        dropped,
    ),
    ("ipa|ipa2|ipa all|ipa link|ipablink|ipaslink|ipalink", _ipa),
    ("ruby|ruby-ja|rubi|注音|ruby-py|ruby-zh-p|ふりがな", _ruby),
    ("lit|literally|literal translation", lambda call: f"lit. '{call[1]}'" if call[1] else "lit."),
    ("gloss|single+double|gloss2", around("'", "'")),
    ("native name|native phrase|nativename", show(2)),
    ("cjk-new-char|僻字|生僻字|缺字|rare char", show(2, 1)),
    ("zh-hans|zh-hant|zh-cn|zh-tw|zh-hk|zh-sg|forceconvert|lang-zh-hans|lang-zh-hant", show(1)),
    ("noteta|noteta/lite|note ta", _note_ta),
    (
        "le|link-en|linken|red link en|link-interwiki|link-ja|仮リンク|llink|internal link helper|ilh|enlink",
        _link_from,
    ),
    ("tsl|translink|transh", _link_to),
    (
        "ill|interlanguage link|iw|iw2|interlanguage link multi|illm|нп5|нп3|нп|не переведено 5|"
        "не переведено|lien|iw-ref",
        _ill,
    ),
    ("flag|flagu|flagcountry|flagathlete|flagdeco|country|flag2|flagg|flaglist|flag+link|drapeau2", _flag),
    ("tl|tlx|tlc|template link|tls|tlp", dropped),
    ("url|official url|网址", dropped),
    ("|".join(COUNTRIES).lower(), _country),
    (
        "uss|hms|ss|ship|hmas|hmcs|mv|rms|ms|hnlms|smu|sms|gts|mt|ussr ship",
        lambda call: f"{call.name.upper()} {call[1]}" if call.name != "ship" else f"{call[1]} {call[2]}".strip(),
    ),
    ("sclass|sclass-|sclass2|sclass2-", lambda call: f"{call[1]}-class {call[2]}"),
    ("isbn", lambda call: f"ISBN {call[1]}"),
    ("marriage|婚姻|married", _marriage),
    (
        "refn|efn|notetag|note|sfn|sfnp|r|rp|efn-ua|efn-lr|cref|ref label|ref|注释|註|fn|#tag:ref|notelist|#tag",
        text(""),
    ),
    (
        "citation needed|cn|fact|需要来源|來源請求|来源请求|clarify|when|who|which|dubious|page needed|by whom|vague|"
        "why|failed verification|better source|dead link|what|where|according to whom|specify|"
        "update inline|original research inline|pov statement|verify source|要出典|refimprove|"
        "unreferenced section|fact or opinion|citation needed span|查证请求|查證請求|原創研究|谁|哪个|何时",
        dropped,
    ),
    (
        "cite web|cite book|cite journal|cite news|citation|harvnb|harv|harvtxt|harvcol|sfnref|"
        "cite encyclopedia|webarchive|doi|issn|oclc",
        dropped,
    ),
    (
        "cslist|comma separated entries|hlist-comma|csv",
        lambda call: ("、" if call.chinese else ", ").join(call.listed()),
    ),
    (
        "plainlist|flatlist|flat list|plain list|plain|plainlist2|unbulleted indent list",
        lambda call: "\n" + call.first(1, "content") + "\n",
    ),
    (
        "hlist|ubl|unbulleted list|vunblist|bulleted list|ubil|blist|bulletedlist|ordered list|ublist|"
        "collapsible list|列表",
        _bullets,
    ),
    ("br separated entries|br list|linebreak list", lambda call: "<br>".join(call.listed())),
    (
        "div col|columns-list|colbegin|col-begin|div col end|colend|col-end|col-2|col-break|columns list|multicol",
        _multiple_columns,
    ),
    ("term|glossary term", show("content", 1)),
    ("defn|definition", show("defn", 1)),
    (
        "quote|blockquote|cquote|quotation|quote box|quotebox|rquote|bquote|cquote2|引文|引言|古文|"
        "centered pull quote|verse translation|poemquote|poem quote|quote frame",
        _quote,
    ),
    ('"|\'"|"\'|quote-inline', around("“", "”")),
    (
        "clade|chart|bartable|bar percent|bar box|legend|weather box|historical populations|navboxes|navbox",
        text(""),
    ),
    ("br|break|newline|crlf", text("<br>")),
    ("pb|paragraph break|paragraph", text("\n\n")),
)


def ordinal(number: str) -> str:
    """1 -> 1st, 12 -> 12th."""
    if not number.isdigit():
        return number
    suffix = {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
    return number + ("th" if number[-2:-1] == "1" else suffix)
