"""Parser functions and variables: {{#if:…}}, {{lc:…}}, {{PAGENAME}}, {{!}}.

They follow https://www.mediawiki.org/wiki/Help:Extension:ParserFunctions and …/wiki/Help:Magic_words. What depends
on the clock, the wiki's statistics or other pages shows nothing.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote_plus

from wikigpt.corpus.languages import AUTONYMS, NUMBER_STYLES, capital, language_name, words
from wikigpt.corpus.wikitext.dates import MONTHS, format_date, long_date, month_number, parse_date
from wikigpt.corpus.wikitext.expressions import ERROR, expression
from wikigpt.corpus.wikitext.marks import ANY_MARK, GONE

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

Parts = list[tuple[str | None, str]]
Function = Callable[[list[str], "Page"], str]

MAX_PADDING = 500  # characters, as MediaWiki has it
MAX_STRING = 1000  # characters, MediaWiki's $wgPFStringLengthLimit
MAX_REPLACED = 20_000  # characters that #replace may make of them
_HAS_ERROR = re.compile(r"<(?:strong|span|p|div)\s(?:[^<>\s]+\s)*?class=\"(?:[^\"<>\s]+\s)*?error(?:\s[^\"<>]*)?\"")


def call_function(head: str, parts: Parts, page: "Page") -> str | None:
    """Evaluate {{#if:…}} and the like; None if `head` is no parser function."""
    name, _, argument = _PREFIX.sub("", head, count=1).partition(":")
    name = name.strip().lower()
    if name == "#switch":
        return _switch(argument.strip(), parts[1:])
    function = FUNCTIONS.get(name)
    if function is not None:
        rest = [value if key is None else f"{key}={value}" for key, value in parts[1:]]
        return function([argument.strip(), *map(str.strip, rest)], page)
    if name in _SILENT:
        return ""
    return GONE if name.startswith("#") else None


_PREFIX = re.compile(r"\A\s*(?:(?:safesubst|subst|msgnw|msg|raw)\s*:\s*)*", re.IGNORECASE)

# They set something about the page, or belong to extensions that show nothing in a text.
_SILENT = words(
    """defaultsort defaultsortkey defaultcategorysort displaytitle noexternallanglinks 默认排序 預設排序 默認排序
    sortierung clé_de_tri ordenar ordina デフォルトソート 기본정렬 сортировка_по_умолчанию ключ_сортировки 显示标题
    顯示標題 titolo seitentitel afficher_titre показывать_заголовок pokažzaglavje nazwa_wyświetlana domyślnesortuj
    standaardsortering standardsortering sortiranje predvolenérazenie výchozířazení ordenação #coordinates
    #seo #related #parsoid-fragment #assessment #babel #categorytree #set #mapframe #maplink"""
)


def _option(args: list[str], number: int, default: str = "") -> str:
    return args[number] if number < len(args) else default


def _without_marks(text: str) -> str:
    return text.replace(GONE, "").strip() if GONE in text else text


# Conditions


def _if(args: list[str], page: "Page") -> str:
    return _option(args, 1) if _without_marks(args[0]) else _option(args, 2)


def _if_equal(args: list[str], page: "Page") -> str:
    return _option(args, 2) if _same(args[0], _option(args, 1)) else _option(args, 3)


def _if_error(args: list[str], page: "Page") -> str:
    if _HAS_ERROR.search(args[0]):
        return _option(args, 1)
    return _option(args, 2, args[0])


def _if_expression(args: list[str], page: "Page") -> str:
    value = expression(args[0])
    if value == GONE or _HAS_ERROR.search(value):
        return value
    return _option(args, 2) if value in ("", "0", "-0") else _option(args, 1)


_PHP_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)


def _same(left: str, right: str) -> bool:
    """Equal as strings, or as numbers if both are numbers."""
    left, right = _without_marks(left), _without_marks(right)
    if left == right:
        return True
    if len(left) > 60 or len(right) > 60 or not (_PHP_NUMBER.fullmatch(left) and _PHP_NUMBER.fullmatch(right)):
        return False
    return float(left) == float(right)


def _switch(value: str, cases: Parts) -> str:
    """{{#switch: value | a = 1 | b | c = 2 | #default = 3}}; cases without "=" fall through to the next."""
    default: str | None = None
    last: str | None = None  # the latest case, if it had no "="
    falling = default_next = False
    for key, shown in cases:
        if key is None:
            last = shown.strip()
            falling = falling or _same(value, last)
            default_next = default_next or last == "#default"
            continue
        last, name = None, key.strip()
        if falling or _same(value, name):
            return shown.strip()
        if default_next or name == "#default":
            default, default_next = shown.strip(), False
    if last is not None and not default_next:
        return last
    return default or ""


# Numbers and words of the wiki's language

_NUMBER = re.compile(r"(?<![\d.\x7f])(\d+)((?:\.\d+)?)(?![\d\x7f])")  # \x7f: the number of a literal


def format_number(text: str, lang: str = "en") -> str:
    """Group the thousands as the language does: 1234567.891 -> 1,234,567.891, in German 1.234.567,891."""
    group, point, minimum = NUMBER_STYLES.get(lang, NUMBER_STYLES["en"])

    def grouped(match: re.Match[str]) -> str:
        whole, decimals = match.groups()
        if minimum <= len(whole) < 40 and whole[0] != "0":
            whole = f"{int(whole):,}".replace(",", group)
        return whole + decimals.replace(".", point)

    return _NUMBER.sub(grouped, text)


def _formatnum(args: list[str], page: "Page") -> str:
    group, point, _ = NUMBER_STYLES.get(page.lang, NUMBER_STYLES["en"])
    flags = [option.upper() for option in args[1:]]
    if "R" in flags:
        return args[0].replace(group, "").replace(point, ".")
    if "NOSEP" in flags:
        return args[0].replace(".", point)
    return format_number(args[0].replace(",", ""), page.lang)


_NO_PLURAL = words("zh ja ko vi th id ms lo km my bo dz ii jv yue wuu gan")
_SLAVIC = words("ru uk be sr hr bs sh be-tarask")


def plural_form(number: float, lang: str) -> int:
    """Which of the language's forms goes with a number (the order of {{plural:}})."""
    if lang in _NO_PLURAL:
        return 0
    if lang in ("fr", "pt", "hy"):
        return int(abs(number) >= 2)
    if lang in _SLAVIC or lang == "pl":
        tens, ones = int(abs(number)) % 100, int(abs(number)) % 10
        if (number == 1) if lang == "pl" else (ones == 1 and tens != 11):
            return 0
        return 1 if 2 <= ones <= 4 and not 12 <= tens <= 14 else 2
    if lang in ("cs", "sk"):
        return 0 if number == 1 else 1 if number in (2, 3, 4) else 2
    return int(number != 1)


def _plural(args: list[str], page: "Page") -> str:
    number = _without_marks(args[0]).replace(",", "")
    forms = [form for form in args[1:] if not re.match(r"\d+=", form)]
    for form in args[1:]:
        exact, equals, shown = form.partition("=")
        if equals and exact == number:
            return shown.strip()
    if not forms or not _PHP_NUMBER.fullmatch(number) or len(number) > 30:
        return forms[-1] if forms else ""
    return forms[min(plural_form(float(number), page.lang), len(forms) - 1)]


def _gender(args: list[str], page: "Page") -> str:
    """Of {{gender:user|he|she|they}} the neutral form, else the first."""
    return _option(args, 3) or _option(args, 1)


def _language(args: list[str], page: "Page") -> str:
    code, wanted = args[0].lower(), _option(args, 1).lower()
    return (language_name(code, wanted) if wanted else AUTONYMS.get(code)) or AUTONYMS.get(code) or args[0]


# Strings


def _padding(args: list[str]) -> str:
    width, fill = _option(args, 1), ANY_MARK.sub("", _option(args, 2, "0"))
    missing = min(int(width[:6]) if re.fullmatch(r"\d+", width, re.ASCII) else 0, MAX_PADDING) - len(args[0])
    return (fill * (missing // len(fill) + 1))[:missing] if missing > 0 and fill else ""


def _string_function(function: Function) -> Function:
    """Refuse strings that are too long and take out marks before they are cut to pieces, as MediaWiki does."""

    def checked(args: list[str], page: "Page") -> str:
        args = [ANY_MARK.sub("", arg) for arg in args]
        if max(map(len, args)) > MAX_STRING:
            return ERROR.format(f"Error: String exceeds {MAX_STRING:,} character limit.")
        return function(args, page)

    return checked


def _integer(text: str) -> int:
    match = re.match(r"[-+]?\d{1,9}", text)
    return int(match.group()) if match else 0


def _position(args: list[str], page: "Page") -> str:
    found = args[0].find(_option(args, 1) or " ", max(0, _integer(_option(args, 2))))
    return str(found) if found >= 0 else ""


def _substring(args: list[str], page: "Page") -> str:
    start, length = _integer(_option(args, 1)), _integer(_option(args, 2))
    text = args[0][start:] if start >= 0 else args[0][max(0, len(args[0]) + start) :]
    return text if not length else text[:length]


_CONTROL = re.compile("[\x00-\x1f\x7f]")  # nobody may write our marks


def _replace(args: list[str], page: "Page") -> str:
    limit = _integer(_option(args, 3)) if _option(args, 3) else -1
    replaced = args[0].replace(_option(args, 1) or " ", _option(args, 2), limit)
    return replaced if len(replaced) <= MAX_REPLACED else ERROR.format("Error: String exceeds the limit.")


def _explode(args: list[str], page: "Page") -> str:
    limit = _integer(_option(args, 3))
    pieces = args[0].split(_option(args, 1) or " ", limit - 1 if limit > 0 else -1)
    number = _integer(_option(args, 2))
    return pieces[number] if -len(pieces) <= number < len(pieces) else ""


def _urlencode(args: list[str], page: "Page") -> str:
    text, kind = ANY_MARK.sub("", args[0]), _option(args, 1).upper()
    if kind == "WIKI":
        return _address(text)
    return quote(text, safe="") if kind == "PATH" else quote_plus(text)


# Titles


_NO_TITLE = re.compile(r"[\[\]{}|<>\x00-\x1f\x7f]")


def _title_parts(args: list[str], page: "Page") -> str:
    """{{#titleparts: A/b/c | how many | first}}: negative numbers count from the end."""
    if len(args[0].encode()) > 255 or _NO_TITLE.search(args[0]):
        return args[0]
    segments = capital(args[0].partition("#")[0]).split("/", 24)
    count, first = _integer(_option(args, 1)), _integer(_option(args, 2))
    start = first - 1 if first > 0 else max(0, len(segments) + first) if first < 0 else 0
    return "/".join(segments[start:][: count or None])


def _rel2abs(args: list[str], page: "Page") -> str:
    """{{#rel2abs: path | base}}: a path with "..", "." and "/" from the page's title on."""
    target = args[0].replace("\\", "/")
    if target.rstrip() in ("", "/", "."):
        return _option(args, 1) or page.title
    relative = target.startswith(("/", "./", "../")) or target == ".."
    base = (_option(args, 1) or page.title) if relative else ""
    steps: list[str] = []
    for step in f"{base}/{target}".split("/"):
        if step == "..":
            if not steps:
                return ERROR.format(f'Error: Invalid depth in path: "{base}/{target}".')
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(steps)


def _namespace(title: str) -> tuple[str, str]:
    """The namespace of a title and the rest."""
    prefix, colon, rest = title.partition(":")
    known = colon and " ".join(prefix.lower().replace("_", " ").split()) in _NAMESPACE_NAMES
    return (prefix.strip(), rest.strip()) if known else ("", title.strip())


# https://www.mediawiki.org/wiki/Manual:Namespace; a wiki's own names come with its dump, not with its pages.
_NAMESPACES = {
    -2: "Media", -1: "Special", 0: "", 1: "Talk", 2: "User", 3: "User talk", 4: "Wikipedia", 5: "Wikipedia talk",
    6: "File", 7: "File talk", 8: "MediaWiki", 9: "MediaWiki talk", 10: "Template", 11: "Template talk", 12: "Help",
    13: "Help talk", 14: "Category", 15: "Category talk", 100: "Portal", 118: "Draft", 828: "Module",
}  # fmt: skip
_NAMESPACE_NAMES = {name.lower(): number for number, name in _NAMESPACES.items() if name} | {
    "image": 6,
    "project": 4,
    "project talk": 5,
}


def _ns(args: list[str], page: "Page") -> str:
    wanted = args[0].lower().replace("_", " ")
    number = int(wanted) if re.fullmatch(r"-?\d{1,4}", wanted, re.ASCII) else _NAMESPACE_NAMES.get(wanted)
    return _NAMESPACES.get(number, "") if number is not None else ""


def _pagename(title: str) -> str:
    return _namespace(title)[1]


def _with_namespace(space: str, title: str) -> str:
    return f"{space}:{_pagename(title)}" if space else _pagename(title)


def _subject_name(title: str) -> str:
    return re.sub(r"[ _]?talk\Z", "", _namespace(title)[0], flags=re.IGNORECASE)


def _talk_name(title: str) -> str:
    space = _namespace(title)[0]
    return space if "talk" in space.lower() else f"{space} talk".strip().capitalize()


# Functions of a title: {{PAGENAME}} is about the page itself, {{PAGENAME:Other}} about another one.
_TITLE_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "fullpagename": str.strip,
    "pagename": _pagename,
    "basepagename": lambda title: _pagename(title).rpartition("/")[0] or _pagename(title),
    "subpagename": lambda title: _pagename(title).rpartition("/")[2],
    "rootpagename": lambda title: _pagename(title).partition("/")[0],
    "namespace": lambda title: _namespace(title)[0],
    "namespacenumber": lambda title: str(_NAMESPACE_NAMES.get(_namespace(title)[0].lower(), 0)),
    "talkspace": _talk_name,
    "subjectspace": _subject_name,
    "articlespace": _subject_name,
    "talkpagename": lambda title: _with_namespace(_talk_name(title), title),
    "subjectpagename": lambda title: _with_namespace(_subject_name(title), title),
    "articlepagename": lambda title: _with_namespace(_subject_name(title), title),
}


def _address(title: str) -> str:
    return quote(ANY_MARK.sub("", title).strip().replace(" ", "_"), safe="/:@!$()*,;~")


def _of_other(part: Callable[[str], str], *, encoded: bool = False) -> Function:
    """{{PAGENAME:title}}; in {{PAGENAMEE:title}} as it stands in an address."""
    return lambda args, page: _address(part(args[0])) if encoded else part(args[0])


def _of_page(part: Callable[[str], str], *, encoded: bool = False) -> Callable[["Page"], str]:
    return lambda page: _address(part(page.title)) if encoded else part(page.title)


def _url(start: str) -> Function:
    """{{localurl: title | query}}"""

    def address(args: list[str], page: "Page") -> str:
        before = start.format(lang=page.lang)
        query = _option(args, 1)
        name = _address(capital(args[0]))
        return f"{before}/w/index.php?title={name}&{query}" if query else f"{before}/wiki/{name}"

    return address


# Dates


def _time(args: list[str], page: "Page") -> str:
    """{{#time: format | date | language}}; without a date it is about the clock, and shows nothing."""
    date = _without_marks(_option(args, 1))
    if not date:
        return GONE
    moment = parse_date(date)
    if moment is None:
        return GONE if GONE in _option(args, 1) or "now" in date else ERROR.format("Error: Invalid time.")
    return format_date(moment, args[0][:MAX_STRING], _option(args, 2).lower() or page.lang)


_DAY_OF_YEAR = re.compile(r"(\d{1,2}) +([A-Za-z]{3,9})|([A-Za-z]{3,9}) +(\d{1,2})")


def _format_date(args: list[str], page: "Page") -> str:
    """{{#formatdate: 2009-12-25 | dmy}}; what is no full date stays as it is."""
    form = _option(args, 1).lower()
    day_alone = _DAY_OF_YEAR.fullmatch(args[0])
    if day_alone and form in ("dmy", "mdy", "ymd"):
        day, month = sorted(filter(None, day_alone.groups()), key=str.isalpha)
        if number := month_number(month, "en"):
            return long_date("", str(number), day, "en", day_first=form == "dmy")
    moment = parse_date(args[0]) if len(re.findall(r"\d+|[A-Za-z]{3,}", args[0])) == 3 else None
    if moment is None or form not in ("dmy", "mdy", "ymd", "iso 8601"):
        return args[0]
    month = MONTHS["en"][moment.month - 1]
    return {
        "dmy": f"{moment.day} {month} {moment.year}",
        "mdy": long_date(str(moment.year), str(moment.month), str(moment.day), "en"),
        "ymd": f"{moment.year} {month} {moment.day}",
        "iso 8601": f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}",
    }[form]


# The table


def _tag(args: list[str], page: "Page") -> str:
    """{{#tag: name | content | attribute=value}}"""
    name, content = args[0].lower(), _option(args, 1)
    if name in ("math", "chem", "ce"):
        return page.literal(f"${ANY_MARK.sub('', content)}$")
    if name in ("nowiki", "pre", "syntaxhighlight", "source"):
        return page.literal(ANY_MARK.sub("", content))
    if name == "poem":
        return f"\n\n{content}\n\n"
    return f"<{name}>{content}</{name}>" if name in _SHOWN_TAGS else ""


_SHOWN_TAGS = words(
    """abbr b bdi big blockquote br center cite code del div em font i ins kbd langconvert p q s samp section
    small span strong sub sup tt u var"""
)


def _gone(args: list[str], page: "Page") -> str:
    return GONE


FUNCTIONS: dict[str, Function] = {
    "#if": _if,
    "#ifeq": _if_equal,
    "#iferror": _if_error,
    "#ifexpr": _if_expression,
    "#ifexist": lambda args, page: _option(args, 1 if args[0] else 2),  # most pages that templates ask for do exist
    "#expr": lambda args, page: expression(args[0]),
    "#rel2abs": _rel2abs,
    "#titleparts": _title_parts,
    "#time": _time,
    "#timel": _time,
    "#formatdate": _format_date,
    "#dateformat": _format_date,
    "#language": _language,
    "#tag": _tag,
    "#len": _string_function(lambda args, page: str(len(args[0]))),
    "#pos": _string_function(_position),
    "#rpos": _string_function(lambda args, page: str(args[0].rfind(_option(args, 1) or " "))),
    "#sub": _string_function(_substring),
    "#count": _string_function(lambda args, page: str(args[0].count(_option(args, 1) or " "))),
    "#replace": _string_function(_replace),
    "#explode": _string_function(_explode),
    "#urldecode": _string_function(lambda args, page: _CONTROL.sub("", unquote_plus(args[0]))),
    "#urlencode": _urlencode,
    "#special": lambda args, page: f"Special:{args[0]}",
    "#speciale": lambda args, page: f"Special:{_address(args[0])}",
    "#dir": lambda args, page: "rtl" if args[0] in ("ar", "fa", "he", "ur", "yi", "ps", "ckb", "sd", "dv") else "ltr",
    "lc": lambda args, page: args[0].lower(),
    "uc": lambda args, page: args[0].upper(),
    "lcfirst": lambda args, page: args[0][:1].lower() + args[0][1:],
    "ucfirst": lambda args, page: args[0][:1].upper() + args[0][1:],
    "padleft": lambda args, page: _padding(args) + args[0],
    "padright": lambda args, page: args[0] + _padding(args),
    "formatnum": _formatnum,
    "plural": _plural,
    "gender": _gender,
    "grammar": lambda args, page: _option(args, 1),
    "ns": _ns,
    "nse": lambda args, page: _ns(args, page).replace(" ", "_"),
    "urlencode": _urlencode,
    "anchorencode": lambda args, page: args[0].replace(" ", "_"),
    "localurl": _url(""),
    "localurle": _url(""),
    "fullurl": _url("//{lang}.wikipedia.org"),
    "fullurle": _url("//{lang}.wikipedia.org"),
    "canonicalurl": _url("https://{lang}.wikipedia.org"),
    "canonicalurle": _url("https://{lang}.wikipedia.org"),
    "int": lambda args, page: page.lang if args[0].lower() == "lang" else GONE,
    **{name: _of_other(part) for name, part in _TITLE_FUNCTIONS.items()},
    **{f"{name}e": _of_other(part, encoded=True) for name, part in _TITLE_FUNCTIONS.items()},
    **dict.fromkeys(
        words(
            """#invoke #property #statements #lst #section #lsth #lstx #section-h #section-x #mention #show
            filepath pagesincategory pagesincat pagesize numberingroup numberofarticles numberofpages numberoffiles
            numberofusers numberofadmins numberofedits numberofactiveusers protectionlevel protectionexpiry
            cascadingsources revisionid revisionday revisionday2 revisionmonth revisionmonth1 revisionyear
            revisiontimestamp revisionuser pageid subjectid"""
        ),
        _gone,
    ),
}  # fmt: skip

VARIABLES: dict[str, Callable[["Page"], str]] = {
    "!": lambda page: "|",
    "=": lambda page: "=",
    "!!": lambda page: "||",
    "(": lambda page: "{",
    ")": lambda page: "}",
    "((": lambda page: "{{",
    "))": lambda page: "}}",
    "(((": lambda page: "{{{",
    ")))": lambda page: "}}}",
    "(!": lambda page: "{|",
    "!)": lambda page: "|}",
    "!-": lambda page: "|-",
    "!+": lambda page: "|+",
    "sitename": lambda page: "Wikipedia",
    "contentlang": lambda page: page.lang,
    "contentlanguage": lambda page: page.lang,
    "pagelanguage": lambda page: page.lang,
    "server": lambda page: f"//{page.lang}.wikipedia.org",
    "servername": lambda page: f"{page.lang}.wikipedia.org",
    "scriptpath": lambda page: "/w",
    **{name: _of_page(part) for name, part in _TITLE_FUNCTIONS.items()},
    **{f"{name}e": _of_page(part, encoded=True) for name, part in _TITLE_FUNCTIONS.items()},
    **dict.fromkeys(
        words(
            """currentyear currentmonth currentmonth1 currentmonth2 currentmonthname currentmonthnamegen
            currentmonthabbrev currentday currentday2 currentdow currentdayname currenttime currenthour currentweek
            currenttimestamp currentversion localyear localmonth localmonth1 localmonth2 localmonthname
            localmonthnamegen localmonthabbrev localday localday2 localdow localdayname localtime localhour localweek
            localtimestamp revisionid revisionday revisionday2 revisionmonth revisionmonth1 revisionyear
            revisiontimestamp revisionuser revisionsize pageid numberofarticles numberofpages numberoffiles
            numberofusers numberofadmins numberofedits numberofactiveusers numberofviews"""
        ),
        lambda page: GONE,
    ),
    "directionmark": lambda page: "",
    "dirmark": lambda page: "",
}  # fmt: skip
