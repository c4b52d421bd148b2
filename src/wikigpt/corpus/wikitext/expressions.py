"""{{#expr:…}}: arithmetic as https://www.mediawiki.org/wiki/Help:Extension:ParserFunctions describes it."""

import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from wikigpt.corpus.wikitext.marks import ANY_MARK, GONE

ERROR = '<strong class="error">{}</strong>'


class _ExpressionError(Exception):
    """Its text is MediaWiki's message."""


class _SyntaxError(_ExpressionError):
    """A message that begins with "Expression error"."""


def _divide(left: float, right: float) -> float:
    if not right:
        raise _ExpressionError("Division by zero.")
    return left / right


def _modulo(left: float, right: float) -> float:
    if not int(right):
        raise _ExpressionError("Division by zero.")
    return float(int(math.fmod(int(left), int(right))))


def _float_modulo(left: float, right: float) -> float:
    if not right:
        raise _ExpressionError("Division by zero.")
    return math.fmod(left, right)


def _power(left: float, right: float) -> float:
    if not left and right < 0:
        raise _ExpressionError("Division by zero.")
    value = left**right  # of floats: never a large integer
    return value if isinstance(value, float) else math.nan


def _round(left: float, right: float) -> float:
    if not math.isfinite(left) or abs(right) > 300:
        return left
    try:  # away from zero, and 1.005 as it is written
        return float(Decimal(repr(left)).quantize(Decimal(1).scaleb(-int(right)), ROUND_HALF_UP))
    except InvalidOperation:  # more digits than there are
        return left


def _logarithm(value: float) -> float:
    if value <= 0:
        raise _ExpressionError("Invalid argument for ln: &lt;= 0.")
    return math.log(value)


def _root(value: float) -> float:
    if value < 0:
        raise _ExpressionError("In sqrt: result is not a number.")
    return math.sqrt(value)


def _inverse(name: str, function: Callable[[float], float]) -> Callable[[float], float]:
    def checked(value: float) -> float:
        if abs(value) > 1:
            raise _ExpressionError(f"Invalid argument for {name}: &lt; -1 or &gt; 1.")
        return function(value)

    return checked


# Name -> (precedence, function). Prefix operators are waiting on the stack until one that binds less comes.
_PREFIXES: dict[str, tuple[int, Callable[[float], float]]] = {
    "-": (10, lambda value: -value),
    "+": (10, lambda value: value),
    "not": (9, lambda value: float(not value)),
    "sin": (9, math.sin),
    "cos": (9, math.cos),
    "tan": (9, math.tan),
    "asin": (9, _inverse("asin", math.asin)),
    "acos": (9, _inverse("acos", math.acos)),
    "atan": (9, math.atan),
    "exp": (9, math.exp),
    "ln": (9, _logarithm),
    "abs": (9, abs),
    "floor": (9, math.floor),
    "trunc": (9, math.trunc),
    "ceil": (9, math.ceil),
    "sqrt": (9, _root),
}
_INFIXES: dict[str, tuple[int, Callable[[float, float], float]]] = {
    "e": (10, lambda left, right: left * _power(10.0, right)),
    "^": (8, _power),
    "*": (7, lambda left, right: left * right),
    "/": (7, _divide),
    "div": (7, _divide),
    "mod": (7, _modulo),
    "fmod": (7, _float_modulo),
    "+": (6, lambda left, right: left + right),
    "-": (6, lambda left, right: left - right),
    "round": (5, _round),
    "=": (4, lambda left, right: float(left == right)),
    "<>": (4, lambda left, right: float(left != right)),
    "!=": (4, lambda left, right: float(left != right)),
    "<": (4, lambda left, right: float(left < right)),
    ">": (4, lambda left, right: float(left > right)),
    "<=": (4, lambda left, right: float(left <= right)),
    ">=": (4, lambda left, right: float(left >= right)),
    "and": (3, lambda left, right: float(bool(left) and bool(right))),
    "or": (2, lambda left, right: float(bool(left) or bool(right))),
}
_CONSTANTS = {"pi": math.pi, "e": math.e}
_TOKEN = re.compile(r"\s*(?:([0-9.]+)|([a-z]+)|(<=|>=|<>|!=|[-+*/^()<>=]))", re.IGNORECASE)
_MAX_TOKENS = 1000
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&minus;", "-"), ("−", "-"))


def expression(text: str) -> str:
    """The value of {{#expr: text}}: a number, "" for nothing, or MediaWiki's error message in its tag.

    If something in it was dropped, the value is unknown: GONE.
    """
    if GONE in text:
        return GONE
    text = ANY_MARK.sub("", text)
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    try:
        values = _evaluate(text)
    except _SyntaxError as error:
        return ERROR.format(f"Expression error: {error}")
    except _ExpressionError as error:
        return ERROR.format(error)
    except OverflowError:
        return "INF"
    except ValueError:
        return "NAN"
    return "".join(map(_php_float, values))


def _evaluate(text: str) -> list[float]:
    """Dijkstra's two stacks, so that no nesting is too deep; each token is pushed and popped once."""
    values: list[float] = []
    waiting: list[tuple[str, int, Callable[..., float] | None, int]] = []  # name, precedence, function, operands
    expecting = True  # a number, not an operator

    def reduce(precedence: int) -> None:
        while waiting and waiting[-1][1] >= precedence and (function := waiting[-1][2]) is not None:
            name, _, _, operands = waiting.pop()
            if len(values) < operands:
                raise _SyntaxError(f"Missing operand for {name}.")
            operand = [values.pop() for _ in range(operands)]
            values.append(float(function(*reversed(operand))))

    position = count = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        count += 1
        if match is None:
            raise _SyntaxError(f'Unrecognized punctuation character "{text[position:].lstrip()[:1]}".')
        if count > _MAX_TOKENS:
            raise _SyntaxError("Stack exhausted.")
        position = match.end()
        number, word, sign = match.groups()
        name = (word or sign or "").lower()
        if number or (expecting and name in _CONSTANTS):
            if not expecting:
                raise _SyntaxError("Unexpected number.")
            values.append(_CONSTANTS[name] if name else _php_number(number))
            expecting = False
        elif name == "(":
            if not expecting:
                raise _SyntaxError("Unexpected ( operator.")
            waiting.append((name, 0, None, 0))
        elif name == ")":
            reduce(1)
            if not waiting:
                raise _SyntaxError("Unexpected closing bracket.")
            waiting.pop()
            expecting = False
        elif name in _PREFIXES and (expecting or name not in _INFIXES):
            if not expecting:
                raise _SyntaxError(f"Unexpected {name} operator.")
            waiting.append((name, *_PREFIXES[name], 1))
        elif name in _INFIXES:
            if expecting:
                raise _SyntaxError(f"Unexpected {name} operator.")
            precedence, function = _INFIXES[name]
            reduce(precedence)
            waiting.append((name, precedence, function, 2))
            expecting = True
        else:
            raise _SyntaxError(f'Unrecognized word "{name}".')
    reduce(1)
    if waiting:
        raise _SyntaxError("Unclosed bracket.")
    return values


def _php_number(digits: str) -> float:
    """As PHP reads it: up to the second point."""
    whole, _, rest = digits.partition(".")
    return float(f"0{whole[:400]}.{rest.partition('.')[0][:400]}0")


def _php_float(value: float) -> str:
    """Fourteen significant digits, as PHP writes a float."""
    if not math.isfinite(value):
        return "NAN" if math.isnan(value) else "INF" if value > 0 else "-INF"
    mantissa, exponent, power = f"{value:.14G}".partition("E")
    if not exponent:
        return mantissa
    return f"{mantissa}{'' if '.' in mantissa else '.0'}E{'+' if power[0] == '+' else '-'}{power[1:].lstrip('0')}"
