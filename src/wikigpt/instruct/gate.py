"""The one door through which every conversation made from the wiki has to pass."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wikigpt.chat.grounding import NOT_FOUND, cited
from wikigpt.chat.tools import CALL, RESPONSE
from wikigpt.instruct.talk import Conversation
from wikigpt.instruct.wording import bare, find_value

LONGEST_QUESTION, LONGEST_ANSWER = 8_000, 600
"""Characters. Nine passages of 480 bytes are 4,300; the longest answer, a section's opening, has 220."""

_PASSAGE = re.compile(r"^\[(\d)\] (.*)$", re.MULTILINE)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_SENTENCES = re.compile(r"(?<=[。！？])|(?<=[.!?])\s+")
# What the extraction of wikitext may leave: braces, links, tags, entities, quotes of bold face.
_MARKUP = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|'{3}|</?(?:ref|br|span|div|small|sub|sup|nowiki|math|table|gallery)\b"
    r"|&(?:nbsp|amp|lt|gt|quot|ndash|mdash|#\d+);|\b(?:thumb|left|right)\||-\{|\}-|https?://|__[A-Z]{3,}__"
    r"|\{(?:title|name|noun|value|text|owner|np|what)\}"
)
# Where a template stood that the extraction did not know: "an area of .", "（）", "Colombia , officially". Passages may
# have such holes, as those that a search finds have; questions and answers may not.
_HOLE = re.compile(
    r"(?<![\w\])])\(\s*[,;:]?\s*\)|（[\s，；：、]*）|[(（]\s*[;；,，、]|[^\W\d_]+[:：;；,，、]\s*[)）]|\w [,.](?= |$)"
    r"|\(\w+ ;|[，、][，。、]|\s[，。]|^[^，。]*，$"
)
# The same words twice in a row, from eight letters or five Chinese characters on: a template filled into itself.
_TWICE = re.compile(r"\b(\w[^\n]{6,}\w)[\s,;]+\1\b|([\u4e00-\u9fff]{5,})[，；、]?\2")
_DIGITS_OF_YEAR = re.compile(r"年$")


@dataclass(slots=True)
class Gate:
    """Lets sound conversations through and counts the others.

    Attributes:
        dropped: how many were stopped, by (language, kind, reason); `reason_against` lists the reasons.
    """

    dropped: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def passed(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """Yield the conversations that nothing speaks against, in order."""
        for made in conversations:
            if reason := reason_against(made):
                self.dropped[made["lang"], made["task"], reason] += 1
            else:
                yield made

    def counts(self, lang: str) -> dict[str, dict[str, int]]:
        """The number dropped in a language: kind -> reason -> number."""
        found: dict[str, dict[str, int]] = {}
        for (_, kind, reason), number in sorted(item for item in self.dropped.items() if item[0][0] == lang):
            found.setdefault(kind, {})[reason] = number
        return found


def reason_against(made: Conversation) -> str | None:
    """Return why a conversation is not to be used, in a word, or None.

    | reason | what is wrong |
    |---|---|
    | roles | not user and assistant in turn, or not the assistant at the end |
    | empty | a turn without a letter or digit in it |
    | long | a question above 8,000 characters, an answer above 600 |
    | markup | wikitext, HTML, a placeholder; outside of passages also the hole that a template left |
    | repeated | an answer that says the same twice |
    | uncited | an open-book answer that cites no passage, several, or one that is not there |
    | ungrounded | an open-book answer whose value does not stand in the passage it cites |
    """
    turns = [(message["role"], message["content"]) for message in made["messages"]]
    if not turns or len(turns) % 2 or [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2):
        return "roles"
    for number, (_, text) in enumerate(turns):
        if not text.strip() or (number % 2 and not bare(text)):
            return "empty"
        if len(text) > (LONGEST_ANSWER if number % 2 else LONGEST_QUESTION):
            return "long"
        if text.startswith((CALL, RESPONSE)):
            continue  # made by us, and full of braces
        if _MARKUP.search(text) or _HOLE.search(text if number % 2 else question_of(text)):
            return "markup"
        if number % 2:
            if repeats(text):
                return "repeated"
            if (passages := passages_of(turns[number - 1][1])) and (reason := _ungrounded(text, passages)):
                return reason
    return None


def passages_of(asked: str) -> dict[int, str]:
    """Return the numbered passages, "title: text", that a user's turn holds in front of its question."""
    body, blank, _ = asked.rpartition("\n\n")
    return {int(number): text for number, text in _PASSAGE.findall(body)} if blank else {}


def question_of(asked: str) -> str:
    """Return a user's turn without the passages in front of it."""
    return asked.rpartition("\n\n")[2] if passages_of(asked) else asked


def last_question(made: Conversation) -> str:
    """Return the last thing asked, without passages, as `bare` writes it: what must not be held out and taught."""
    asked = question_of([m["content"] for m in made["messages"] if m["role"] == "user"][-1])
    return bare(asked) or asked  # "???" has nothing bare


def value_of(answer: str) -> str:
    """Return what an answer has in bold, or "" where nothing or more than one thing is."""
    found = _BOLD.findall(answer)
    return str(found[0]) if len(found) == 1 else ""


def stands_in(value: str, passage: str) -> bool:
    """Whether a passage holds a value; a year of the Chinese wiki may stand there without its 年."""
    return any(find_value(form, passage) for form in (value, _DIGITS_OF_YEAR.sub("", value)))


def repeats(answer: str) -> bool:
    """Whether an answer has the same sentence twice, or the same words twice in a row."""
    sentences = [words for sentence in _SENTENCES.split(answer) if len(words := bare(sentence)) > 3]
    return len(set(sentences)) < len(sentences) or _TWICE.search(answer) is not None


def _ungrounded(answer: str, passages: dict[int, str]) -> str | None:
    """Why an answer to a question over `passages` is not one, or None; NOT_FOUND is one."""
    if answer in NOT_FOUND.values():
        return None
    numbers = cited(answer)
    if len(numbers) != 1 or numbers[0] not in passages:
        return "uncited"
    return None if (value := value_of(answer)) and stands_in(value, passages[numbers[0]]) else "ungrounded"
