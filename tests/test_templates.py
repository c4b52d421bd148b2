import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.corpus.wikitext import Options, read_wikitext
from wikigpt.corpus.wikitext.functions import FUNCTIONS
from wikigpt.corpus.wikitext.inline import HANDLERS, Call
from wikigpt.corpus.wikitext.templates import _rules_for, _table, compile_rules, find
from wikigpt.errors import UserError


def shown(text: str, lang: str = "en", **options: str) -> str:
    variant = "zh-hans" if lang == "zh" else None
    return read_wikitext(text, lang=lang, variant=variant, title=options.get("title", "Foo/bar")).text


# What a reader sees on each wiki

ENGLISH = [
    (
        "{{Nowrap|a b}} {{small|c|x}}{{resize|90%|!}} {{color|red|d}} {{font color|text=e|red}} {{script/Hebrew|ש}}",
        "a b c! d e ש",
    ),
    ("{{US$|5 million}} or {{US$|}}, {{INR|3}} ({{circa|1500|1510}})", "US$5 million or, ₹3 (c. 1500 – c. 1510)"),
    ("a{{anchor|x}}b {{flagicon|FRA}}France, {{flag|FRA}}, {{MAR}}", "ab France, France, Morocco"),
    ("True{{citation needed|date=May}}. {{citation needed span|Said so|date=May}}.", "True. Said so."),
    ("{{val|1.23|0.05|e=6|u=km}} {{val|9.81|ul=m|upl=s2}} {{frac|3|1|2}}", "1.23±0.05×10⁶ km 9.81 m/s² 3 1/2"),
    ("{{chem|SO|4|2-}} {{chem2|H2SO4}} {{chem2|SO4(2-)}} 10{{sup|−6}} x{{sub|2}}", "SO₄²⁻ H₂SO₄ SO₄²⁻ 10⁻⁶ x₂"),
    (
        "{{lang-ru|Москва|Moskva}}; {{langx|la|salve}}; {{lang|fr|Paris}}",
        "Russian: Москва, Moskva; Latin: salve; Paris",
    ),
    ("{{lang-de|Wien|label=none}} {{lang-rus|Тарковский|p=x}} {{lang-xyz|word}}", "Wien Russian: Тарковский word"),
    ("{{nihongo|A|甲|kō|b}} {{nihongo2|甲}} {{transl|ar|ALA|Allāh}}", "A (甲, kō, b) 甲 Allāh"),
    ("a phoneme {{IPA-de|tʃ|}} ({{IPA-de|tʃ}}) is {{IPA|/a/}}", "a phoneme [tʃ] is /a/"),
    (
        "{{birth date|1950|1|2|df=y}} {{start date|1950|5}} {{dts|1950-01-02}}",
        "2 January 1950 May 1950 January 2, 1950",
    ),
    ("{{start and end dates|1950|1|2|1951|3|4}}", "January 2, 1950 – March 4, 1951"),
    ("{{death date and age|2000|January|1|1950|1|2}}; {{age|1950|1|2|2000|1|2}}", "January 1, 2000 (aged 49); 50"),
    ("{{As of|2010|5|since=y|lc=y}}, {{as of|2011|alt=now}}", "since May 2010, now"),
    ("{{OldStyleDate|2 February|1905|20 January}}", "2 February [O.S. 20 January] 1905"),
    ("{{USS|Enterprise|CV-6}}, {{USS|Enterprise|CV-6|2}}, {{HMS|Hood}}", "USS Enterprise (CV-6), Enterprise, HMS Hood"),
    ("{{sclass|Iowa|battleship}} {{height|ft=6|in=2}}", "Iowa-class battleship 6 ft 2 in (1.88 m)"),
    ("{{ill|Some One|de|Jemand}} {{sortname|Ann|Lee}} {{bibleverse|1|John|3:16}}", "Some One Ann Lee 1 John 3:16"),
    (
        "{{number in words|342}} {{roman|1999}} {{ordinal|22}} {{percentage|3|12|1}}",
        "three hundred and forty-two MCMXCIX 22nd 25.0%",
    ),
    ("{{unichar|0041|Latin capital letter A}} {{angbr|a}} {{braket|a|b}}", "U+0041 A LATIN CAPITAL LETTER A ⟨a⟩ ⟨a|b⟩"),
    ("{{ill|de|Jemand|Some One}} {{music|flat}} {{INRConvert|5|c}} {{tmath|a^2}}", "Some One ♭ ₹5 crore $a^2$"),
    ("{{key press|Ctrl|C}} {{okina}} {{IPAblink|a}} {{solar mass|5}} {{stnlnk|Woking}}", "Ctrl+C ʻ [a] 5 M☉ Woking"),
    ("{{hlist|a|b}}", "- a\n- b"),
    ("{{quote|To be.|source=—Hamlet}}", "To be.\n\n— Hamlet"),
    ("{{Template:nowrap|x}} {{template:Small|y}} {{nowrap|1=a=b}}", "x y a=b"),
    ("{{sandwich|x}} {{pop density|1000|50|km2|sqmi}}", "20/km² (52/sq mi)"),
    # https://en.wikipedia.org/wiki/Template:Lang-zh
    ("{{zh|s=汉|t=漢|p=Hàn|l=Han}}", "simplified Chinese: 汉; traditional Chinese: 漢; pinyin: Hàn; lit. 'Han'"),
    ("{{lang-zh|s=中|t=中|w=Chung|labels=no}}", "中; Chung"),
    ("{{zh|s=汉|t=漢|first=t|labels=no}} {{zh|t=漢|p=h|j=hon|first=j|labels=no}}", "漢; 汉 漢; hon; h"),
    ("{{zh|c=字|tp=a|j=b|cy=c|sl=d|poj=e|zhu=f|labels=no}}", "字; a; b; c; d; e; f"),
]
CHINESE = [
    ("甲（{{lang-zh|s=汉语|t=漢語|j=hon}}）", "甲（简体中文：汉语；繁体中文：漢語；粤拼：hon）"),
    ("乙{{來源請求|這是真的|time=2010}}。丙{{fact}}。", "乙这是真的。丙。"),
    ("{{僻字|镕|金容}}、{{拼音|bǐng}}、{{ruby|漢|hàn}}", "镕、bǐng、汉(hàn)"),
    ("{{LangWithName|ja|日文|東京}}；{{lang-fr|Paris}}；{{lang-yue|字}}", "日文：東京；法语：Paris；粤语：字"),
    ("約{{circa|1500}}，{{截至|2010|5}}，{{us$|5}}", "约约1500，截至2010年5月，US$5"),
    ("{{internal link helper/ja|甲|Foo}}、{{綠鏈|乙|B}}、{{le|丙|C|丁}}、{{tsl|en|D|戊|己}}", "甲、乙、丁、己"),
    ("{{jpn|j=東京|hg=とうきょう|rm=Tōkyō}}，{{JPN}}", "日语：東京，平假名：とうきょう，罗马字：Tōkyō，日本"),
    ("{{jap|図書館}}、{{lang|ja|発電所}}與{{nihongo2|駅}}", "図書館、発電所与駅"),
    ("{{bd|1900年||1950年}}", "（1900年－1950年）"),
    ("{{JPN}}、{{國旗|FRA}}{{flagicon|USA}}", "日本、法国"),
    ("{{convert|3|to|5|ft|m}}，{{convert|1|m3/s|cuft/s}}", "3至5英尺（0.91至1.52米），1立方米/秒（35立方英尺/秒）"),
    ("{{nihongo|甲|乙|丙}}（{{日本語|甲}}）", "甲（乙，丙）（甲）"),
    ("{{NoteTA|1=zh-hans:软件;zh-hant:軟體|G1=IT}}軟體", "软件"),
]
OTHERS = [
    (
        "fr",
        "Au {{s-|XX}}, {{s|I}}, {{sav|V}}, {{s2|XIX|XX}}",
        "Au XXe siècle, Ier siècle, Ve siècle av. J.-C., XIXe et XXe siècles",
    ),
    ("fr", "19{{e}} {{1er}} {{Ier}} {{XXe siècle}} {{n°|12}} {{Mme|X}}", "19e 1er Ier XXe siècle nº 12 Mme X"),
    ("fr", "{{unité|1234|km|2}}, {{nb|12345|habitants}}, {{tmp|2|°C}}", "1 234 km², 12 345 habitants, 2 °C"),
    (
        "fr",
        "{{date|1|janvier|2000}} {{date de décès|21|septembre|1936|11|novembre|1866}}",
        "1er janvier 2000 21 septembre 1936 (à 69 ans)",
    ),
    (
        "fr",
        "{{incise|dit}} {{citation|mot}} {{lien|langue=en|trad=X|fr=Y}} {{en langue|de|Wien}} {{lang-en|X}}",
        "– dit – « mot » Y en allemand : Wien X",
    ),
    (
        "de",
        "{{Datum|25|08|2017}} {{DatumZelle|1950-01-02}} {{enS|London}} {{ruS|Москва}}",
        "25. August 2017 2. Januar 1950 englisch London russisch Москва",
    ),
    ("de", '{{formatnum:12345.5}} {{Höhe|115|DE-NN}} {{"|Text}}', "12.345,5 115 m (DE-NN) „Text“"),
    (
        "ja",
        "{{読み仮名|東京|とうきょう}}は{{仮リンク|甲|en|A}}と{{仮リンク|甲|en|A|label=乙}}",
        "東京（とうきょう）は甲と乙",
    ),
    (
        "ja",
        "{{lang-en|Berlin}} {{lang-de-short|Land}} {{和暦|1990}} {{要出典範囲|文|date=x}}{{要出典|date=x}}。",
        "英語: Berlin 独: Land 平成2年 文。",
    ),
    (
        "ja",
        "{{生年月日と年齢|1950|1|2}} {{死亡年月日と没年齢|1900|2|3|1950|5|6}}",
        "1950年1月2日 1950年5月6日（50歳没）",
    ),
    (
        "ru",
        "{{s|XX век}} {{число|3644826}} {{lang-en|London}} {{нп5|Имя|Именем|en|Name}}",
        "XX век 3 644 826 англ. London Именем",
    ),
    (
        "ru",
        "{{дата рождения|2|1|1950}} {{comment|a|b}} {{Флаг России}}Россия{{нет АИ|3|01|2018}}.",
        "2 января 1950 a Россия.",
    ),
    (
        "es",
        "{{fecha|11|8|1960}} {{siglo|XX||s}} {{siglo|V|a|s}} {{esd|a b}} {{lang-en|Rome}}",
        "11 de agosto de 1960 siglo XX siglo V a. C. a b en inglés: Rome",
    ),
    ("ca", "el {{segle|XIII|s}}", "el segle XIII"),
    ("it", "{{M|10,5|ul=km}} {{citazione necessaria|così}} {{lang-en|X}}", "10,5 km così in inglese: X"),
    ("pt", "{{séc|XX}} {{dtlink|2|1|1950}} {{lang-en|X}}", "século XX 2 de janeiro de 1950 em inglês: X"),
    ("nl", "{{Bron?|dit|2010}} {{aut|Linnaeus}} {{lang-en|X}}", "dit Linnaeus Engels: X"),
    ("pl", "{{lang-en|X}} {{data|1950-01-02}}", "ang. X 2 stycznia 1950"),
    ("ko", "{{llang|en|X}} {{출생일과 나이|1950|1|2}} {{임시링크|가|en|A}}", "영어: X 1950년 1월 2일 가"),
    ("ar", "نهر {{ألمانية|Spree}} هو", "نهر بالألمانية: Spree هو"),
    ("eo", "La {{daton|18|januaro|1791}}", "La 18-a de januaro 1791"),
    ("ltg", "Auguoji ({{Vol-la|Plantae}}, {{Vol-lv|augi}})", "Auguoji (Plantae, augi)"),
]


@pytest.mark.parametrize(("text", "expected"), ENGLISH)
def test_english_templates(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(("text", "expected"), CHINESE)
def test_chinese_templates(text: str, expected: str) -> None:
    assert shown(text, "zh") == expected


@pytest.mark.parametrize(("lang", "text", "expected"), OTHERS)
def test_templates_of_other_wikis(lang: str, text: str, expected: str) -> None:
    assert shown(text, lang).replace("\xa0", " ").replace("\u202f", " ") == expected


def test_italian_biography_begins_with_its_sentence_and_gives_facts() -> None:
    article = read_wikitext(
        "{{Bio|Nome=Ada|Cognome=Bianchi|Sesso=F|LuogoNascita=Roma|GiornoMeseNascita=2 gennaio|AnnoNascita=1900\n"
        "|LuogoMorte=Milano|AnnoMorte=1980|Attività=scrittrice|Attività2=poetessa|Nazionalità=italiana}}Visse là.",
        lang="it",
    )
    assert article.text == (
        "Ada Bianchi (Roma, 2 gennaio 1900 – Milano, 1980) è stata una scrittrice e poetessa italiana.\nVisse là."
    )
    assert ("annonascita", "1900") in article.facts


@pytest.mark.parametrize(
    ("lang", "name"),
    [
        ("de", "Infobox Stadt"), ("fr", "Infobox Ville"), ("ja", "基礎情報 国"), ("ru", "Карточка города"),
        ("es", "Ficha de ciudad"), ("pt", "Info/Cidade"), ("ko", "도시 정보"), ("de", "Personendaten"),
        ("ka", "ინფოდაფა დასახლება"), ("pl", "Miasto infobox"),
    ],
)  # fmt: skip
def test_infoboxes_of_other_wikis(lang: str, name: str) -> None:
    article = read_wikitext(f"Text before. {{{{{name}\n| a b = [[x]]\n| c = 5 }}}}", lang=lang)
    assert article.facts == (("a_b", "x"), ("c", "5"))
    assert article.text == "Text before."


def test_climate_tables_and_citations_are_no_facts() -> None:
    text = "{{Weather box|jan=1|feb=2|mar=3|apr=4}}{{cite web|a=1|b=2|c=3|d=4}}{{Infoboks vejr|a=1|b=2}}Text"
    assert read_wikitext(text).facts == ()


# Quantities (https://en.wikipedia.org/wiki/Help:Convert)

CONVERT = [
    ("5|km|mi", "5 kilometres (3.1 mi)"),
    ("2|km|mi|sp=us", "2 kilometers (1.2 mi)"),
    ("1|km", "1 kilometre (0.62 mi)"),
    ("333|m", "333 metres (1,093 ft)"),
    ("100|ft", "100 feet (30 m)"),
    ("5|km|mi|order=flip", "3.1 miles (5 km)"),
    ("5|km|mi|disp=or", "5 kilometres or 3.1 miles"),
    ("5|km|mi|abbr=off", "5 kilometres (3.1 miles)"),
    ("5|km|mi|sigfig=3", "5 kilometres (3.11 mi)"),
    ("12|km2|sqmi|0", "12 square kilometres (5 sq mi)"),
    ("60|mph|km/h|disp=number", "97"),
    ("1,500|lb|kg|disp=sqbr", "1,500 pounds [680 kg]"),
    ("100|mi|km|round=25", "100 miles (150 km)"),
    ("5|ft|11|in|m", "5 feet 11 inches (1.80 m)"),
    ("180|cm|ftin", "180 centimetres (5 ft 11 in)"),
    ("12|st|lb kg", "12 stone (170 lb; 76 kg)"),
    ("10|-|20|km", "10–20 kilometres (6.2–12.4 mi)"),
    ("3|x|5|m", "3 by 5 metres (9.8 ft × 16.4 ft)"),
    ("8|in|mm|0|adj=on", "8-inch (203 mm)"),
    ("5|km|mi|adj=mid|-long", "5-kilometre-long (3.1 mi)"),
    ("5|km|spell=in", "five kilometres (3.1 mi)"),
    ("1+1/2|in|mm", "1 1/2 inches (38 mm)"),
    ("20|C", "20 °C (68 °F)"),
    ("98.6|F", "98.6 °F (37.0 °C)"),
    ("6|°C-change", "6 °C (11 °F)"),
    ("100|kg/m3|lb/cuft", "100 kilograms per cubic metre (6.2 lb/cu ft)"),
    ("5000|m3/s|cuft/s", "5,000 cubic metres per second (180,000 cu ft/s)"),
    ("30|mpgus", "30 miles per US gallon (7.8 L/100 km; 36 mpg‑imp)"),
    ("1.5|e6USgal", "1.5 million US gallons (5.7 million L; 1.2 million imp gal)"),
    ("500|hp", "500 horsepower (370 kW)"),
    ("200|Nm", "200 newton-metres (150 lb⋅ft)"),
    ("20|kN", "20 kilonewtons (4,500 lbf)"),
    ("20|kn", "20 knots (37 km/h; 23 mph)"),
    ("32|psi", "32 pounds per square inch (220 kPa)"),
    ("10|ha|acre|adj=on", "10-hectare (25-acre)"),
    ("2.1|Moilbbl|m3", "2.1 million barrels (330,000 m³)"),
    ("5|parrots", "5 parrots"),
    ("five|km", "five km"),
    ("1e300|mpgus|L/100km", "1×10³⁰⁰ miles per US gallon"),
    (f"{'9' * 50}|km", f"{'9' * 50} kilometres"),
    ("0|C", "0 °C (32 °F)"),
    ("1e6|m", "1×10⁶ metres (3,300,000 ft)"),
]


@pytest.mark.parametrize(("arguments", "expected"), CONVERT)
def test_convert(arguments: str, expected: str) -> None:
    assert shown(f"{{{{convert|{arguments}}}}}") == expected


def test_convert_on_wikis_whose_names_of_units_are_unknown() -> None:
    assert shown("{{convert|1200|km|mi}}", "fr").replace("\xa0", " ") == "1 200 km (750 mi)"


# Parser functions (https://www.mediawiki.org/wiki/Help:Extension:ParserFunctions, …/Help:Magic_words)

EXPRESSIONS = [
    ("1 + 2 * 3 ^ 2", "19"),
    ("-2^2", "4"),
    ("30 / 7", "4.2857142857143"),
    ("5 div 2 * 2 + 5 mod 2", "6"),
    ("-8 mod 3", "-2"),
    ("8.9 mod 3", "2"),
    ("8.9 fmod 3", "2.9"),
    ("not 0 * 7", "7"),
    ("not 30+7", "7"),
    ("1/3 round 5", "0.33333"),
    ("1234.5678 round -2", "1200"),
    ("1.005 round 2", "1.01"),
    ("-2.5 round 0", "-3"),
    ("trunc -3.7 + ceil 1.2 - floor -1.5", "1"),
    ("1e3 + 2e-2", "1000.02"),
    ("123456789012345", "1.2345678901234E+14"),
    ("0.000001", "1.0E-6"),
    ("pi round 3", "3.142"),
    ("ln exp 1 + abs(-1) + sin(0) + cos 0", "3"),
    ("1 and 0 or 1", "1"),
    ("(5 >= 4) + (3 <> 3) + (2 &lt; 3)", "2"),
    ("((1 + 2) * 3", "Expression error: Unclosed bracket."),
    ("1 / 0", "Division by zero."),
    ("0 ^ -1", "Division by zero."),
    ("1 +", "Expression error: Missing operand for +."),
    ("1 foo 2", 'Expression error: Unrecognized word "foo".'),
    ("1 2", "Expression error: Unexpected number."),
    ("10 ^ 1000", "INF"),
    ("(-8) ^ 0.5", "NAN"),
    ("", ""),
    ("{{no such template}} * 2", ""),
    ("<nowiki>1</nowiki> + 1", "1"),
]


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS)
def test_expressions(text: str, expected: str) -> None:
    assert shown(f"{{{{#expr:{text}}}}}") == expected


CALLS = [
    # conditions
    ("{{#if:x|yes|no}}{{#if: |yes|no}}{{#if:{{gone}}|yes|no}}{{#if:|yes}}", "yesnono"),
    ("{{#ifeq:01|1|same|other}} {{#ifeq:1e3|1000|same|other}} {{#ifeq:A|a|same|other}}", "same same other"),
    (
        "{{#ifexpr:1 > 2|yes|no}} {{#ifexpr:3|yes}} {{#ifexpr:1 +|yes|no}}",
        "no yes Expression error: Missing operand for +.",
    ),
    ("{{#iferror:{{#expr:1/0}}|bad|good}} {{#iferror:{{#expr:1}}|bad}} {{#iferror:x|bad|good}}", "bad 1 good"),
    ("{{#switch:b|a=1|b|c=2|#default=3}} {{#switch:q|a=1|last}} {{#switch:1.0|1=one}}", "2 last one"),
    ("{{#switch:q|#default=d|a=1}} {{#switch:q|#default|a=1|b=2}} {{#switch:|=empty}} {{#switch:a|b=1}}", "d 1 empty"),
    ("{{#switch:a|b|a}} {{#switch: x | x = y = z }}", "a y = z"),
    ("{{#ifexist:Some page|there|not there}}", "there"),
    # strings
    ("{{lc:ÄB}} {{uc:äb}} {{lcfirst:AB}} {{ucfirst:ab}} {{subst:lc:AB}} {{safesubst:#if:x|y}}", "äb ÄB aB Ab ab y"),
    (
        "{{padleft:xyz|5}} {{padleft:xyz|5|_}} {{padleft:xyz|5|abc}} {{padleft:xyz|2}} {{padright:xyz|8|abc}}",
        "00xyz __xyz abxyz xyz xyzabcab",
    ),
    (
        "{{formatnum:987654321.654321}} {{formatnum:987,654.3|R}} {{formatnum:1234|NOSEP}}",
        "987,654,321.654321 987654.3 1234",
    ),
    ("{{#len:Icecream}} {{#pos:Icecream|e|3}} {{#rpos:abab|ab}} {{#count:Icecream|c}}", "8 5 2 2"),
    ("{{#sub:Icecream|3}} {{#sub:Icecream|0|3}} {{#sub:Icecream|-3}} {{#sub:Icecream|3|-3}}", "cream Ice eam cr"),
    (
        "{{#replace:Icecream|e|E}} {{#explode:a-b-c|-|1}} {{#explode:a-b-c|-|-1}} {{#urldecode:a%20b+c}}",
        "IcEcrEam b c a b c",
    ),
    ("{{urlencode:x y&z}} {{urlencode:x y|WIKI}} {{urlencode:x y|PATH}} {{anchorencode:a b}}", "x+y%26z x_y x%20y a_b"),
    # titles
    (
        "{{#titleparts:Talk:Foo/bar/baz|2}} {{#titleparts:a/b/c|-1}} {{#titleparts:a/b/c|1|2}} {{#titleparts:a<b/c|1}}",
        "Talk:Foo/bar A/b b a<b/c",
    ),
    (
        "{{#rel2abs:./quok|Help:Foo/bar}} {{#rel2abs:../quok|Help:Foo/bar}} {{#rel2abs:/x}} {{#rel2abs:y|Help:Foo}}",
        "Help:Foo/bar/quok Help:Foo/quok Foo/bar/x y",
    ),
    (
        "{{PAGENAME}} {{BASEPAGENAME}} {{SUBPAGENAME}} {{PAGENAMEE:A b}} {{PAGENAME:Help:T/x}} {{NAMESPACE:User:Z}}",
        "Foo/bar Foo bar A_b T/x User",
    ),
    (
        "{{ns:2}} {{ns:image}} {{#special:Search}} [{{fullurl:Foo bar|action=edit}} edit] {{localurl:A b}}",
        "User File Special:Search edit /wiki/A_b",
    ),
    # dates, languages
    (
        "{{#time:Y-m-d|25 December 2009}} {{#time:j F Y|2009-12-25}} {{#time:D, d M y|20091225}}",
        "2009-12-25 25 December 2009 Fri, 25 Dec 09",
    ),
    (
        "{{#time:H:i|December 25, 2009 13:45}} {{#time:N W z t L|2008-02-29}} {{#time:U|1970-01-02}}",
        "13:45 5 09 59 29 1 86400",
    ),
    (
        '{{#time:j F Y|2009-12-25|fr}} {{#time:Y-m-d|2009-12-25 +7 days}} {{#time:"Y" Y|1959}}',
        "25 décembre 2009 2010-01-01 Y 1959",
    ),
    ("in {{#time:Y}} ({{CURRENTMONTHNAME}}) {{#time:Y|no date}}", "in Error: Invalid time."),
    (
        "{{#formatdate:2009-12-25|mdy}} {{#formatdate:25 dec 2009|ymd}} {{#formatdate:2009-12|dmy}}",
        "December 25, 2009 2009 December 25 2009-12",
    ),
    (
        "{{#language:fr}} {{#language:fr|en}} {{#language:zz}} {{plural:1|is|are}} {{plural:0|is|are}}",
        "français French zz is are",
    ),
    ("{{gender:U|he|she|they}} {{gender:U|he|she}} {{grammar:genitive|Wiki}}", "they he Wiki"),
    # the rest
    ("x{{#tag:ref|y|name=z}} {{#tag:sup|2}} {{#tag:nowiki|''a''}}", "x ² ''a''"),
    ("a {{!}} {{=}} {{((}}b{{))}} {{SITENAME}} {{int:edit}}{{#invoke:M|f}}{{DEFAULTSORT:Z}}", "a | = {{b}} Wikipedia"),
]


@pytest.mark.parametrize(("text", "expected"), CALLS)
def test_parser_functions(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("lang", "expected"),
    [("ru", "год года лет лет"), ("fr", "год года года года"), ("zh", "год год год год"), ("cs", "год года лет лет")],
)
def test_plural_of_other_languages(lang: str, expected: str) -> None:
    numbers = {"ru": (21, 3, 5, 11), "cs": (1, 3, 5, 11)}.get(lang, (1, 3, 5, 11))
    text = " ".join(f"{{{{plural:{number}|год|года|лет}}}}" for number in numbers)
    assert read_wikitext(text, lang=lang).text == expected


def test_numbers_as_each_language_writes_them() -> None:
    text = "{{formatnum:1234567.5}} {{formatnum:1234}}"
    written = {lang: shown(text, lang).replace("\xa0", " ").replace("\u202f", " ") for lang in ("en", "de", "fr", "es")}
    assert written == {
        "en": "1,234,567.5 1,234",
        "de": "1.234.567,5 1.234",
        "fr": "1 234 567,5 1 234",
        "es": "1 234 567,5 1234",
    }


# The rule language

GOOD = [
    ("{1}", "a", "a"),
    ("{text|2|1}", "a|b", "b"),
    ("{ text | 2 | 1 }", "a|text=c", "c"),
    ("<{1}>", "", ""),
    ("{1} ({2})", "a|b", "a (b)"),
    ("{1} ({2})", "a", "a"),  # what is left empty is mended
    ("{1}[ ({2})]", "a", "a"),
    ("{1}[ ({2})]", "a|b", "a (b)"),
    ("no[. {1}]", "", "no"),
    ("{*, }", "a||b|c", "a, b, c"),
    ("{1}: {2*/}", "a|b|c", "a: b/c"),
    ("[[{1}]] {{{1}}}", "a", "[a] {a}"),
    ("always", "a", "always"),
    ("", "a", ""),
    ("drop", "a", ""),
    ("@quote", "a|b", "a\n\n— b"),
    ("@bullets", "a|b", "- a\n- b"),
    ("a@b {1}", "c", "a@b c"),
]


@pytest.mark.parametrize(("rule", "arguments", "expected"), GOOD)
def test_rules_of_a_recipe(rule: str, arguments: str, expected: str) -> None:
    options = Options(rules={"My box | other_box": rule})
    for name in ("my box", "Other box"):
        assert read_wikitext(f"{{{{{name}|{arguments}}}}}", options=options).text == expected


def test_rules_of_a_recipe_win_over_ours_and_may_be_wildcards() -> None:
    options = Options(
        rules={"nowrap": "<{1}>", "lang-*": "{1}!", "lang-fr": "fr {1}", "infobox x": "drop", "lc": "{1}"}
    )
    text = "{{Nowrap|a}} {{lang-de|b}} {{lang-fr|c}} {{lang|fr|d}} {{lc:ABC}} ({{Infobox x|a=1|b=2}})"
    article = read_wikitext(text, options=options)
    assert article.text == "<a> b! fr c d abc"
    assert article.facts == ()


BAD = [
    ("{1", r'"\{" too many'),
    ("1}", r'"\}" too many'),
    ("[{1}", "never closes"),
    ("{1}]", r'"\]" too many'),
    ("[a[b]]", "too many|never closes"),
    ("{}", "without a name"),
    ("{1|}", "without a name"),
    ("@nothing", "there are only @age"),
    ("a\x05b", "control characters"),
]


@pytest.mark.parametrize(("rule", "message"), BAD)
def test_bad_rules_are_named(rule: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        compile_rules({"my box": rule})
    assert '"my box"' in str(error.value)


@pytest.mark.parametrize("name", ["", "a||b", "lang*"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="name"):
        compile_rules({name: "{1}"})


def test_a_rule_must_be_text() -> None:
    with pytest.raises(UserError, match="no text"):
        compile_rules({"x": 5})  # type: ignore[dict-item]


def test_every_handler_is_used_and_every_rule_compiles() -> None:
    used = {rule[1:] for section in _table().values() for rule in section.values() if rule.startswith("@")}
    assert used - {""} == set(HANDLERS) - {"country", "german_language"}
    for languages in _table():
        assert _rules_for(languages.split()[0])


def test_no_name_stands_twice_in_a_section() -> None:
    for section in _table().values():
        names = [name.strip() for names in section for name in names.split("|")]
        assert len(names) == len(set(names))


def test_longest_beginning_wins() -> None:
    rules = compile_rules({"a-*": "one", "a-b *": "two", "a-b c": "three"})
    call = Call("", {}, None)  # type: ignore[arg-type]
    names = ("a-x", "a-b x", "a-b c", "a-b c d")
    assert [handler(call) for name in names if (handler := find(name, rules))] == ["one", "two", "three", "two"]
    assert find("b-a-x", rules) is None


# Any arguments: no exception, no marks left over, bounded time

_NAMES = st.sampled_from(sorted({*_rules_for("en"), *_rules_for("fr"), *_rules_for("ru"), "lang-fr", "link-en"}))
_VALUES = st.one_of(
    st.sampled_from(["", "1", "-5", "2000", "1e9", "1/0", "km", "m", "ftin", "13", "y", "汉", "[[a]]", "{{x}}"]),
    st.text(max_size=6),
)  # fmt: skip
_ARGUMENTS = st.lists(
    st.one_of(_VALUES, st.tuples(st.sampled_from(["s", "t", "p", "l", "first", "df", "text"]), _VALUES))
)


def _wikitext(name: str, arguments: list[str | tuple[str, str]]) -> str:
    return "".join(("{{", name, *(f"|{a}" if isinstance(a, str) else f"|{a[0]}={a[1]}" for a in arguments), "}}"))


@settings(max_examples=400, deadline=None)
@given(_NAMES, _ARGUMENTS, st.sampled_from(["en", "zh", "fr", "ru", "ja", "it", "de"]))
def test_any_arguments_are_accepted(name: str, arguments: list[str | tuple[str, str]], lang: str) -> None:
    text = read_wikitext(_wikitext(name, arguments), lang=lang, variant="zh-hans").text
    assert not set(text) & set("\x01\x02\x04\x05\x06\x0e\x0f\x7f")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(_VALUES, min_size=1, max_size=5))
def test_any_arguments_of_functions_are_accepted(name: str, arguments: list[str]) -> None:
    text = read_wikitext(f"<nowiki>a</nowiki>{{{{{name}:{'|'.join(arguments)}}}}}").text
    assert not set(text) & set("\x01\x02\x04\x05\x06\x0e\x0f\x7f")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.+-*/^()e <>=modandpiround", max_size=40))
def test_any_expression_has_a_value(text: str) -> None:
    shown(f"{{{{#expr:{text}}}}}")


HEAVY: list[Callable[[int], str]] = [
    lambda size: "{{#expr:" + "(" * size + "1" + ")" * size + "}}",
    lambda size: "{{#expr:" + "9^" * (size // 2) + "9}}",
    lambda size: "{{#expr:" + "9" * size + "}}",
    lambda size: "{{convert|" + "9" * size + "|km}}",
    lambda size: "{{convert|" + "1|to|" * (size // 5) + "1|km}}",
    lambda size: "{{formatnum:" + "9" * size + "}}",
    lambda size: "{{#switch:x|" + "y|" * (size // 2) + "}}",
    lambda size: "{{ubl|" + "y|" * (size // 2) + "}}",
    lambda size: "{{#time:" + "Y" * size + "|2000}}",
    lambda size: "{{#iferror:" + "<span " * (size // 6) + "|a}}",
    lambda size: "{{Infobox x|a=1|" + "".join(f"b{i}=c|" for i in range(size // 8)) + "}}",
    lambda size: "{{padleft:x|500|" + "ab" * (size // 2) + "}}",
    lambda size: "{{padleft:x|500}}" * (size // 17),
    lambda size: "{{lang-" + "a-" * (size // 2) + "|x}}",
    lambda size: "{{#titleparts:" + "a/" * (size // 2) + "|-1}}",
]


@pytest.mark.parametrize("heavy", HEAVY)
def test_heavy_arguments_take_time_in_proportion(heavy: Callable[[int], str]) -> None:
    def seconds(size: int) -> float:
        text = heavy(size)
        start = time.perf_counter()
        read_wikitext(text)
        return time.perf_counter() - start

    small = min(seconds(10_000) for _ in range(3))
    large = min(seconds(40_000) for _ in range(2))
    assert large < 12 * small + 0.2


def test_a_rule_that_repeats_its_argument_cannot_blow_up() -> None:
    options = Options(rules={"twice": "{1} {1}"})
    assert read_wikitext("{{twice|a}}", options=options).text == "a a"
    start = time.perf_counter()
    text = read_wikitext("{{twice|" * 60 + "word" + "}}" * 60, options=options).text
    assert len(text) < 20_000
    assert time.perf_counter() - start < 5
