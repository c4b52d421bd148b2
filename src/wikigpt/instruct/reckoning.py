"""Conversations in which a number or a date is worked out: the model calls for it, and answers from what comes back."""

import datetime
from collections.abc import Iterator
from random import Random
from typing import Any

from wikigpt.chat.tools import ToolUse, calculate, call_text, response_text, written
from wikigpt.instruct.relations import read_toml
from wikigpt.instruct.talk import Conversation, conversation
from wikigpt.instruct.wording import careless

_ANSWERS = ("{shown} = **{result}**", "**{result}**")
_FIRST_DAY, _LAST_DAY = datetime.date(1700, 1, 1), datetime.date(2099, 12, 31)


def reckonings(
    lang: str, number: int, rng: Random, *, noise: float = 0.0, heldout: bool = False
) -> Iterator[Conversation]:
    """Yield `number` conversations, all kinds of reckoning in turn; `noise`: the part that is asked carelessly."""
    kinds: list[dict[str, Any]] = read_toml("reckoning.toml")["reckoning"]
    for i in range(number):
        kind = kinds[i % len(kinds)]
        words, values = kind[lang], _values(lang, rng)
        asked = rng.choice(words["heldout" if heldout else "ask"]).format(**values)
        if rng.random() < noise:
            asked = careless(asked, lang, rng)
        expression = kind["expression"].format(**values)
        use = ToolUse(expression, calculate(expression))
        shown = kind.get("shown", "").format(**values)
        answer = rng.choice(words.get("answers", _ANSWERS)).format(**values, shown=shown, result=use.result)
        turns = [asked, call_text(expression), response_text(use), answer]
        yield conversation("reckoning", lang, turns)


def _values(lang: str, rng: Random) -> dict[str, Any]:
    """Numbers of all sizes, small ones more often, and two dates in order, written as the language does."""
    a, b = (rng.randrange(1, 10 ** rng.choice((1, 2, 2, 3, 3, 4, 5))) for _ in range(2))
    span = (_LAST_DAY - _FIRST_DAY).days
    first, last = sorted(_FIRST_DAY + datetime.timedelta(days=rng.randrange(span)) for _ in range(2))
    if rng.random() < 0.5:  # dates near each other, as people ask for
        last = min(_LAST_DAY, first + datetime.timedelta(days=rng.randrange(1, 800)))
    return {
        "a": a,
        "b": b,
        "n": rng.randrange(2, 100),
        "m": rng.randrange(2, 8),
        "d": written(first, lang),
        "f": written(last, lang),
    }
