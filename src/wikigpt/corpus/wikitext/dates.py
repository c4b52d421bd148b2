"""Dates: as each language writes them, as people write them in {{#time:…}}, and its format codes."""

import calendar
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from wikigpt.corpus.wikitext.marks import GONE

MONTHS: dict[str, list[str]] = {
    lang: names.split()
    for lang, names in {
        "en": "January February March April May June July August September October November December",
        "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "ca": "gener febrer març abril maig juny juliol agost setembre octubre novembre desembre",
        "nl": "januari februari maart april mei juni juli augustus september oktober november december",
        "sv": "januari februari mars april maj juni juli augusti september oktober november december",
        "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "uk": "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
        "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    }.items()
}
MONTHS["simple"] = MONTHS["en"]
_MONTHS_ALONE = {
    lang: names.split()
    for lang, names in {
        "ru": "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
        "uk": "січень лютий березень квітень травень червень липень серпень вересень жовтень листопад грудень",
        "pl": "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień",
    }.items()
}
WEEKDAYS: dict[str, list[str]] = {
    lang: names.split()
    for lang, names in {
        "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "es": "lunes martes miércoles jueves viernes sábado domingo",
        "it": "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "ru": "понедельник вторник среда четверг пятница суббота воскресенье",
        "zh": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
        "ja": "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日",
        "ko": "월요일 화요일 수요일 목요일 금요일 토요일 일요일",
    }.items()
}
_DATES = {
    "en": "{month} {day}, {year}", "de": "{day}. {month} {year}", "es": "{day} de {month} de {year}",
    "pt": "{day} de {month} de {year}", "zh": "{year}年{month}月{day}日", "ja": "{year}年{month}月{day}日",
    "ko": "{year}년 {month}월 {day}일",
}  # fmt: skip
_MONTH_AND_YEAR = {
    "es": "{month} de {year}", "pt": "{month} de {year}", "zh": "{year}年{month}月", "ja": "{year}年{month}月",
    "ko": "{year}년 {month}월",
}  # fmt: skip
_YEARS = {"zh": "年", "ja": "年", "ko": "년"}
_NUMERIC = ("zh", "ja", "ko")  # languages that write months as numbers


def month_number(month: str, lang: str) -> int | None:
    """1 to 12 for a month's number or its name in the language."""
    month = month.strip()
    if month.isdecimal():
        return int(month) if len(month) <= 2 and 1 <= int(month) <= 12 else None
    names = MONTHS.get(lang, MONTHS["en"])
    return names.index(month.lower()) + 1 if month.lower() in names else _MONTH_NUMBERS.get(month.lower())


def long_date(year: str, month: str, day: str, lang: str, *, day_first: bool = False) -> str:
    """A date as the language writes it, of a year, a month (number or name) and a day; any may be empty."""
    lang = "en" if lang == "simple" else lang
    year, month, day = year.strip(), month.strip(), day.strip().removeprefix("0")
    number = int(month) if month.isdecimal() and len(month) <= 2 else 0
    if 1 <= number <= 12:
        if lang in _NUMERIC:
            month = str(number)
        else:
            names = MONTHS.get(lang, MONTHS["en"]) if day else _MONTHS_ALONE.get(lang, MONTHS.get(lang, MONTHS["en"]))
            month = names[number - 1]
    elif lang in _NUMERIC or not month:
        return year + (_YEARS.get(lang, "") if year.isdecimal() else "")
    if not day:
        return _MONTH_AND_YEAR.get(lang, "{month} {year}").format(month=month, year=year).strip()
    if lang == "fr" and day == "1":
        day = "1er"
    form = "{day} {month} {year}" if day_first and lang == "en" else _DATES.get(lang, "{day} {month} {year}")
    shown = form.format(year=year, month=month, day=day)
    return shown if year else shown.strip(" ,年년").removesuffix(" de")


# What a date in a page says

_MONTH_NUMBERS = {
    name[:length].lower(): number
    for number, name in enumerate(MONTHS["en"], start=1)
    for length in (3, 4, len(name))
}  # fmt: skip
_SIGNED = re.compile(r"([-+]?)\s*(\d{1,6})\s*(sec|second|min|minute|hour|day|week|fortnight|month|year)s?\b(\s+ago)?")
_CLOCK = re.compile(r"(?:\bt|\s|\A)(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(am|pm|z|utc)?\b")
_DATE_FORMS = (
    re.compile(r"\A(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?:(?P<H>\d{2})(?P<M>\d{2})(?P<S>\d{2}))?\Z"),
    re.compile(r"\b(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?"),
    re.compile(r"\b(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<d>\d{1,2})[-./](?P<m>\d{1,2})[-./](?P<y>\d{4})\b"),
    re.compile(r"\b(?P<d>\d{1,2})(?:st|nd|rd|th)?[ -]+(?P<n>[a-z]{3,9})\.?,?[ -]+(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<n>[a-z]{3,9})\.?[ -]+(?P<d>\d{1,2})(?:st|nd|rd|th)?(?:,\s*|\s+)(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<n>[a-z]{3,9})\.?[ -]+(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<y>\d{4})[ -]+(?P<n>[a-z]{3,9})(?:[ -]+(?P<d>\d{1,2}))?\b"),
    re.compile(r"\A(?P<y>\d{4})\Z"),
)  # fmt: skip


def parse_date(text: str) -> datetime | None:
    """The moment that a literal date says; None if it says none without looking at a clock."""
    text = " ".join(text.replace(GONE, "").lower().split())
    if len(text) > 80:
        return None
    if re.fullmatch(r"@-?\d{1,10}", text):  # seconds
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(text[1:]))
    for form in _DATE_FORMS:
        match = form.search(text)
        if match is None:
            continue
        found = match.groupdict()
        month = _MONTH_NUMBERS.get(found["n"]) if found.get("n") else int(found.get("m") or 1)
        if month is None:
            continue
        rest = text[: match.start()] + " " + text[match.end() :]
        try:
            day = datetime(int(found["y"]), month, int(found.get("d") or 1), tzinfo=UTC)
            if found.get("H"):
                return day.replace(hour=int(found["H"]), minute=int(found["M"]), second=int(found["S"]))
            return _moved(_at_clock(day, rest), rest)
        except (ValueError, OverflowError):
            return None
    return None


def _at_clock(day: datetime, text: str) -> datetime:
    match = _CLOCK.search(text)
    if match is None:
        return day
    hour, minute, second, half = match.groups()
    shift = 12 if half == "pm" and int(hour) < 12 else -12 if half == "am" and int(hour) == 12 else 0
    return day.replace(hour=int(hour) + shift, minute=int(minute), second=int(second or 0))


def _moved(moment: datetime, text: str) -> datetime:
    """Add what is written behind a date: "+ 3 days", "2 months ago"."""
    for sign, digits, unit, ago in _SIGNED.findall(text):
        count = int(digits) * (-1 if (sign == "-") != bool(ago) else 1)
        if unit in ("month", "year"):
            months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "year" else 1)
            first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
            moment = first + timedelta(days=moment.day - 1)
        else:
            seconds = {"sec": 1, "second": 1, "min": 60, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
            moment += timedelta(seconds=count * seconds.get(unit, 1209600))
    return moment


def _month_name(month: int, lang: str) -> str:
    return MONTHS[lang][month - 1] if lang in MONTHS else f"{month}{'월' if lang == 'ko' else '月'}"


def _weekday(moment: datetime, lang: str) -> str:
    return WEEKDAYS.get(lang, WEEKDAYS["en"])[moment.weekday()]


_FORMATS: dict[str, Callable[[datetime, str], str]] = {
    "Y": lambda moment, lang: f"{moment.year:04d}",
    "y": lambda moment, lang: f"{moment.year % 100:02d}",
    "o": lambda moment, lang: str(moment.isocalendar().year),
    "L": lambda moment, lang: str(int(calendar.isleap(moment.year))),
    "n": lambda moment, lang: str(moment.month),
    "m": lambda moment, lang: f"{moment.month:02d}",
    "M": lambda moment, lang: _month_name(moment.month, lang)[: 3 if lang in ("en", "simple") else None],
    "F": lambda moment, lang: _month_name(moment.month, lang),
    "xg": lambda moment, lang: _month_name(moment.month, lang),
    "t": lambda moment, lang: str(calendar.monthrange(moment.year, moment.month)[1]),
    "j": lambda moment, lang: str(moment.day),
    "d": lambda moment, lang: f"{moment.day:02d}",
    "z": lambda moment, lang: str(moment.timetuple().tm_yday - 1),
    "W": lambda moment, lang: f"{moment.isocalendar().week:02d}",
    "N": lambda moment, lang: str(moment.isoweekday()),
    "w": lambda moment, lang: str(moment.isoweekday() % 7),
    "D": lambda moment, lang: _weekday(moment, lang)[: 3 if lang in ("en", "simple") else None],
    "l": _weekday,
    "a": lambda moment, lang: "am" if moment.hour < 12 else "pm",
    "A": lambda moment, lang: "AM" if moment.hour < 12 else "PM",
    "g": lambda moment, lang: str(moment.hour % 12 or 12),
    "h": lambda moment, lang: f"{moment.hour % 12 or 12:02d}",
    "G": lambda moment, lang: str(moment.hour),
    "H": lambda moment, lang: f"{moment.hour:02d}",
    "i": lambda moment, lang: f"{moment.minute:02d}",
    "s": lambda moment, lang: f"{moment.second:02d}",
    "U": lambda moment, lang: str(int(moment.timestamp())),
    "e": lambda moment, lang: "UTC",
    "T": lambda moment, lang: "UTC",
    "Z": lambda moment, lang: "0",
    "I": lambda moment, lang: "0",
    "O": lambda moment, lang: "+0000",
    "P": lambda moment, lang: "+00:00",
    "c": lambda moment, lang: moment.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
    "r": lambda moment, lang: (
        f"{_weekday(moment, 'en')[:3]}, {moment.day} {_month_name(moment.month, 'en')[:3]} "
        + moment.strftime("%Y %H:%M:%S +0000")
    ),
    "xkY": lambda moment, lang: str(moment.year + 543),  # the Thai calendar
    "xoY": lambda moment, lang: str(moment.year - 1911),  # Minguo
    "xn": lambda moment, lang: "",
    "xN": lambda moment, lang: "",
    "xx": lambda moment, lang: "x",
}
_FORMAT = re.compile(r'"([^"]*)"|\\(.)|(xr)?(x[ko]Y|x[gnNx]|[A-Za-z])|(.)', re.DOTALL)
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def _roman(number: str) -> str:
    if not number.isdecimal():
        return number
    left = int(number)
    digits = []
    for value, sign in _ROMAN:
        count, left = divmod(left, value)
        digits.append(sign * count)
    return "".join(digits) or number


def format_date(moment: datetime, form: str, lang: str) -> str:
    """Write a moment with the codes of https://www.mediawiki.org/wiki/Help:Extension:ParserFunctions##time."""
    if lang not in MONTHS and lang not in _NUMERIC:
        lang = "en"
    shown = []
    for quoted, escaped, roman, code, other in _FORMAT.findall(form):
        value = _FORMATS[code](moment, lang) if code in _FORMATS else quoted or escaped or code or other
        shown.append(_roman(value) if roman else value)
    return "".join(shown)
