"""{{convert}}: a quantity and the same quantity in another unit, as Wikipedia shows them.

The options and the rounding follow https://en.wikipedia.org/wiki/Help:Convert: as precise as the number given, and
two significant figures at least.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Unit:
    """`factor` base units (m, m², m³, kg, s, …) make one of these; `shift` only for temperatures."""

    symbol: str
    singular: str
    plural: str
    chinese: str
    kind: str
    factor: float
    other: str  # what it is converted to when the page does not say
    shift: float = 0.0


# code, symbol, singular, plural, Chinese, factor, what it is converted to
_TABLES = {
    "length": """
        nm|nm|nanometre|nanometres|纳米|1e-9|in
        um|μm|micrometre|micrometres|微米|1e-6|in
        mm|mm|millimetre|millimetres|毫米|1e-3|in
        cm|cm|centimetre|centimetres|厘米|1e-2|in
        dm|dm|decimetre|decimetres|分米|1e-1|in
        m|m|metre|metres|米|1|ft
        km|km|kilometre|kilometres|公里|1e3|mi
        in|in|inch|inches|英寸|0.0254|mm
        ft|ft|foot|feet|英尺|0.3048|m
        yd|yd|yard|yards|码|0.9144|m
        mi|mi|mile|miles|英里|1609.344|km
        nmi|nmi|nautical mile|nautical miles|海里|1852|km mi
        fathom|fathoms|fathom|fathoms|英寻|1.8288|ft m
        furlong|furlongs|furlong|furlongs|弗隆|201.168|mi km
        chain|chains|chain|chains|链|20.1168|yd m
        rod|rods|rod|rods|杆|5.0292|ft m
        hand|hands|hand|hands|掌|0.1016|in cm
        au|AU|astronomical unit|astronomical units|天文单位|1.495978707e11|km
        ly|ly|light-year|light-years|光年|9.4607304725808e15|pc
        pc|pc|parsec|parsecs|秒差距|3.0856775814914e16|ly
        angstrom|Å|ångström|ångströms|埃|1e-10|in""",
    "area": """
        mm2|mm²|square millimetre|square millimetres|平方毫米|1e-6|sqin
        cm2|cm²|square centimetre|square centimetres|平方厘米|1e-4|sqin
        m2|m²|square metre|square metres|平方米|1|sqft
        km2|km²|square kilometre|square kilometres|平方公里|1e6|sqmi
        ha|ha|hectare|hectares|公顷|1e4|acre
        acre|acres|acre|acres|英亩|4046.8564224|ha
        sqmi|sq mi|square mile|square miles|平方英里|2589988.110336|km2
        sqyd|sq yd|square yard|square yards|平方码|0.83612736|m2
        sqft|sq ft|square foot|square feet|平方英尺|0.09290304|m2
        sqin|sq in|square inch|square inches|平方英寸|0.00064516|cm2
        dunam|dunams|dunam|dunams|杜纳亩|1000|ha acre
        are|a|are|ares|公亩|100|sqft""",
    "mass": """
        mg|mg|milligram|milligrams|毫克|1e-6|gr
        g|g|gram|grams|克|1e-3|oz
        kg|kg|kilogram|kilograms|千克|1|lb
        t|t|tonne|tonnes|吨|1e3|LT ST
        kt|kt|kilotonne|kilotonnes|千吨|1e6|LT ST
        gr|gr|grain|grains|格令|0.00006479891|g
        oz|oz|ounce|ounces|盎司|0.028349523125|g
        ozt|ozt|troy ounce|troy ounces|金衡盎司|0.0311034768|oz g
        lb|lb|pound|pounds|磅|0.45359237|kg
        st|st|stone|stone|英石|6.35029318|lb kg
        lt|long tons|long ton|long tons|长吨|1016.0469088|t
        ST|short tons|short ton|short tons|短吨|907.18474|t""",
    "volume": """
        ml|mL|millilitre|millilitres|毫升|1e-6|impoz USoz
        cl|cL|centilitre|centilitres|厘升|1e-5|impoz USoz
        l|L|litre|litres|升|1e-3|impgal USgal
        cc|cc|cubic centimetre|cubic centimetres|立方厘米|1e-6|cuin
        cm3|cm³|cubic centimetre|cubic centimetres|立方厘米|1e-6|cuin
        m3|m³|cubic metre|cubic metres|立方米|1|cuft
        km3|km³|cubic kilometre|cubic kilometres|立方公里|1e9|cumi
        cuin|cu in|cubic inch|cubic inches|立方英寸|1.6387064e-5|cm3
        cuft|cu ft|cubic foot|cubic feet|立方英尺|0.028316846592|m3
        cuyd|cu yd|cubic yard|cubic yards|立方码|0.764554857984|m3
        cumi|cu mi|cubic mile|cubic miles|立方英里|4168181825.44058|km3
        usgal|US gal|US gallon|US gallons|美制加仑|0.003785411784|L impgal
        impgal|imp gal|imperial gallon|imperial gallons|英制加仑|0.00454609|L USgal
        usoz|US fl oz|US fluid ounce|US fluid ounces|美制液盎司|2.95735295625e-5|ml
        impoz|imp fl oz|imperial fluid ounce|imperial fluid ounces|英制液盎司|2.84130625e-5|ml
        uspt|US pt|US pint|US pints|美制品脱|4.73176473e-4|L
        imppt|imp pt|imperial pint|imperial pints|英制品脱|5.6826125e-4|L
        usqt|US qt|US quart|US quarts|美制夸脱|9.46352946e-4|L
        oilbbl|bbl|barrel|barrels|桶|0.158987294928|m3
        usbsh|US bsh|US bushel|US bushels|美制蒲式耳|0.03523907016688|L
        acreft|acre⋅ft|acre-foot|acre-feet|英亩英尺|1233.48183754752|m3""",
    "time": """
        s|s|second|seconds|秒|1|
        min|min|minute|minutes|分钟|60|s
        h|h|hour|hours|小时|3600|min
        day|d|day|days|天|86400|h
        year|yr|year|years|年|31557600|""",
    "speed": """
        km/h|km/h|kilometre per hour|kilometres per hour|公里/小时|0.27777777777777778|mph
        mph|mph|mile per hour|miles per hour|英里/小时|0.44704|km/h
        m/s|m/s|metre per second|metres per second|米/秒|1|ft/s
        km/s|km/s|kilometre per second|kilometres per second|公里/秒|1e3|mi/s
        mi/s|mi/s|mile per second|miles per second|英里/秒|1609.344|km/s
        ft/s|ft/s|foot per second|feet per second|英尺/秒|0.3048|m/s
        ft/min|ft/min|foot per minute|feet per minute|英尺/分钟|0.00508|m/s
        kn|kn|knot|knots|节|0.51444444444444444|km/h mph""",
    "power": """
        w|W|watt|watts|瓦特|1|hp
        kw|kW|kilowatt|kilowatts|千瓦|1e3|hp
        MW|MW|megawatt|megawatts|兆瓦|1e6|hp
        gw|GW|gigawatt|gigawatts|吉瓦|1e9|hp
        hp|hp|horsepower|horsepower|马力|745.69987158227|kW
        bhp|bhp|brake horsepower|brake horsepower|制动马力|745.69987158227|kW
        ihp|ihp|indicated horsepower|indicated horsepower|指示马力|745.69987158227|kW
        shp|shp|shaft horsepower|shaft horsepower|轴马力|745.69987158227|kW
        ps|PS|metric horsepower|metric horsepower|公制马力|735.49875|kW hp""",
    "pressure": """
        pa|Pa|pascal|pascals|帕斯卡|1|psi
        hpa|hPa|hectopascal|hectopascals|百帕|100|inHg
        kpa|kPa|kilopascal|kilopascals|千帕|1e3|psi
        MPa|MPa|megapascal|megapascals|兆帕|1e6|psi
        gpa|GPa|gigapascal|gigapascals|吉帕|1e9|psi
        bar|bar|bar|bar|巴|1e5|kPa
        mbar|mbar|millibar|millibars|毫巴|100|inHg
        atm|atm|standard atmosphere|standard atmospheres|标准大气压|101325|kPa
        psi|psi|pound per square inch|pounds per square inch|磅力/平方英寸|6894.757293168|kPa
        inhg|inHg|inch of mercury|inches of mercury|英寸汞柱|3386.389|kPa
        mmhg|mmHg|millimetre of mercury|millimetres of mercury|毫米汞柱|133.322387415|kPa
        torr|Torr|torr|torr|托|133.32236842105|kPa""",
    "energy": """
        j|J|joule|joules|焦耳|1|ftlbf
        kj|kJ|kilojoule|kilojoules|千焦|1e3|kcal
        MJ|MJ|megajoule|megajoules|兆焦|1e6|kWh
        gj|GJ|gigajoule|gigajoules|吉焦|1e9|kWh
        wh|Wh|watt-hour|watt-hours|瓦时|3600|kJ
        kwh|kWh|kilowatt-hour|kilowatt-hours|千瓦时|3.6e6|MJ
        mwh|MWh|megawatt-hour|megawatt-hours|兆瓦时|3.6e9|GJ
        cal|cal|calorie|calories|卡|4.184|J
        kcal|kcal|kilocalorie|kilocalories|千卡|4184|kJ
        btu|Btu|British thermal unit|British thermal units|英热单位|1055.05585262|kJ
        ev|eV|electronvolt|electronvolts|电子伏特|1.602176634e-19|J
        ftlbf|ft⋅lbf|foot-pound force|foot-pounds force|英尺磅力|1.3558179483314|J""",
    "force": """
        n|N|newton|newtons|牛顿|1|lbf
        kN|kN|kilonewton|kilonewtons|千牛|1e3|lbf
        MN|MN|meganewton|meganewtons|兆牛|1e6|lbf
        lbf|lbf|pound-force|pounds-force|磅力|4.4482216152605|N
        kgf|kgf|kilogram-force|kilograms-force|千克力|9.80665|N lbf
        tf|tf|tonne-force|tonnes-force|吨力|9806.65|kN""",
    "torque": """
        nm_|N⋅m|newton-metre|newton-metres|牛顿米|1|lbft
        lbft|lb⋅ft|pound force-foot|pound force-feet|磅英尺|1.3558179483314|Nm
        kgm|kg⋅m|kilogram metre|kilogram metres|千克米|9.80665|Nm lbft""",
    "density": """
        /km2|/km²|per square kilometre|per square kilometre|每平方公里|1e-6|/sqmi
        /sqmi|/sq mi|per square mile|per square mile|每平方英里|3.8610215854245e-7|/km2
        /ha|/ha|per hectare|per hectare|每公顷|1e-4|/acre
        /acre|/acre|per acre|per acre|每英亩|2.4710538146717e-4|/ha""",
    "fuel": """
        l/100km|L/100 km|litre per 100 kilometres|litres per 100 kilometres|升/百公里|1|mpgimp mpgus
        mpgus|mpg‑US|mile per US gallon|miles per US gallon|英里/美制加仑|-235.214583|L/100km mpgimp
        mpgimp|mpg‑imp|mile per imperial gallon|miles per imperial gallon|英里/英制加仑|-282.480936|L/100km mpgus
        km/l|km/L|kilometre per litre|kilometres per litre|公里/升|-100|mpgimp mpgus""",
    "data": """
        bit|bit|bit|bits|比特|0.125|
        byte|B|byte|bytes|字节|1|
        kb|kB|kilobyte|kilobytes|千字节|1e3|
        mb|MB|megabyte|megabytes|兆字节|1e6|
        gb|GB|gigabyte|gigabytes|吉字节|1e9|""",
    "frequency": """
        hz|Hz|hertz|hertz|赫兹|1|
        khz|kHz|kilohertz|kilohertz|千赫|1e3|m
        mhz|MHz|megahertz|megahertz|兆赫|1e6|
        ghz|GHz|gigahertz|gigahertz|吉赫|1e9|""",
}
UNITS: dict[str, Unit] = {
    code.strip(): Unit(symbol, singular, plural, chinese, kind, float(factor), other)
    for kind, table in _TABLES.items()
    for code, symbol, singular, plural, chinese, factor, other in (line.split("|") for line in table.split("\n")[1:])
} | {
    "c": Unit("°C", "degree Celsius", "degrees Celsius", "°C", "temperature", 1.0, "F", 273.15),
    "f": Unit("°F", "degree Fahrenheit", "degrees Fahrenheit", "°F", "temperature", 5 / 9, "C", 459.67),
    "k": Unit("K", "kelvin", "kelvins", "K", "temperature", 1.0, "C F", 0.0),
    "r": Unit("°R", "degree Rankine", "degrees Rankine", "°R", "temperature", 5 / 9, "K F", 0.0),
    "c-change": Unit("°C", "degree Celsius", "degrees Celsius", "°C", "difference", 1.0, "F-change"),
    "f-change": Unit("°F", "degree Fahrenheit", "degrees Fahrenheit", "°F", "difference", 5 / 9, "C-change"),
}
_NAMES = {
    "foot": "ft", "feet": "ft", "mile": "mi", "miles": "mi", "inch": "in", "inches": "in", "metre": "m",
    "meter": "m", "metres": "m", "meters": "m", "kilometre": "km", "kilometres": "km", "kilometer": "km",
    "kilometers": "km", "sqkm": "km2", "km²": "km2", "m²": "m2", "sqm": "m2", "sq mi": "sqmi", "sq ft": "sqft",
    "sq km": "km2", "sq m": "m2", "square kilometre": "km2", "square kilometres": "km2", "square mile": "sqmi",
    "square miles": "sqmi", "square foot": "sqft", "square feet": "sqft", "square metre": "m2",
    "square metres": "m2", "sqcm": "cm2", "acres": "acre", "pound": "lb", "pounds": "lb", "lbs": "lb", "tonne": "t",
    "tonnes": "t", "metric ton": "t", "metric tons": "t", "kilogram": "kg", "kilograms": "kg", "litre": "l",
    "liter": "l", "litres": "l", "liters": "l", "cubic metre": "m3", "cubic metres": "m3", "m³": "m3", "km³": "km3",
    "kmh": "km/h", "mi/h": "mph", "smi": "mi", "l/100 km": "l/100km",
    "kph": "km/h", "knot": "kn", "knots": "kn", "°c": "c", "°f": "f", "°k": "k", "celsius": "c",
    "fahrenheit": "f", "yard": "yd", "yards": "yd", "hectare": "ha", "hectares": "ha", "gram": "g", "grams": "g",
    "μm": "um", "µm": "um", "micrometre": "um", "centimetre": "cm", "centimetres": "cm", "millimetre": "mm",
    "millimetres": "mm", "ounce": "oz", "ounces": "oz", "stone": "st", "nautical mile": "nmi",
    "nautical miles": "nmi", "nm": "nm", "lyr": "ly", "light-year": "ly", "light-years": "ly", "psqkm": "/km2",
    "psqmi": "/sqmi", "pd/sqkm": "/km2", "pd/sqmi": "/sqmi", "/sqkm": "/km2", "pd/ha": "/ha", "cu ft": "cuft",
    "cuft": "cuft", "ft3": "cuft", "in3": "cuin", "ft2": "sqft", "in2": "sqin", "mi2": "sqmi", "yd3": "cuyd",
    "yd2": "sqyd", "cu mi": "cumi", "cu in": "cuin", "cu yd": "cuyd", "us gal": "usgal", "u.s.gal": "usgal",
    "gal": "usgal", "usgallon": "usgal", "imp gal": "impgal", "impgallon": "impgal", "short ton": "ST",
    "short tons": "ST", "long ton": "lt", "long tons": "lt", "usfloz": "usoz", "impfloz": "impoz", "bbl": "oilbbl",
    "mpg-us": "mpgus", "mpg": "mpgus", "mpg_us": "mpgus", "mpg-imp": "mpgimp", "l/km": "l/100km", "hours": "h",
    "hour": "h", "hr": "h", "sec": "s", "minute": "min", "d": "day", "yr": "year", "a": "year", "nm_torque": "nm_",
    "n.m": "nm_", "n⋅m": "nm_", "n·m": "nm_", "lb.ft": "lbft", "lb·ft": "lbft", "lbfft": "lbft", "lbf.ft": "lbft",
    "ftlb": "lbft", "ft·lbf": "ftlbf", "kgfm": "kgm", "kg.m": "kgm", "metric horsepower": "ps", "kcals": "kcal",
    "°c-change": "c-change", "°f-change": "f-change", "acre.ft": "acreft", "acre·ft": "acreft", "acre-ft": "acreft",
    "公里": "km", "千米": "km", "米": "m", "平方公里": "km2", "平方千米": "km2", "英里": "mi", "英尺": "ft",
    "公斤": "kg", "千克": "kg", "磅": "lb", "公顷": "ha", "公頃": "ha", "英亩": "acre", "英畝": "acre",
}  # fmt: skip
_CASED = {"ST": "ST", "MT": "t", "MW": "MW", "mW": "w", "MPa": "MPa", "MJ": "MJ", "kN": "kN", "MN": "MN", "Nm": "nm_"}
_POWERS = {"e3": (1e3, "thousand", "千"), "e6": (1e6, "million", "百万"), "e9": (1e9, "billion", "十亿"),
           "e12": (1e12, "trillion", "万亿")}  # fmt: skip
_PREFIXES = {"k": "e3", "M": "e6", "G": "e9"}  # of barrels of oil: 2 Moilbbl are two million
_TWO_IN_ONE = {"ftin": ("ft", "in"), "ft in": ("ft", "in"), "ft and in": ("ft", "in"), "stlb": ("st", "lb"),
               "st lb": ("st", "lb"), "lboz": ("lb", "oz"), "lb oz": ("lb", "oz"), "ydft": ("yd", "ft")}  # fmt: skip
_RANGE_WORDS = {
    "-": "–", "–": "–", "to": " to ", "to(-)": " to ", "to-": "–", "and": " and ", "and(-)": " and ", "or": " or ",
    "x": " × ", "×": " × ", "xx": " × ", "*": " × ", "by": " by ", "by(x)": " by ", "+/-": " ± ", "±": " ± ",
    "to about": " to about ", "and about": " and about ", ",": ", ", ", and": ", and ", ", or": ", or ",
}  # fmt: skip
_RANGE_CHINESE = {" to ": "至", " and ": "和", " or ": "或", " by ": "×", " to about ": "至约", " and about ": "和约",
                  ", ": "、", ", and ": "和", ", or ": "或"}  # fmt: skip
_NUMBER = re.compile(r"[-−+]?(?:[\d,]*\.?\d+(?:e[-+]?\d+)?|(?:\d+[+ ])?\d+//?\d+)\Z", re.IGNORECASE)
_MAX_DIGITS = 40  # of a number; longer ones are shown as they are
_AMERICAN = (("metre", "meter"), ("litre", "liter"))


@lru_cache(maxsize=1024)
def find_unit(name: str) -> Unit | None:
    """The unit of this code or name, "m3/s" and "e6USgal" included, or None."""
    name = name.strip()
    if len(name) > 40:
        return None
    key = _CASED.get(name) or name.lower().removesuffix(";").strip()
    key = _NAMES.get(key, key)
    found = UNITS.get(key)
    if found:
        return found
    if name[1:].startswith("oilbbl") and name[0] in _PREFIXES:
        name = _PREFIXES[name[0]] + name[1:]
    power = re.match(r"e(?:3|6|9|12)(?=[A-Za-z/])", name)
    if power and (base := find_unit(name[power.end() :])):
        factor, word, chinese = _POWERS[power.group()]
        others = " ".join(f"{power.group()}{code}" for code in base.other.split())
        return Unit(f"{word} {base.symbol}", f"{word} {base.plural}", f"{word} {base.plural}",
                    chinese + base.chinese, base.kind, factor * base.factor, others)  # fmt: skip
    above, slash, below = name.partition("/")
    if not (slash and above and below):
        return None
    top, bottom = find_unit(above), find_unit(below)
    if not top or not bottom or top.shift or bottom.shift or "fuel" in (top.kind, bottom.kind):
        return None
    return Unit(f"{top.symbol}/{bottom.symbol}", f"{top.singular} per {bottom.singular}",
                f"{top.plural} per {bottom.singular}", f"{top.chinese}/{bottom.chinese}",
                f"{top.kind}/{bottom.kind}", top.factor / bottom.factor, "")  # fmt: skip


@dataclass(slots=True)
class _Style:
    """How the quantities are to be written."""

    lang: str
    named: Mapping[str, str]
    options: dict[str, str]  # the named arguments in lower case
    chinese: bool
    wordless: bool  # other wikis' units have names that we do not know: their symbols stand for them

    def option(self, name: str) -> str:
        return self.options.get(name, "")


def convert(values: list[str], named: Mapping[str, str], lang: str) -> str:
    """Show {{convert|values…}}: "5 kilometres (3.1 mi)", 5公里（3.1英里）; the given quantity alone if unsure."""
    options = {key: value.strip().lower() for key, value in named.items() if not key.isdigit()}
    style = _Style(lang, named, options, lang == "zh", lang not in ("en", "simple", "zh"))
    numbers, words, index = _quantities(values)
    if not numbers:
        return " ".join(values[:2])
    code = values[index] if index < len(values) else ""
    rest = values[index + 1 :]
    unit = find_unit(code)
    if unit is None:
        return _join(numbers, words, style) + (f" {code}" if code and not _NUMBER.match(code) else "")
    given = _quantity(numbers, words, unit, style, given=True)
    finer = 0
    if len(rest) >= 2 and _NUMBER.match(rest[0]) and (small := find_unit(rest[1])) and small.kind == unit.kind:
        # {{convert|5|ft|11|in}}: feet and inches together
        given += ("" if style.chinese else " ") + _quantity([rest[0]], [], small, style, given=True)
        total = _value(numbers[0]) * unit.factor / small.factor + _value(rest[0])
        numbers, words, finer = [f"{total:.6g}"], [], 1
        rest, default, unit = rest[2:], unit.other, small
    else:
        default = unit.other
    targets = rest[0] if rest and rest[0] and not _NUMBER.match(rest[0]) else default
    digits = next((int(value) for value in rest if re.fullmatch(r"-?\d{1,2}", value.strip())), None)
    converted = [
        text
        for target in _targets(targets)
        if (text := _converted(numbers, words, unit, target, digits, finer, style)) is not None
    ]
    return _together(given, converted, style)


def _together(given: str, converted: list[str], style: _Style) -> str:
    """The two quantities as `disp` and `order` say."""
    disp = style.option("disp")
    if not converted:
        return given
    separator = "；" if style.chinese else "; "
    output = separator.join(converted)
    if disp in ("out", "output only", "output number only", "number", "output", "table output"):
        return output
    if style.option("order") == "flip" or disp == "flip":
        given, output = converted[0], separator.join([given, *converted[1:]])
    if disp in ("or", "/", "slash", "comma", ",", "br", "line", "table", "tablecen", "sqbr"):
        before, after = {
            "or": ("或" if style.chinese else " or ", ""), "/": ("/", ""), "slash": ("/", ""), "comma": (", ", ""),
            ",": (", ", ""), "br": ("<br>", ""), "line": ("<br>", ""), "table": (" ", ""), "tablecen": (" ", ""),
            "sqbr": (" [", "]"),
        }[disp]  # fmt: skip
        return given + before + output + after
    return f"{given}（{output}）" if style.chinese else f"{given} ({output})"


def _targets(codes: str) -> list[tuple[Unit, Unit | None]]:
    """The units to convert to; "ftin" is two for one quantity."""
    if codes.strip().lower() in _TWO_IN_ONE:
        large, small = (find_unit(code) for code in _TWO_IN_ONE[codes.strip().lower()])
        return [(large, small)] if large else []
    whole = find_unit(codes)  # "sq mi" has a space and is one unit
    if whole:
        return [(whole, None)]
    targets: list[tuple[Unit, Unit | None]] = []
    for code in codes.replace("+", " ").replace("/100 km", "/100km").split()[:6]:
        if code.lower() in _TWO_IN_ONE:
            targets += _targets(code)
        elif unit := find_unit(code):
            targets.append((unit, None))
    return targets


def _quantities(values: list[str]) -> tuple[list[str], list[str], int]:
    """The numbers at the beginning, the words between them, and where the unit stands."""
    numbers: list[str] = []
    words: list[str] = []
    index = 0
    while index < len(values) and _NUMBER.match(number := " ".join(values[index].split())):
        numbers.append(number.replace("+", " ") if "/" in number else number.replace(" ", ""))
        index += 1
        if index + 1 >= len(values) or values[index].lower() not in _RANGE_WORDS:
            break
        words.append(_RANGE_WORDS[values[index].lower()])
        index += 1
    # {{convert|1|-|2|km}} may also be written as one argument: 1-2
    if not numbers and values and (match := re.match(r"([\d.,]{1,20})\s*([-–]|to|x)\s*([\d.,]{1,20})\Z", values[0])):
        return [match.group(1), match.group(3)], [_RANGE_WORDS[match.group(2)]], 1
    return numbers, words, index


def _value(number: str) -> float:
    """The number; NaN if it is none, so that it is shown as it is and not converted."""
    number = number.replace(",", "").replace("−", "-")
    try:
        if "/" in number:
            sign = -1 if number.startswith("-") else 1
            return float(sign * sum(Fraction(part) for part in number.lstrip("-+").replace("//", "/").split()[:2]))
        return float(number) if len(number) <= _MAX_DIGITS else math.nan
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan


def _quantity(numbers: list[str], words: list[str], unit: Unit, style: _Style, *, given: bool) -> str:
    """Numbers with their unit, spelled out or as a symbol: "5 kilometres", "5 km", "5-kilometre"."""
    if style.chinese:
        return _join(numbers, words, style) + unit.chinese
    abbreviated = style.option("abbr")
    flipped = style.option("order") == "flip" or style.option("disp") == "flip"
    first = given != flipped or style.option("disp") == "or"  # what comes first is spelled out
    symbol = (
        style.wordless
        or unit.kind in ("temperature", "difference")
        or abbreviated in ("on", "~", "in" if given else "out")
        or (not first and abbreviated not in ("off", "none", "in"))
    )
    if abbreviated in ("values", "unit"):
        return _join(numbers, words, style)
    if " × " in words and symbol:
        return _join(numbers, words, style, _spaced(unit))
    words = [" by " if word == " × " else word for word in words]
    quantity = _join(numbers, words, style)
    if spell := style.option("spell"):
        quantity = _in_words(numbers, words, style, spell) if given and spell in ("in", "on") else quantity
    adjective = style.option("adj")
    if symbol and unit.symbol == unit.plural and adjective == "on":
        return f"{quantity}-{unit.singular.replace(' ', '-')}"  # a 10-hectare (25-acre) field
    if symbol:
        return quantity + _spaced(unit)
    if adjective in ("on", "mid") and unit.kind != "density":
        return f"{quantity}-{_spelled(unit.singular, style).replace(' ', '-')}{_extra(style, adjective)}"
    singular = len(numbers) == 1 and (abs(_value(numbers[0])) == 1 or ("/" in numbers[0] and _value(numbers[0]) < 1))
    name = unit.singular if singular else unit.plural
    before = _extra(style, adjective) if adjective == "pre" else ""
    return f"{quantity}{before} {_spelled(name, style)}"


def _extra(style: _Style, adjective: str) -> str:
    """The word of adj=mid or adj=pre, the last unnamed argument: "-long"."""
    if adjective == "on":
        return ""
    last = next((value.strip() for key, value in reversed(list(style.named.items())) if key.isdigit()), "")
    return last if last.startswith("-") else f" {last}" if re.fullmatch(r"[A-Za-z -]{2,40}", last) else ""


def _spelled(name: str, style: _Style) -> str:
    if style.option("sp") == "us":
        for british, american in _AMERICAN:
            name = name.replace(british, american)
    return name


def _in_words(numbers: list[str], words: list[str], style: _Style, spell: str) -> str:
    if not all(re.fullmatch(r"\d{1,3}", number) for number in numbers):
        return _join(numbers, words, style)
    text = in_words(int(numbers[0]))
    for word, number in zip(words, numbers[1:], strict=False):
        text += word + in_words(int(number))
    return text[0].upper() + text[1:] if style.named.get("spell", "").strip()[0].isupper() else text


_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
twenty thirty forty fifty sixty seventy eighty ninety"""
_ONES, _TENS = _SMALL.split()[:20], _SMALL.split()[20:]


def in_words(number: int) -> str:
    """42 -> forty-two; from a thousand on as digits."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {in_words(number % 100)}" if number % 100 else ""
        return f"{_ONES[number // 100]} hundred{rest}"
    return f"{number:,}"


def _spaced(unit: Unit) -> str:
    return unit.symbol if unit.symbol.startswith("/") else f" {unit.symbol}"


def _join(numbers: list[str], words: list[str], style: _Style, unit: str = "") -> str:
    """Numbers with the words between them; with `unit`, after each number."""
    shown = _grouped(numbers[0], style) + unit
    for word, number in zip(words, numbers[1:], strict=False):
        shown += (_RANGE_CHINESE.get(word, word) if style.chinese else word) + _grouped(number, style) + unit
    return shown


def _grouped(number: str, style: _Style) -> str:
    """Commas between thousands, a real minus sign, powers of ten."""
    if number.isdecimal() and len(number) <= 3:
        return number.lstrip("0") or "0"
    number, e, exponent = number.lower().partition("e")
    whole, dot, decimals = number.replace(",", "").replace("-", "−").partition(".")
    if whole.lstrip("−+").isdigit() and len(whole) < 30:
        sign = whole[0] if whole[0] in "−+" else ""
        whole = whole.lstrip("−+")
        whole = sign + (f"{int(whole):,}" if style.option("comma") != "off" else whole)
    shown = (whole or "0") + dot + decimals
    if style.wordless and style.lang not in ("ja", "ko"):
        shown = shown.replace(",", "\xa0").replace(".", ",")
    shown = shown.replace("//", "/")
    return f"{shown}×10<sup>{exponent.lstrip('+').replace('-', '−')}</sup>" if e else shown


def _converted(
    numbers: list[str],
    words: list[str],
    unit: Unit,
    target: tuple[Unit, Unit | None],
    digits: int | None,
    finer: int,
    style: _Style,
) -> str | None:
    """The quantity in another unit, all its numbers with the same number of decimals; None if it cannot be."""
    large, small = target
    if large.kind != unit.kind:
        return None
    values = [_value(number) for number in numbers]
    results = [_in_unit(value, unit, large) for value in values]
    if not all(value == 0 or 1e-30 < abs(value) < 1e25 for value in (*values, *results)):  # nor NaN
        return None
    if small is not None:
        return _in_two(results[0], large, small, digits, style)
    step = style.option("round")
    if re.fullmatch(r"0?\.5|5|10|25|50|100|500|1000", step):
        size = float(step)
        rounded = [f"{math.floor(result / size + 0.5) * size:.{1 if size < 1 else 0}f}" for result in results]
    else:
        if digits is None:
            sigfig = style.option("sigfig")
            wanted = int(sigfig) if re.fullmatch(r"[1-9]|1[0-4]", sigfig) else 0
            pairs = zip(numbers, results, strict=True)
            digits = max(_decimals(number, result, unit, large, wanted) for number, result in pairs) + finer
        digits = max(-20, min(digits, 12))
        rounded = [f"{_half_up(result, digits):.{max(digits, 0)}f}" for result in results]
    if style.option("disp") in ("number", "output number only"):
        return _join(rounded, words, style)
    return _quantity(rounded, words, large, style, given=False)


def _half_up(value: float, digits: int) -> float:
    scaled = value * 10.0**digits
    return math.copysign(math.floor(abs(scaled) * (1 + 1e-15) + 0.5), scaled) / 10.0**digits if scaled else 0.0


def _in_unit(value: float, unit: Unit, target: Unit) -> float:
    if unit.kind == "temperature":
        return (value + unit.shift) * unit.factor / target.factor - target.shift
    if unit.kind == "fuel":  # a negative factor marks the units that count the other way round
        per_100_km = value * unit.factor if unit.factor > 0 else -unit.factor / value if value else 0.0
        if target.factor > 0:
            return per_100_km / target.factor
        return -target.factor / per_100_km if per_100_km else 0.0
    return value * unit.factor / target.factor


def _in_two(value: float, large: Unit, small: Unit, digits: int | None, style: _Style) -> str:
    """5.9 feet as 5 ft 11 in."""
    ratio = round(large.factor / small.factor)
    total = round(abs(value) * ratio, digits or 0)
    whole, rest = divmod(total, ratio)
    between = "" if style.chinese else " "
    parts = [(f"{whole:.0f}", large), (f"{rest:.{max(digits or 0, 0)}f}", small)]
    shown = between.join(_quantity([number], [], unit, style, given=False) for number, unit in parts)
    return f"−{shown}" if value < 0 else shown


def _decimals(number: str, result: float, unit: Unit, target: Unit, sigfig: int) -> int:
    """How many decimals Help:Convert rounds to (negative: zeros before the point)."""
    magnitude = math.floor(math.log10(abs(result))) if result else 0
    if sigfig:
        return sigfig - 1 - magnitude
    if "/" in number:
        return max(1 - magnitude, 0)
    plain, _, exponent = number.replace(",", "").lower().partition("e")
    _, dot, decimals = plain.partition(".")
    trailing_zeros = len(plain) - len(plain.rstrip("0")) if plain.strip("0-−+") else 0
    given = (len(decimals) if dot else -trailing_zeros) - (int(exponent) if exponent else 0)
    if unit.kind == "temperature":  # three digits of the temperature in kelvin
        kelvin = abs(result + target.shift) * target.factor
        return max(given, 2 - math.floor(math.log10(kelvin))) if kelvin > 1e-6 else max(given, 0)
    value = _value(number)
    ratio = abs(result / value if value and result else unit.factor / target.factor)
    if target.symbol == "ft" and value == math.floor(value):
        ratio = unit.factor  # whole numbers become as precise in feet as metres are
    # About as precise as what is given, but two significant figures at least.
    return max(math.floor(given - math.log10(ratio / 2)), 1 - magnitude)
