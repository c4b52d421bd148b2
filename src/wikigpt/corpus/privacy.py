"""Personal data found in text by their form, and replaced by typed placeholders or keyed pseudonyms.

Found are e-mail addresses, telephone numbers, identity and passport numbers, payment cards, IBANs, IP and MAC
addresses, and user names with passwords in URLs. Names of persons are not.
Each search is anchored at something rare (an @, seven digits close together) and looks only a bounded distance
around it, so that the time is linear in the text whatever it holds.
"""

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from typing import Literal, NamedTuple

from wikigpt.errors import UserError

Mode = Literal["placeholder", "pseudonym"]


class Found(NamedTuple):
    """Personal data in a text: characters `start` to `end`, and what it is."""

    start: int
    end: int
    kind: str  # email, phone, id, card, iban, ip, mac, credentials
    value: str  # in a normal form, the same for every way to write it


class Redactor:
    """Replaces personal data: `text, counts = redactor(text)`; the counts are by kind.

    "placeholder" writes `[EMAIL]`, `[PHONE]`, …; "pseudonym" writes artificial values that are equal where the data
    are, and that only the holder of `key` (32 bytes) can compute. What was replaced once is not replaced again.
    """

    def __init__(self, mode: Mode, key: bytes | None = None) -> None:
        if mode not in ("placeholder", "pseudonym"):
            raise UserError(f"the privacy mode {mode!r} is unknown; it is placeholder or pseudonym.")
        if mode == "pseudonym" and not key:
            raise UserError("pseudonyms need a key; give a key file with --key.")
        self.mode = mode
        self.key = key or b""

    def __call__(self, text: str) -> tuple[str, Counter[str]]:
        counts: Counter[str] = Counter()
        pieces: list[str] = []
        done = 0
        for found in find(text):
            pieces += text[done : found.start], self._replacement(found)
            done = found.end
            counts[found.kind] += 1
        return ("".join([*pieces, text[done:]]) if pieces else text), counts

    def _replacement(self, found: Found) -> str:
        if self.mode == "placeholder":
            return f"[{found.kind.upper()}]"
        value = found.value.encode("utf-8", "surrogatepass")
        code = hashlib.blake2b(value, key=self.key, person=found.kind.encode(), digest_size=8).hexdigest()
        # None can be real: .invalid is reserved (RFC 2606), +999 no country's, 2001:db8:: documentation (RFC 3849).
        if found.kind == "email":
            return f"user-{code[:10]}@example.invalid"
        if found.kind == "phone":
            return f"+999{int(code, 16) % 10**11:011}"
        if found.kind == "ip":
            return f"2001:db8::{code[:4]}:{code[4:8]}"
        return f"[{found.kind.upper()}-{code[:10]}]"


def find(text: str) -> list[Found]:
    """The personal data of a text in their order, none overlapping another."""
    kept: list[Found] = []
    everything = [*_emails(text), *_spelt_emails(text), *_numbers(text), *_ipv4(text), *_colons(text), *_dashes(text)]
    for found in sorted(everything, key=lambda found: (found.start, -found.end)):
        if not kept or found.start >= kept[-1].end:
            kept.append(found)
    return kept


# Full-width forms, and what typographers use for spaces and hyphens, as ASCII; the length stays the same.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN |= dict.fromkeys((0xA0, 0x2009, 0x200A, 0x202F, 0x3000), ord(" "))
_PLAIN |= dict.fromkeys((*range(0x2010, 0x2016), 0x2212), ord("-"))
del _PLAIN[ord("，")]  # never between the digits of a number, as "," is

_LOCAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-")
_DOMAIN = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])")
_FILES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".css", ".js", ".html")  # icon@2x.png
_NEVER = (".invalid", *_FILES)
# A literal in front is what makes the search fast; the bracket before it is looked for afterwards.
_CLOSED_AT = [re.compile(rf"{word}\s{{0,2}}[)\]}}]\s{{0,2}}") for word in ("at", "AT", "@", "艾特")]
_OPENED = re.compile(r"\s{0,2}[(\[{]\s{0,2}$")
_DOT = r"(?:\.|\s{0,2}[(\[{]\s{0,2}(?:dot|DOT|Dot|点|點)\s{0,2}[)\]}]\s{0,2}|\s(?:dot|DOT)\s)"
_SPELT_DOMAIN = re.compile(
    rf"[A-Za-z0-9-]{{1,63}}(?:{_DOT}[A-Za-z0-9-]{{1,63}}){{0,4}}{_DOT}[A-Za-z]{{2,24}}(?![A-Za-z0-9])"
)
_SPOKEN_AT = re.compile(r" (?:at|AT) (?=(?!the |a |an )[A-Za-z0-9-]{1,63}(?:\.[a-z]{2,24}){0,2} (?:dot|DOT) )")


def _emails(text: str) -> Iterator[Found]:
    if "＠" in text:
        text = text.translate(_PLAIN)
    at = text.find("@")
    while at >= 0:
        scheme = text.rfind("://", max(0, at - 130), at)
        user = text[scheme + 3 : at] if scheme >= 0 else ""
        if ":" in user and not re.search(r"[\s/]", user):
            yield Found(scheme + 3, at, "credentials", user)
        elif domain := _DOMAIN.match(text, at):
            start = _start_of_local(text, at)
            address = text[start : domain.end()].lower()
            if start < at and not address.endswith(_NEVER):
                yield Found(start, domain.end(), "email", address)
        at = text.find("@", at + 1)


def _spelt_emails(text: str) -> Iterator[Found]:
    """`name (at) host (dot) com` and `name at host dot com`."""
    for anchor in (match for pattern in _CLOSED_AT for match in pattern.finditer(text)):
        if opened := _OPENED.search(text, max(0, anchor.start() - 5), anchor.start()):
            yield from _spelt_email(text, opened.start(), anchor.end())
    if " dot " in text or " DOT " in text:
        for anchor in _SPOKEN_AT.finditer(text):
            yield from _spelt_email(text, anchor.start(), anchor.end())


def _spelt_email(text: str, end: int, host: int) -> Iterator[Found]:
    """The address whose user name ends at `end` and whose host begins at `host`."""
    start = _start_of_local(text, end)
    if start < end and (domain := _SPELT_DOMAIN.match(text, host)):
        name = re.sub(_DOT, ".", domain[0]).lower()
        yield Found(start, domain.end(), "email", f"{text[start:end].lower()}@{name}")


def _start_of_local(text: str, end: int) -> int:
    start = end
    while start > max(0, end - 64) and text[start - 1] in _LOCAL:
        start -= 1
    while start < end and text[start] in ".-":
        start += 1
    return start


_GAP = r" .\-()（）\u00a0\u2009\u200a\u202f\u2010-\u2015\u2212\uff0d\u3000"
_RUN = re.compile(rf"[0-9０-９](?:[{_GAP}]{{0,3}}+[0-9０-９]){{6,}}+")
_ASCII_RUN = re.compile(rf"[0-9](?:[{_GAP}]{{0,3}}+[0-9]){{6,}}+")  # half as fast again
_BEFORE, _AFTER = 40, 24  # characters around a run that are looked at

_LEFT = r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9]-)(?<![0-9][.,])"
_RIGHT = r"(?![A-Za-z0-9_])(?![.,][0-9])"
_FILLER = r"(?:\s|[:：.=#()]|号码?|號碼?|字[号號]|为|為|是|(?:number|num|no|nr|is|was|at|on|us|me|him|her|line)\b)*"


def _context(words: str) -> re.Pattern[str]:
    """Matches text that ends in one of the words and nothing of weight after it."""
    return re.compile(rf"(?i)(?:{words}){_FILLER}[+(]?$")


_PHONE_WORDS = _context(
    r"\b(?:tele)?phone|\btel|\bmobile|\bcell(?:phone)?|\bcall(?! number)|\bdial|\bfax|\bhotline|\bwhatsapp"
    r"|\bcontact|\bring|\breach|电话|電話|手机|手機|座机|座機|热线|熱線|传真|傳真|联系方式|聯絡方式|联系|聯繫|聯絡"
    r"|致电|致電|拨打|撥打|来电|微信|短信|固话"
)
_ID_WORDS = _context(
    r"身份证|身分證|身份證|身分证|公民身份|证件|證件"
    r"|\bidentity (?:card|document)|\bhkid|\b(?:(?:national|resident) )?id(?: card)?"
)
_PASSPORT_WORDS = _context(r"护照|護照|通行证|通行證|\bpassport")
_SSN_WORDS = _context(r"\bssn|\bsocial security|社会安全|社會安全")
# Numbers of things; the digits before belong to the same number.
_THING_WORDS = re.compile(
    r"(?i)(?:\b(?:isbn(?:-1[03])?|issn|doi|oclc|lccn|pmid|pmc|arxiv|asin|ean|upc|gtin|isni|viaf|orcid|imei|serial|patent|"
    r"model|order|version|catalog(?:ue)?|id)|专利|專利|编号|編號|序列号|序號|订单|訂單|型号|型號|货号|条码|條碼|刊号|书号)"
    rf"{_FILLER}[0-9 \-./]*$"
)
_DOI = re.compile(r"\b10\.\d{4,9}/[!-~]*$")
_QUANTITY = re.compile(r"(?:[≈^×*/<>≥≤$€£¥=_%&?]|人口|产量|產量|总数|總數|约|約|达|達|共|近|超过|超過)\s?$")
_UNIT = re.compile(
    r"(?i)\s?(?:[人元吨噸米部辆輛台颗顆字次个個株只隻頭头户戶℃%°′″]|美元|公里|平方|字节"
    r"|(?:bytes?|people|inhabitants|km|[kmg]?hz|years?|units|copies|votes|times|shares|usd)\b)"
)
_DATES = re.compile(
    r"(?:1\d|20)\d\d(?:[-.](?:0?[1-9]|1[0-2])[-.](?:0?[1-9]|[12]\d|3[01])(?!\d)|\s?-\s?(?:1\d|20)\d\d(?!\d))"
)

Verdict = tuple[int, str] | None  # where the number ends, and its normal form
Check = Callable[[re.Match[str], str, str], Verdict]


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def luhn(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812)."""
    doubled = [int(d) * 2 for d in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0


def mod_11_2(number: str) -> bool:
    """The check character of Chinese identity numbers (ISO 7064 MOD 11-2, GB 11643)."""
    total = 0
    for character in number[:17]:
        total = (total + int(character)) * 2 % 11
    return "10X98765432"[total] == number[17]


def mod_97(iban: str) -> bool:
    """The check digits of an IBAN without spaces (ISO 13616)."""
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def _resident(match: re.Match[str], before: str, after: str) -> Verdict:
    number = re.sub(r"[ -]", "", match[0]).upper()
    birth = number[6:14] if len(number) == 18 else "19" + number[6:12]
    try:
        date(int(birth[:4]), int(birth[4:6]), int(birth[6:]))
    except ValueError:
        return None
    named = _ID_WORDS.search(before)
    valid = named or (len(number) == 18 and mod_11_2(number))
    return (match.end(), number) if valid else None


def _document(match: re.Match[str], before: str, after: str) -> Verdict:
    named = _PASSPORT_WORDS.search(before) or (match[0][0].isalpha() and _ID_WORDS.search(before))
    return (match.end(), match[0]) if named else None


def _ssn(match: re.Match[str], before: str, after: str) -> Verdict:
    number = _digits(match[0])
    area, group, serial = number[:3], number[3:5], number[5:]
    possible = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    written = "-" in match[0] and not _of_a_thing(match, before, after)
    return (match.end(), number) if possible and (written or _SSN_WORDS.search(before)) else None


def _card(match: re.Match[str], before: str, after: str) -> Verdict:
    number = _digits(match[0])
    length = len(number)
    if number[0] == "4" or "51" <= number[:2] <= "55" or "2221" <= number[:4] <= "2720":
        known = length == 16
    elif number[:2] in ("34", "37"):
        known = length == 15
    elif number[:2] in ("36", "38") or "300" <= number[:3] <= "305":
        known = length == 14
    elif number[:2] == "62":
        known = 16 <= length <= 19
    else:
        known = length == 16 and (number[:2] in ("35", "64", "65") or number[:4] == "6011")
    return (match.end(), number) if known and luhn(number) and not _of_a_thing(match, before, after) else None


_IBAN_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES.items() for country in names.split()}


def _iban(match: re.Match[str], before: str, after: str) -> Verdict:
    """The greedy match may run into the next word: the country says how long the number is."""
    length = _IBAN_LENGTHS.get(match[0][:2], 99)
    characters = [(i, c) for i, c in enumerate(match[0]) if c != " "][:length]
    if len(characters) < length or match[0][characters[-1][0] + 1 :][:1].isalnum():
        return None
    number = "".join(c for _, c in characters)
    return (match.start() + characters[-1][0] + 1, number) if mod_97(number) else None


def _of_a_thing(match: re.Match[str], before: str, after: str) -> bool:
    return bool(_THING_WORDS.search(before) or _QUANTITY.search(before) or _UNIT.match(after))


def _phone(match: re.Match[str], before: str, after: str) -> Verdict:
    """A number written as telephone numbers are."""
    if not _PHONE_WORDS.search(before) and _of_a_thing(match, before, after):
        return None
    number = _digits(match[0])
    chinese = re.fullmatch(r"(?:00)?86(1[3-9]\d{9})", number)
    return match.end(), chinese[1] if chinese else number


def _international(match: re.Match[str], before: str, after: str) -> Verdict:
    """`+` and a country code; of more than 15 digits (E.164) the last groups belong to something else."""
    number, groups = match[0], 1
    while groups and len(_digits(number)) > 15:
        number, groups = re.subn(r"[ .-]+[^ .-]*$", "", number)
    digits = _digits(number)
    grouped = len(digits) < len(number) - 1
    fewest = 8 if grouped or _PHONE_WORDS.search(before) else 10
    possible = fewest <= len(digits) <= 15 and not _DATES.match(number.lstrip("(+"))
    return (match.start() + len(number), digits) if possible and not _of_a_thing(match, before, after) else None


def _named_phone(match: re.Match[str], before: str, after: str) -> Verdict:
    """Any digits, if the text says that they are a telephone number."""
    digits = _digits(match[0])
    named = _PHONE_WORDS.search(before) and not before.endswith("+") and not _UNIT.match(after)
    return (match.end(), digits) if named and len(digits) <= 15 and not _DATES.match(match[0]) else None


_MONTH_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_REGION = r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)\d{4}"  # GB/T 2260; 83, 91: foreigners
_RESIDENT_18 = rf"{_REGION}[ -]?(?:18|19|20)\d\d{_MONTH_DAY}[ -]?\d{{3}}[\dXx]"
_RESIDENT_15 = rf"{_REGION}\d\d{_MONTH_DAY}\d{{3}}"
_CARD_16 = r"[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}"
_CARD_15 = r"3\d{3}[ -]\d{6}[ -]\d{4,5}"
_CARD_19 = r"62\d\d[ -]\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{3}"
_AREA = r"(?:10|2\d|[3-9]\d\d)"  # Chinese area codes, less their leading 0
_CHINA = r"(?:\(\+86\)|(?:\+|00)86)"
_EXTENSION = r"(?:\s?(?:-|转|轉|分机|分機|ext\.?|x)\s?\d{1,5}(?!\d|-))?"
_MOBILE_CN = r"(?:(?:\(\+?86\)|(?:\+|00)?86)[ -]?)?1[3-9]\d(?:(?:[ -]?\d{4}){2}|[ -]\d{3}[ -]\d{5})"
_LANDLINE_CN = (
    rf"(?:{_CHINA}[ -]?)?(?:\(0{_AREA}\)[ -]{{0,2}}|0{_AREA}[ -])\d{{3,4}}[ -]?\d{{4}}{_EXTENSION}"
    rf"|{_CHINA}[ -]?\(?{_AREA}\)?[ -]?\d{{3,4}}[ -]?\d{{4}}{_EXTENSION}|[48]00-\d{{3,4}}-\d{{3,4}}"
)
_PHONE_TW = rf"0[2-8]-\d{{3,4}}-?\d{{4}}{_EXTENSION}|09\d\d-\d{{3}}-\d{{3}}"
_PHONE_IN_BRACKETS = r"\(0\d{1,4}\)[ -]?\d{2,4}[ -]?\d{3,4}"
_PHONE_US = (
    rf"(?:\+?1[ .-]?)?\([2-9]\d\d\)[ -]?[2-9]\d\d[ .-]\d{{4}}{_EXTENSION}"
    rf"|(?:\+?1[.-]|\+1 ?)?[2-9]\d\d([.-])[2-9]\d\d\1\d{{4}}{_EXTENSION}"
)
_CODES = (  # of countries, as the ITU has given them out
    r"(?:1|7|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2(?:1[12368]|[2-6]\d|9[01789])|3(?:[578]\d)"
    r"|42[013]|50\d|59\d|6[789]\d|80[08]|85[02356]|8[78]\d|96[0-8]|97[0-79]|99[2-68])"
)
_GROUP = r"(?:[ ()-]|\.(?=\d)){0,2}"

# In the order of precedence; the patterns are tried on a window around a run only.
_RULES: list[tuple[str, re.Pattern[str], Check]] = [
    (kind, re.compile(f"{_LEFT}(?:{pattern}){_RIGHT}"), check)
    for kind, pattern, check in (
        ("iban", r"[A-Z][A-Z]\d\d(?: ?[A-Z0-9]){11,30}+", _iban),
        ("id", f"{_RESIDENT_18}|{_RESIDENT_15}", _resident),
        ("id", r"[A-Z]{0,2}\d{6,9}(?:\(\d\))?", _document),
        ("card", rf"[2-6]\d{{13,18}}|{_CARD_16}|{_CARD_15}|{_CARD_19}", _card),
        ("id", r"\d{3}([ -]?)\d\d\1\d{4}", _ssn),
        ("phone", f"{_MOBILE_CN}|{_LANDLINE_CN}|{_PHONE_TW}|{_PHONE_IN_BRACKETS}", _phone),
        ("phone", _PHONE_US, _phone),
        ("phone", rf"(?:\(\+{_CODES}\)|\+{_CODES})(?:{_GROUP}\d{{1,11}}+){{1,7}}+", _international),
        ("phone", rf"(?!\+)\(?\d(?:{_GROUP}\d){{6,16}}+{_EXTENSION}", _named_phone),
    )
]


def _numbers(text: str) -> Iterator[Found]:
    done = 0
    full_width = any(digit in text for digit in "０１２３４５６７８９")
    for run in (_RUN if full_width else _ASCII_RUN).finditer(text):
        offset = max(0, run.start() - 2 * _BEFORE)
        window = text[offset : run.end() + _AFTER].translate(_PLAIN)
        first = max(done, run.start() - _BEFORE, 0) - offset
        taken = bytearray(len(window))
        for kind, pattern, check in _RULES:
            for match in pattern.finditer(window, first):
                start, end = match.span()
                if start >= run.end() - offset:
                    break
                before, after = window[max(0, start - _BEFORE) : start], window[end : end + 10]
                if _DOI.search(before) or any(taken[start:end]):
                    continue
                if verdict := check(match, before, after):
                    end, value = verdict
                    taken[start:end] = b"\1" * (end - start)
                    yield Found(offset + start, offset + end, kind, value)
        done = run.end()


_TWO_DOTS = re.compile(r"\.[0-9]{1,3}+\.[0-9]")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![A-Za-z0-9_.]){_OCTET}(?:\.{_OCTET}){{3}}(?![A-Za-z0-9_]|\.\d)")
_VERSION_WORDS = re.compile(
    r"(?i)(?:\b(?:version|ver|v|release|build|firmware|kernel|section|sec|chapter|rev(?:ision)?|driver|sdk)|版本|固件|第|§)[号號\s:：.]*$"
    r"|[A-Za-z]/$"
)
_IP_WORDS = re.compile(
    r"(?i)\bip|address|server|\bhost|gateway|\bdns\b|\bping|\blog(?:ged|in)|地址|服务器|伺服器|主机|主機|网关|登录|登入"
)
_TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}+:")
_HEX_GROUPS = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}+(?![A-Za-z0-9_:]|\.[0-9])")
_TWO_DASHES = re.compile(r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-")
# With a letter other than F: neither times nor sizes, nor the address of all.
_MAC = re.compile(
    r"(?<![A-Za-z0-9_:-])(?=.{0,16}[A-Ea-e])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![A-Za-z0-9_:-])"
)


def _ipv4(text: str) -> Iterator[Found]:
    for anchor in _TWO_DOTS.finditer(text):
        for start in range(max(0, anchor.start() - 3), anchor.start()):
            match = _IPV4.match(text, start)
            if match and _is_host(match[0], text[max(0, start - _BEFORE) : start], text[match.end() : match.end() + 1]):
                yield Found(start, match.end(), "ip", match[0])


def _is_host(address: str, before: str, after: str) -> bool:
    """Whether four numbers are the address of a computer: neither a version nor a special or a network's address."""
    octets = [int(octet) for octet in address.split(".")]
    like_version = sorted(octets)[2] < 20  # or a passage of a law or a book
    if _VERSION_WORDS.search(before) or (like_version and not _IP_WORDS.search(before[-16:])):
        return False
    return octets[0] not in (0, 127) and octets[0] < 224 and not (octets[3] == 0 and after == "/")


def _colons(text: str) -> Iterator[Found]:
    """IPv6 and MAC addresses."""
    for anchor in _TWO_COLONS.finditer(text):
        for start in range(max(0, anchor.start() - 4), anchor.start() + 1):
            if match := _MAC.match(text, start):
                yield Found(start, match.end(), "mac", match[0].lower().replace(":", "-"))
            elif (match := _HEX_GROUPS.match(text, start)) and (address := _global_ipv6(match[0])):
                yield Found(start, match.end(), "ip", address)


def _global_ipv6(text: str) -> str:
    """The normal form of an IPv6 address, "" for anything else, for special addresses and things like `a::b`."""
    if not re.search(r"[0-9]", text) or not any(len(group) >= 3 for group in text.split(":")):
        return ""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    documentation = address in ipaddress.IPv6Network("2001:db8::/32")
    return "" if address.is_multicast or address.is_loopback or documentation else str(address)


def _dashes(text: str) -> Iterator[Found]:
    for anchor in _TWO_DASHES.finditer(text):
        if match := _MAC.match(text, max(0, anchor.start() - 2)):
            yield Found(match.start(), match.end(), "mac", match[0].lower())
