"""How passages of the wiki are put before the model, and how its citations are read back.

The one place that knows the format: conversations are made with it, the chat asks with it, the judge reads with it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

NOT_FOUND: dict[str, str] = {
    "en": "I could not find that in the wiki.",
    "zh": "我在维基里没有找到相关内容。",
}
"""What is said, per language, when neither the passages nor the wiki hold the answer."""

_CITATION = re.compile(r"\s*(?:\[(\d{1,3})\]|［([\d０-９]{1,3})］|【([\d０-９]{1,3})】)")
_PARENTHESIS = re.compile(r"\s*[(（][^()（）]*[)）]$")
_FINAL_MARK = re.compile(r"[.!?。！？]*\s*$")
_SENTENCE_MARKS = frozenset(".!?;:,。！？；：，、")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an article and where it comes from; `facts` says that it is an infobox, one `key: value` a line."""

    title: str
    text: str
    url: str = ""
    revision: str = ""
    id: str = ""
    facts: bool = False


def grounded_prompt(question: str, passages: Sequence[Passage], lang: str) -> str:
    """Return the user turn that asks `question` over `passages`.

    One line `[1] Title: text` per passage, an empty line, the question. Without passages it is the question alone.
    Each fact of an infobox names its subject again, `[1] France: France's capital: Paris; France's area: …`: where
    several passages have the same keys, a small model could not tell whose value it reads (docs/experiments.md).
    """
    if not passages:
        return question
    colon = "：" if lang == "zh" else ": "
    lines = [f"[{n}] {p.title}{colon}{_in_one_line(p, lang)}" for n, p in enumerate(passages, start=1)]
    return "\n".join(lines) + "\n\n" + question


def _in_one_line(passage: Passage, lang: str) -> str:
    if not passage.facts:
        return one_line(passage.text, lang)
    name = _PARENTHESIS.sub("", passage.title) or passage.title
    return one_line("\n".join(attribute_of(name, line, lang) for line in passage.text.splitlines()), lang)


def attribute_of(name: str, key: str, lang: str) -> str:
    """Return `France's capital`, `法国的首都`."""
    if lang == "zh":
        return f"{name}{key}" if "的" in key else f"{name}的{key}"
    return f"{name}' {key}" if name.endswith("s") else f"{name}'s {key}"


def one_line(text: str, lang: str) -> str:
    """Return `text` as a single line: heading and list marks dropped, lines joined, footnote numbers removed.

    A bracketed number inside a passage would look like one of our own citations.
    """
    text = _CITATION.sub("", text)
    space, stop = ("", "；") if lang == "zh" else (" ", "; ")
    joined = ""
    for line in text.splitlines():
        line = re.sub(r"^(?:#+|-)\s+", "", line.strip())
        if not line:
            continue
        if joined:
            joined += space if joined[-1] in _SENTENCE_MARKS else stop
        joined += line
    return joined


def cited(answer: str) -> list[int]:
    """Return the passage numbers that `answer` cites, each once, in order of first mention."""
    numbers = (int(a or b or c) for a, b, c in _CITATION.findall(answer))
    return list(dict.fromkeys(numbers))


def without_citations(answer: str) -> str:
    """Return `answer` without its `[n]` marks and the spaces before them."""
    return _CITATION.sub("", answer)


def with_citation(answer: str, number: int, lang: str) -> str:
    """Return `answer` with `[number]` put before its final punctuation mark."""
    end = _FINAL_MARK.search(answer)
    cut = end.start() if end else len(answer)
    space = "" if lang == "zh" else " "
    return f"{answer[:cut]}{space}[{number}]{answer[cut:].rstrip()}"
