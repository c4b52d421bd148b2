"""Reckoning that a model can ask for in a chat: numbers and dates, worked out instead of guessed.

A call is written as Qwen and Hermes models write theirs, so that other programs' parsers of tool calls (llama.cpp's,
vLLM's) know it from an exported model:

    <tool_call>
    {"name": "calculate", "arguments": {"expression": "days('1 March 2000', '5 May 2010')"}}
    </tool_call>

What comes out goes back as the next turn, `<tool_response>\\n3717\\n</tool_response>`, and the model answers from it.
"""

import ast
import datetime
import json
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAME = "calculate"
CALL, RESPONSE = "<tool_call>", "<tool_response>"
MOST_CHARACTERS = 200  # of an expression; so many hold no more than some dozens of steps
MOST_DIGITS = 60  # of a result; more is not read, and a small model cannot copy it
LARGEST_BASE, LARGEST_EXPONENT = 1e9, 1000

_CALL = re.compile(r"<tool_call>\s*(\{.*\})\s*</tool_call>", re.DOTALL)
_NUMERIC_DATE = re.compile(r"(\d{1,4})\s*[年/.-]\s*(\d{1,2})\s*[月/.-]\s*(\d{1,2})\s*日?")
_WEEKDAYS = "一二三四五六日"


class ToolError(ValueError):
    """What was asked for cannot be worked out; the message says why."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of the model and what came of it; `failed`: the result says why there is none."""

    expression: str
    result: str
    failed: bool = False


def call_text(expression: str) -> str:
    """Return what a model says to have `expression` worked out."""
    call = json.dumps({"name": NAME, "arguments": {"expression": expression}}, ensure_ascii=False)
    return f"{CALL}\n{call}\n</tool_call>"


def response_text(use: ToolUse) -> str:
    """Return the turn that tells the model what came of its call."""
    return f"{RESPONSE}\n{use.result}\n</tool_response>"


def called(text: str) -> ToolUse | None:
    """Work out the call in what a model said; None where it holds none that makes sense."""
    match = _CALL.search(text)
    if not match:
        return None
    try:
        expression = json.loads(match[1])["arguments"]["expression"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(expression, str):
        return None
    try:
        return ToolUse(expression, calculate(expression))
    except ToolError as error:
        return ToolUse(expression, f"error: {error}", failed=True)


def calculate(expression: str) -> str:
    """Return the value of an expression of numbers, + - * / // % **, brackets, and these functions.

    `sqrt`, `abs`, `round`, `floor`, `ceil`, `min`, `max`, `log`, `log10`, `exp`, `sin`, `cos`, `tan`, `pi` and `e`;
    of dates, which are texts as "1 March 2000", "2000-03-01" or "2000年3月1日": `days(a, b)` from one to the other,
    `years(a, b)` completed between them, `weekday(a)`, `add_days(a, n)`, `today()`.

    Raises `ToolError` where it makes no sense, takes too long, or its result is too long to be read.
    """
    from simpleeval import InvalidExpression, SimpleEval

    if len(expression) > MOST_CHARACTERS:
        raise ToolError(f"the expression has {len(expression)} characters; {MOST_CHARACTERS} is the most")
    evaluator = SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names={"pi": math.pi, "e": math.e})
    evaluator.nodes = {node: evaluator.nodes[node] for node in _NODES}
    try:
        value = evaluator.eval(_plain(expression))
    except ToolError:
        raise
    except SyntaxError:
        raise ToolError("this is no expression") from None
    except ZeroDivisionError:
        raise ToolError("a division by zero") from None
    except (InvalidExpression, ArithmeticError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(str(error).splitlines()[0] if str(error) else "this cannot be worked out") from None
    return _shown(value)


def written(day: datetime.date, lang: str) -> str:
    """Return a date as people write it: 1 March 2000, 2000年3月1日."""
    return f"{day.year}年{day.month}月{day.day}日" if lang == "zh" else f"{day.day} {day:%B} {day.year}"


def _plain(expression: str) -> str:
    """Write × ÷ − ^ and full-width brackets as Python does, and numbers without thousands separators."""
    expression = expression.translate(str.maketrans("×÷−（），。", "*/-(),."))
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", expression.replace("^", "**").strip())


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        if abs(value) >= 10**MOST_DIGITS:
            raise ToolError(f"the result has more than {MOST_DIGITS} digits")
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.12g}"
    raise ToolError("the result is no number")


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError(f"{value!r} is no number")
    return value


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: function(*map(_number, values))


def _power(base: float, exponent: float) -> Any:
    if abs(_number(base)) > LARGEST_BASE or abs(_number(exponent)) > LARGEST_EXPONENT:
        raise ToolError(f"{base} ** {exponent} is too large")
    return base**exponent


def _date(text: Any) -> datetime.date:
    """A whole date out of a text."""
    from dateutil import parser

    if not isinstance(text, str):
        raise ToolError(f"{text!r} is no date; write it as '1 March 2000'")
    try:
        if match := _NUMERIC_DATE.fullmatch(text.strip()):
            return datetime.date(*map(int, match.groups()))
        # A part that is missing would be taken from the default, so two defaults show whether one is.
        dates = {parser.parse(text, default=datetime.datetime(year, year, year)).date() for year in (1, 2)}
    except (ValueError, OverflowError):
        raise ToolError(f"{text!r} is no date; write it as '1 March 2000'") from None
    if len(dates) > 1:
        raise ToolError(f"{text!r} is no whole date; year, month and day are needed")
    return dates.pop()


def _days(first: str, last: str) -> int:
    return (_date(last) - _date(first)).days


def _years(first: str, last: str) -> int:
    from dateutil.relativedelta import relativedelta

    return relativedelta(_date(last), _date(first)).years


def _weekday(text: str) -> str:
    day = _date(text)
    return f"星期{_WEEKDAYS[day.weekday()]}" if "年" in text else f"{day:%A}"


def _add_days(text: str, days: int) -> str:
    try:
        day = _date(text) + datetime.timedelta(days=_number(days))
    except OverflowError:
        raise ToolError("that is beyond the calendar") from None
    return written(day, "zh" if "年" in text else "en")


_NODES = (ast.Expr, ast.UnaryOp, ast.BinOp, ast.Call, ast.Name, ast.Constant)
_OPERATORS = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _power,
    ast.USub: _of_numbers(operator.neg),
    ast.UAdd: _of_numbers(operator.pos),
}
_NUMERIC: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "abs": abs,
    "round": lambda value, places=0: round(value, int(places)),
    "floor": math.floor,
    "ceil": math.ceil,
    "min": min,
    "max": max,
    "log": math.log,
    "log10": math.log10,
    "exp": math.exp,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {name: _of_numbers(function) for name, function in _NUMERIC.items()} | {
    "days": _days,
    "years": _years,
    "weekday": _weekday,
    "add_days": _add_days,
    "today": lambda: datetime.date.today().isoformat(),
}
