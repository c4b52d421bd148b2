"""{{convert}}: a quantity and the same quantity in another unit, as Wikipedia shows them.

The rounding follows https://en.wikipedia.org/wiki/Help:Convert: as precise as the number given, and two
significant figures at least.
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """`factor` base units (m, m², m³, kg, m/s, …) make one of these; `shift` only for temperatures."""

    symbol: str
    singular: str
    plural: str
    chinese: str
    kind: str
    factor: float
    other: str  # what it is converted to when the page does not say
    shift: float = 0.0


def _u(symbol: str, singular: str, plural: str, chinese: str, kind: str, factor: float, other: str) -> Unit:
    return Unit(symbol, singular, plural, chinese, kind, factor, other)


UNITS: dict[str, Unit] = {
    "mm": _u("mm", "millimetre", "millimetres", "毫米", "length", 1e-3, "in"),
    "cm": _u("cm", "centimetre", "centimetres", "厘米", "length", 1e-2, "in"),
    "m": _u("m", "metre", "metres", "米", "length", 1.0, "ft"),
    "km": _u("km", "kilometre", "kilometres", "公里", "length", 1e3, "mi"),
    "in": _u("in", "inch", "inches", "英寸", "length", 0.0254, "mm"),
    "ft": _u("ft", "foot", "feet", "英尺", "length", 0.3048, "m"),
    "yd": _u("yd", "yard", "yards", "码", "length", 0.9144, "m"),
    "mi": _u("mi", "mile", "miles", "英里", "length", 1609.344, "km"),
    "nmi": _u("nmi", "nautical mile", "nautical miles", "海里", "length", 1852.0, "km mi"),
    "au": _u("AU", "astronomical unit", "astronomical units", "天文单位", "length", 1.495978707e11, "km"),
    "ly": _u("ly", "light-year", "light-years", "光年", "length", 9.4607304725808e15, "pc"),
    "pc": _u("pc", "parsec", "parsecs", "秒差距", "length", 3.0856775814914e16, "ly"),
    "m2": _u("m²", "square metre", "square metres", "平方米", "area", 1.0, "sqft"),
    "km2": _u("km²", "square kilometre", "square kilometres", "平方公里", "area", 1e6, "sqmi"),
    "cm2": _u("cm²", "square centimetre", "square centimetres", "平方厘米", "area", 1e-4, "sqin"),
    "ha": _u("ha", "hectare", "hectares", "公顷", "area", 1e4, "acre"),
    "acre": _u("acres", "acre", "acres", "英亩", "area", 4046.8564224, "ha"),
    "sqmi": _u("sq mi", "square mile", "square miles", "平方英里", "area", 2589988.110336, "km2"),
    "sqft": _u("sq ft", "square foot", "square feet", "平方英尺", "area", 0.09290304, "m2"),
    "sqin": _u("sq in", "square inch", "square inches", "平方英寸", "area", 0.00064516, "cm2"),
    "g": _u("g", "gram", "grams", "克", "mass", 1e-3, "oz"),
    "kg": _u("kg", "kilogram", "kilograms", "千克", "mass", 1.0, "lb"),
    "t": _u("t", "tonne", "tonnes", "吨", "mass", 1e3, "LT ST"),
    "oz": _u("oz", "ounce", "ounces", "盎司", "mass", 0.028349523125, "g"),
    "lb": _u("lb", "pound", "pounds", "磅", "mass", 0.45359237, "kg"),
    "st": _u("st", "stone", "stone", "英石", "mass", 6.35029318, "lb kg"),
    "lt": _u("long tons", "long ton", "long tons", "长吨", "mass", 1016.0469088, "t"),
    "ST": _u("short tons", "short ton", "short tons", "短吨", "mass", 907.18474, "t"),
    "l": _u("L", "litre", "litres", "升", "volume", 1e-3, "impgal USgal"),
    "ml": _u("mL", "millilitre", "millilitres", "毫升", "volume", 1e-6, "impoz USoz"),
    "m3": _u("m³", "cubic metre", "cubic metres", "立方米", "volume", 1.0, "cuft"),
    "km3": _u("km³", "cubic kilometre", "cubic kilometres", "立方公里", "volume", 1e9, "cumi"),
    "cuft": _u("cu ft", "cubic foot", "cubic feet", "立方英尺", "volume", 0.028316846592, "m3"),
    "cumi": _u("cu mi", "cubic mile", "cubic miles", "立方英里", "volume", 4168181825.44058, "km3"),
    "usgal": _u("US gal", "US gallon", "US gallons", "美制加仑", "volume", 0.003785411784, "L impgal"),
    "impgal": _u("imp gal", "imperial gallon", "imperial gallons", "英制加仑", "volume", 0.00454609, "L USgal"),
    "km/h": _u("km/h", "kilometre per hour", "kilometres per hour", "公里/小时", "speed", 1 / 3.6, "mph"),
    "mph": _u("mph", "mile per hour", "miles per hour", "英里/小时", "speed", 0.44704, "km/h"),
    "m/s": _u("m/s", "metre per second", "metres per second", "米/秒", "speed", 1.0, "ft/s"),
    "km/s": _u("km/s", "kilometre per second", "kilometres per second", "公里/秒", "speed", 1e3, "mi/s"),
    "mi/s": _u("mi/s", "mile per second", "miles per second", "英里/秒", "speed", 1609.344, "km/s"),
    "ft/s": _u("ft/s", "foot per second", "feet per second", "英尺/秒", "speed", 0.3048, "m/s"),
    "kn": _u("kn", "knot", "knots", "节", "speed", 1852 / 3600, "km/h mph"),
    "kw": _u("kW", "kilowatt", "kilowatts", "千瓦", "power", 1e3, "hp"),
    "hp": _u("hp", "horsepower", "horsepower", "马力", "power", 745.69987158227, "kW"),
    "n": _u("N", "newton", "newtons", "牛顿", "force", 1.0, "lbf"),
    "kn_force": _u("kN", "kilonewton", "kilonewtons", "千牛", "force", 1e3, "lbf"),
    "lbf": _u("lbf", "pound-force", "pounds-force", "磅力", "force", 4.4482216152605, "N"),
    "/km2": _u("/km²", "per square kilometre", "per square kilometre", "每平方公里", "density", 1e-6, "/sqmi"),
    "/sqmi": _u("/sq mi", "per square mile", "per square mile", "每平方英里", "density", 1 / 2589988.110336, "/km2"),
    "g/cm3": _u("g/cm³", "gram per cubic centimetre", "grams per cubic centimetre", "克/立方厘米", "mass/m3", 1, ""),
    "c": Unit("°C", "degree Celsius", "degrees Celsius", "°C", "temperature", 1.0, "F", 273.15),
    "f": Unit("°F", "degree Fahrenheit", "degrees Fahrenheit", "°F", "temperature", 5 / 9, "C", 459.67),
    "k": Unit("K", "kelvin", "kelvins", "K", "temperature", 1.0, "C F", 0.0),
}  # fmt: skip
_NAMES = {
    "foot": "ft", "feet": "ft", "mile": "mi", "miles": "mi", "inch": "in", "inches": "in", "metre": "m",
    "meter": "m", "metres": "m", "meters": "m", "kilometre": "km", "kilometres": "km", "kilometer": "km",
    "kilometers": "km", "sqkm": "km2", "km²": "km2", "m²": "m2", "sqm": "m2", "sq mi": "sqmi", "sq ft": "sqft",
    "acres": "acre", "pound": "lb", "pounds": "lb", "lbs": "lb", "tonne": "t", "tonnes": "t", "kilogram": "kg",
    "litre": "l", "liter": "l", "cubic metre": "m3", "cubic metres": "m3", "m³": "m3", "kmh": "km/h", "kph": "km/h",
    "knot": "kn", "knots": "kn", "°c": "c", "°f": "f", "yard": "yd", "yards": "yd", "hectare": "ha", "gram": "g",
    "lyr": "ly", "psqkm": "/km2", "psqmi": "/sqmi", "pd/sqkm": "/km2", "pd/sqmi": "/sqmi", "/sqkm": "/km2",
    "cu ft": "cuft", "cu mi": "cumi", "us gal": "usgal", "imp gal": "impgal", "short ton": "ST", "long ton": "lt",
    "mpg": "", "公里": "km", "米": "m", "平方公里": "km2", "英里": "mi", "英尺": "ft",
}  # fmt: skip
_RANGE_WORDS = {"-": "–", "–": "–", "to": " to ", "to(-)": " to ", "and": " and ", "and(-)": " and ", "or": " or ",
                "x": " × ", "×": " × ", "by": " by ", "+/-": " ± ", "±": " ± ", "by(x)": " by "}  # fmt: skip
_RANGE_CHINESE = {" to ": "至", " and ": "和", " or ": "或", " by ": "×"}
_NUMBER = re.compile(r"[-−+]?[\d,]*\.?\d+(?:e[-+]?\d+)?\Z", re.IGNORECASE)


def find_unit(name: str) -> Unit | None:
    """The unit of this code or name, or None."""
    name = name.strip()
    if name == "ST":
        return UNITS["ST"]
    key = name.lower().removesuffix(";").strip()
    return UNITS.get(_NAMES.get(key, key))


def convert(values: list[str], named: dict[str, str], chinese: bool) -> str:
    """Show {{convert|values…}}: "5 kilometres (3.1 mi)", 5公里（3.1英里）; the given quantity alone if unsure."""
    numbers, words, index = _quantities(values)
    if not numbers:
        return " ".join(values[:2])
    code = values[index] if index < len(values) else ""
    rest = values[index + 1 :]
    unit = find_unit(code)
    if unit is None:
        return _join(numbers, words, chinese) + (f" {code}" if code else "")
    given = _given(numbers, words, unit, named, chinese)
    finer = 0
    if len(rest) >= 2 and _NUMBER.match(rest[0]) and (small := find_unit(rest[1])) and small.kind == unit.kind:
        # {{convert|5|ft|11|in}}: feet and inches together
        given += ("" if chinese else " ") + _given([rest[0]], [], small, named, chinese)
        total = _value(numbers[0]) * unit.factor / small.factor + _value(rest[0])
        numbers, words, finer = [f"{total:.6g}"], [], 1
        rest, default, unit = rest[2:], unit.other, small
    else:
        default = unit.other
    if named.get("disp", "").strip() in ("number", "out"):
        return given
    targets = rest[0] if rest and not _NUMBER.match(rest[0]) else default
    digits = next((int(value) for value in rest if re.fullmatch(r"-?\d", value.strip())), None)
    sigfig = named.get("sigfig", "").strip()
    converted = [
        _converted(numbers, words, unit, target, digits, int(sigfig) if sigfig.isdigit() else 0, finer, chinese)
        for target in map(find_unit, targets.split())
        if target is not None and target.kind == unit.kind
    ]
    if not converted:
        return given
    return f"{given}（{'；'.join(converted)}）" if chinese else f"{given} ({'; '.join(converted)})"


def _quantities(values: list[str]) -> tuple[list[str], list[str], int]:
    """The numbers at the beginning, the words between them, and where the unit stands."""
    numbers: list[str] = []
    words: list[str] = []
    index = 0
    while index < len(values) and _NUMBER.match(number := values[index].replace(" ", "")):
        numbers.append(number)
        index += 1
        if index + 1 >= len(values) or values[index].lower() not in _RANGE_WORDS:
            break
        words.append(_RANGE_WORDS[values[index].lower()])
        index += 1
    return numbers, words, index


def _value(number: str) -> float:
    try:
        return float(number.replace(",", "").replace("−", "-"))
    except ValueError:
        return 0.0


def _given(numbers: list[str], words: list[str], unit: Unit, named: dict[str, str], chinese: bool) -> str:
    if chinese:
        return _join(numbers, words, chinese) + unit.chinese
    if " × " in words:
        return _join(numbers, words, chinese, _spaced(unit))
    quantity = _join(numbers, words, chinese)
    if named.get("abbr", "").strip() in ("on", "in", "~") or unit.kind == "temperature":
        return quantity + _spaced(unit)
    if named.get("adj", "").strip() in ("on", "mid", "pre"):
        return f"{quantity}-{unit.singular.replace(' ', '-')}"
    name = unit.singular if len(numbers) == 1 and abs(_value(numbers[0])) == 1 else unit.plural
    return f"{quantity} {name}"


def _spaced(unit: Unit) -> str:
    return unit.symbol if unit.symbol.startswith("/") else f" {unit.symbol}"


def _join(numbers: list[str], words: list[str], chinese: bool, unit: str = "") -> str:
    """Numbers with the words between them; with `unit`, after each number."""
    shown = _grouped(numbers[0]) + unit
    for word, number in zip(words, numbers[1:], strict=False):
        shown += (_RANGE_CHINESE.get(word, word) if chinese else word) + _grouped(number) + unit
    return shown


def _grouped(number: str) -> str:
    """Commas between thousands, a real minus sign."""
    whole, dot, decimals = number.replace(",", "").replace("-", "−").partition(".")
    if whole.lstrip("−+").isdigit() and len(whole) < 30:
        sign = whole[0] if whole[0] in "−+" else ""
        whole = sign + f"{int(whole.lstrip('−+')):,}"
    return whole + dot + decimals


def _converted(
    numbers: list[str],
    words: list[str],
    unit: Unit,
    target: Unit,
    digits: int | None,
    sigfig: int,
    finer: int,
    chinese: bool,
) -> str:
    """The quantity in another unit, all its numbers with the same number of decimals."""
    results = []
    for number in numbers:
        if unit.kind == "temperature":
            result = (_value(number) + unit.shift) * unit.factor / target.factor - target.shift
        else:
            result = _value(number) * unit.factor / target.factor
        if not math.isfinite(result) or abs(result) > 1e25:
            return _join(numbers, words, chinese) + _spaced(unit)
        results.append((number, result))
    if digits is None:
        digits = max(_decimals(number, result, unit, target, sigfig) for number, result in results) + finer
    digits = max(-20, min(digits, 12))
    rounded = [f"{round(result, digits):.{max(digits, 0)}f}" for _, result in results]
    if chinese:
        return _join(rounded, words, chinese) + target.chinese
    if " × " in words:
        return _join(rounded, words, chinese, _spaced(target))
    return _join(rounded, words, chinese) + _spaced(target)


def _decimals(number: str, result: float, unit: Unit, target: Unit, sigfig: int) -> int:
    """How many decimals Help:Convert rounds to (negative: zeros before the point)."""
    magnitude = math.floor(math.log10(abs(result))) if result else 0
    if sigfig:
        return sigfig - 1 - magnitude
    plain = number.replace(",", "")
    _, dot, decimals = plain.partition(".")
    trailing_zeros = len(plain) - len(plain.rstrip("0")) if plain.strip("0-−+") else 0
    given = len(decimals) if dot else -trailing_zeros
    if unit.kind == "temperature":
        return max(given, min(0, 2 - magnitude))
    # One decimal more where the factor lies between 0.02 and 0.2, one fewer between 2 and 20, and so on; but
    # two significant figures at least.
    return max(given - math.floor(math.log10(unit.factor / target.factor / 0.2)), 1 - magnitude)
