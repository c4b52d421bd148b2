"""Parser functions and variables: {{#if:…}}, {{lc:…}}, {{!}}."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import words
from wikigpt.corpus.marks import GONE

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext import Page

VARIABLES: dict[str, Callable[["Page"], str]] = {
    "!": lambda page: "|",
    "=": lambda page: "=",
    "!!": lambda page: "||",
    "(": lambda page: "{",
    ")": lambda page: "}",
    "(!": lambda page: "{|",
    "!)": lambda page: "|}",
    "!-": lambda page: "|-",
    "pagename": lambda page: page.title,
    "fullpagename": lambda page: page.title,
    "pagename base": lambda page: page.title,
    "basepagename": lambda page: page.title,
    "subpagename": lambda page: page.title,
    "namespace": lambda page: "",
    "sitename": lambda page: "Wikipedia",
    "contentlang": lambda page: page.lang,
    "contentlanguage": lambda page: page.lang,
    "int:lang": lambda page: page.lang,
}


def call_function(head: str, parts: list[tuple[str | None, str]], page: "Page") -> str | None:
    """Evaluate {{#if:…}} and the like; None if `head` is no parser function."""
    name, _, argument = head.partition(":")
    name = name.strip().lower()
    rest = [value if key is None else f"{key}={value}" for key, value in parts[1:]]
    argument = argument.strip()

    def option(number: int) -> str:
        return rest[number].strip() if number < len(rest) else ""

    if name == "#if":
        return option(0) if _visible(argument) else option(1)
    if name == "#ifeq":
        return option(1) if _same(argument, option(0)) else option(2)
    if name == "#switch":
        return _switch(argument, rest)
    if name in ("#ifexist", "#iferror"):
        return option(0) if name == "#ifexist" else (option(1) or argument)
    if name == "#expr":
        return _expression(argument)
    if name == "#ifexpr":
        return option(0) if _expression(argument) not in ("", "0") else option(1)
    if name == "lc":
        return argument.lower()
    if name == "uc":
        return argument.upper()
    if name == "lcfirst":
        return argument[:1].lower() + argument[1:]
    if name == "ucfirst":
        return argument[:1].upper() + argument[1:]
    if name == "formatnum":
        return argument.replace(",", "") if option(0).upper() == "R" else format_number(argument)
    if name in ("padleft", "padright"):
        width, fill = option(0), option(1) or "0"
        if not width.isdigit() or int(width) > 500:
            return argument
        padding = (fill * int(width))[: max(0, int(width) - len(argument))]
        return padding + argument if name == "padleft" else argument + padding
    if name in ("lang", "langue") or name.startswith(("#", "int")):
        return ""
    if name in _SILENT_FUNCTIONS:
        return ""
    return None


_SILENT_FUNCTIONS = words(
    """defaultsort defaultsortkey defaultcategorysort displaytitle 默认排序 預設排序 默認排序 defaultcategory fullurl
    localurl canonicalurl urlencode anchorencode filepath ns nse plural grammar gender pagesincategory
    numberofarticles protectionlevel revisionid sortierung clé_de_tri ordenar ordina デフォルトソート 기본정렬
    сортировка_по_умолчанию ключ_сортировки 显示标题 顯示標題 invoke"""
)


def _visible(text: str) -> bool:
    return bool(text.replace(GONE, "").strip())


def _same(left: str, right: str) -> bool:
    left, right = left.replace(GONE, "").strip(), right.replace(GONE, "").strip()
    if left == right:
        return True
    try:
        return float(left) == float(right)
    except ValueError:
        return False


def _switch(value: str, cases: list[str]) -> str:
    """{{#switch: value | a = 1 | b | c = 2 | #default = 3}}; cases without "=" fall through to the next."""
    default = ""
    falling = default_next = False
    for number, case in enumerate(cases):
        key, equals, shown = case.partition("=")
        if not equals:
            if number == len(cases) - 1:
                return key.strip()
            falling = falling or _same(value, key)
            default_next = default_next or key.strip() == "#default"
        elif falling or _same(value, key):
            return shown.strip()
        elif key.strip() == "#default" or default_next:
            default, default_next = shown.strip(), False
    return default


_EXPRESSION = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([-+*/()]))")


def _expression(text: str) -> str:
    """The value of + - * / over literal numbers, or "" if there is more to it."""
    tokens: list[str] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _EXPRESSION.match(text, position)
        if match is None or len(tokens) > 60:
            return ""
        tokens.append(match.group(1) or match.group(2))
        position = match.end()

    def term(priority: int) -> float:
        nonlocal tokens
        token = tokens.pop(0)
        if token == "(":
            value = term(0)
            if not tokens or tokens.pop(0) != ")":
                raise ValueError
        elif token in "+-":
            value = term(2) if token == "+" else -term(2)
        else:
            value = float(token)
        while tokens and tokens[0] in "+-*/" and (1 if tokens[0] in "+-" else 2) > priority:
            operator = tokens.pop(0)
            right = term(1 if operator in "+-" else 2)
            if operator in "+-":
                value += right if operator == "+" else -right
            else:
                value = value * right if operator == "*" else value / right
        return value

    try:
        value = term(0)
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return ""
    return "" if tokens else f"{value:.12g}"


_NUMBER = re.compile(r"(?<![\d.])\d{4,}(?![\d])")


def format_number(text: str) -> str:
    """Commas between thousands: 1234567.891 -> 1,234,567.891."""
    return _NUMBER.sub(lambda m: f"{int(m.group()):,}" if len(m.group()) < 40 else m.group(), text)
