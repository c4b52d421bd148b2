"""Which questions are mere talk and need no search: those near to a known wording, and naming nothing else.

The known wordings are those that training conversations are made with, so what is taken for talk has an answer.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from wikigpt.chat.followup import pointer
from wikigpt.knowledge.text import units

_NEAR = 0.7  # "Write me a poem about the sea" is as near as 0.73 to "Write me a poem."
_YOU = frozenset({"you", "your", "yourself", "你"})


def is_small_talk(question: str, names: Sequence[str] = ()) -> bool:
    """Whether `question` is talk; `names` are those of articles in it, as folded units separated by spaces.

    Word for word a known wording is talk whatever it names ("Tell me a joke", though there is an article on jokes).
    A wording only near to one is not where it points at something said before, names what the known one does not, or
    does not speak to the model as the known one does.
    """
    asked = Counter(units(question))
    if not asked:
        return False
    known = max(_known_wordings(), key=lambda wording: _likeness(asked, wording))
    if asked == known:
        return True
    named = {unit for name in names for unit in name.split()}
    if pointer(question) is not None or named - known.keys() or (_YOU & known.keys()) - asked.keys():
        return False
    return _likeness(asked, known) >= _NEAR


def _likeness(a: Counter[str], b: Counter[str]) -> float:
    """Dice's coefficient of two bags of words (of characters in Chinese), 0 to 1."""
    return 2 * (a & b).total() / (a.total() + b.total())


@lru_cache(maxsize=1)
def _known_wordings() -> list[Counter[str]]:
    from wikigpt.instruct.relations import read_toml

    talks = read_toml("smalltalk.toml")["talk"]
    texts = [text for talk in talks for lang in ("en", "zh") for text in talk[lang]["users"]]
    return [counted for text in texts if (counted := Counter(units(text)))]
