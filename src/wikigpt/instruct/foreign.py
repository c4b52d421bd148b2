"""Conversations and preference pairs in the formats of other tools, recognised row by row.

| format | columns of a row |
|---|---|
| messages | `messages` of `role` and `content`: OpenAI, TRL, our own (with `task`, `lang`, `sources`) |
| sharegpt | `conversations` of `from` and `value`, perhaps `system` |
| alpaca | `instruction`, `output`, perhaps `input`, `system`, `history`; Dolly's `context` and `response` |
| prompt | `prompt` and `completion`; `question` and `answer` |
| self-instruct | `instruction` and `instances` of `input` and `output` |
| oasst | rows that are messages (`message_id`, `parent_id`, `text`, `role`) one tree after the other, or whole trees |
| arena | `conversation_a`, `conversation_b` and `winner`: votes of Chatbot Arena, and of `wikigpt arena` |

With `chosen` and `rejected` a row is a preference pair: the prompt is any of the above, or what both have in common
(TRL's implicit prompt; the Human/Assistant text of hh-rlhf). So is an Alpaca row whose `output` is a list, best first.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from wikigpt.errors import UserError
from wikigpt.instruct import oasst
from wikigpt.instruct.language import detect_language, named_language
from wikigpt.instruct.tables import Row, RowFile

Conversation = dict[str, Any]
Pair = dict[str, Any]
Message = dict[str, str]

_CONTAINERS = ("messages", "conversations", "conversation")
_QUESTIONS = ("prompt", "question", "query")
_ANSWERS = ("completion", "response", "answer")
_MESSAGES = (*_QUESTIONS, *_ANSWERS, "chosen", "rejected")  # columns that hold text, or messages
_ARENA = {"model_a": ("conversation_a", "conversation_b"), "model_b": ("conversation_b", "conversation_a")}
COLUMNS = frozenset({*_CONTAINERS, *_QUESTIONS, "instruction", "chosen", "rejected", "message_id", "winner"})

_ROLES = {
    "system": "system",
    "developer": "system",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
}
_TOOLS = frozenset({"tool", "function", "function_call", "function_response", "observation", "tool_call", "ipython"})
_MEDIA = {"images": "images", "image": "images", "videos": "videos", "audios": "sound"}
_NONE: tuple[Any, ...] = (None, "", "[]", "null", [], {})  # how tools write that there are no images, or no tools
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")  # https://github.com/anthropics/hh-rlhf


class Unusable(ValueError):
    """Why a row cannot be used, as half a sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a row was found to be: what it gives (which may be nothing, if other rows hold it), or why it is left out.

    `row` is counted as `RowFile.rows` counts.
    """

    row: int
    format: str = ""
    conversations: tuple[Conversation, ...] = ()
    pairs: tuple[Pair, ...] = ()
    reason: str = ""


@dataclass(slots=True)
class CheckReport:
    """How much of a file can be used.

    Attributes:
        unit: what rows are counted in, "line" or "row".
        rows: rows in the file.
        conversations, pairs: how many the usable rows hold, by format, then language.
        duplicates: conversations and pairs that are word for word like an earlier one; `instruct` takes one of them.
        unusable: number and reason of every row that cannot be used.
    """

    path: str
    unit: str
    rows: int = 0
    conversations: dict[str, Counter[str]] = field(default_factory=dict)
    pairs: dict[str, Counter[str]] = field(default_factory=dict)
    duplicates: int = 0
    unusable: list[tuple[int, str]] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Rows that can be used."""
        return self.rows - len(self.unusable)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON-serialisable values."""
        return {
            "path": self.path,
            "rows": self.rows,
            "usable": self.usable,
            "conversations": {name: dict(counts) for name, counts in self.conversations.items()},
            "pairs": {name: dict(counts) for name, counts in self.pairs.items()},
            "duplicates": self.duplicates,
            "unusable": [{self.unit: number, "reason": reason} for number, reason in self.unusable],
        }


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yield the conversations of a file, `{"messages", "task", "lang", "sources"}` each; preference pairs are no such.

    Rows that cannot be used are left out (`check_file` says which and why); duplicates are not.

    Raises:
        UserError: no such file, or, at its end, there was none.
    """
    found = False
    for reading in read_rows(path):
        found = found or bool(reading.conversations)
        yield from reading.conversations
    if not found:
        raise _nothing(path, "conversations")


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the preference pairs of a file: `{"messages", "chosen", "rejected", "lang"}`; a user has the last message.

    Rows that cannot be used are left out (`check_file` says which and why); duplicates are not.

    Raises:
        UserError: no such file, or, at its end, there was none.
    """
    found = False
    for reading in read_rows(path):
        found = found or bool(reading.pairs)
        yield from reading.pairs
    if not found:
        raise _nothing(path, "preference pairs")


def check_file(path: Path) -> CheckReport:
    """Read a whole file and say what can be used, what not, and why.

    Raises:
        UserError: no such file, or one that holds no rows in any format known.
    """
    report = CheckReport(str(path), RowFile(path, COLUMNS).unit)
    seen: set[int] = set()
    for reading in read_rows(path):
        report.rows += 1
        if reading.reason:
            report.unusable.append((reading.row, reading.reason))
        for counts, entries in ((report.conversations, reading.conversations), (report.pairs, reading.pairs)):
            for entry in entries:
                counts.setdefault(reading.format, Counter())[entry["lang"]] += 1
                mark = digest(entry)
                report.duplicates += mark in seen
                seen.add(mark)
    report.unusable.sort()
    return report


def digest(entry: Conversation | Pair) -> int:
    """64 bits that tell conversations, or pairs, apart by what is said in them."""
    said = [entry["messages"], entry.get("chosen"), entry.get("rejected")]
    return int.from_bytes(hashlib.blake2b(json.dumps(said).encode(), digest_size=8).digest(), "big")


def _nothing(path: Path, what: str) -> UserError:
    return UserError(f"{path} holds no {what} that can be used; `wikigpt instruct --check {path}` says why.")


def read_rows(path: Path) -> Iterator[Reading]:
    """Yield what each row of a file was found to be, one reading a row; those of a tree of messages come together."""
    tree: list[tuple[int, Row]] = []  # rows of one tree of messages, which are only then conversations
    file = RowFile(path, COLUMNS)
    for number, row in file.rows():
        if file.kind == "csv" and isinstance(row, dict):
            row = {column: _cell(column, text) for column, text in row.items()}
        if tree and not (isinstance(row, dict) and oasst.goes_on(tree[0][1], row)):
            yield from _read_tree(tree)
            tree = []
        if isinstance(row, str):
            yield Reading(number, reason=row)
        elif oasst.is_message(row):
            tree.append((number, row))
        else:
            yield _read_row(number, row)
    yield from _read_tree(tree)


def _read_tree(rows: list[tuple[int, Row]]) -> Iterator[Reading]:
    for number, thread in oasst.threads(rows):
        if isinstance(thread, str):
            yield Reading(number, "oasst", reason=thread)
            continue
        try:
            yield Reading(number, "oasst", *_of_threads([thread]))
        except Unusable as problem:
            yield Reading(number, "oasst", reason=str(problem))


def _read_row(number: int, row: Row) -> Reading:
    try:
        row = {key: value for key, value in row.items() if value is not None}  # parquet has every column in every row
        name, conversations, pairs = _recognise(row)
        return Reading(number, name, conversations, pairs)
    except Unusable as problem:
        return Reading(number, reason=str(problem))


def _recognise(row: Row) -> tuple[str, tuple[Conversation, ...], tuple[Pair, ...]]:
    _check_text_only(row)
    if "chosen" in row and "rejected" in row:
        name, messages, chosen, rejected = _preference(row)
        return name, (), (_pair(messages, chosen, rejected, row),)
    if "winner" in row and {"conversation_a", "conversation_b"} <= row.keys():
        return "arena", (), (_vote(row),)
    if container := next((key for key in _CONTAINERS if key in row), None):
        row = {**row, container: _parsed(row[container], container)}
        if str(row.get("label", row.get("kto_tag"))).lower() == "false":
            raise Unusable("it is labelled as a bad answer (label is false)")
        return _container_format(row, container), (_conversation(_prompt(row), row),), ()
    if "instruction" in row and isinstance(row.get("instances"), list):
        instances = [i for i in row["instances"] if isinstance(i, dict)]
        return "self-instruct", tuple(_alpaca({"instruction": row["instruction"], **i}) for i in instances), ()
    if "instruction" in row and isinstance(answers := row.get("output"), list):
        if len(answers) < 2:
            raise Unusable("output is a list, which ranks answers, but there are not two of them")
        best, worst = _text(answers[0], "the first output"), _text(answers[-1], "the last output")
        return "alpaca", (), (_pair(_prompt(row), best, worst, row),)
    if "instruction" in row and ("output" in row or "response" in row):
        return "alpaca", (_alpaca(row),), ()
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        threads = [thread for _, thread in oasst.threads(oasst.flattened(row["prompt"]))]
        return "oasst", *_of_threads([thread for thread in threads if not isinstance(thread, str)])
    question = next((key for key in _QUESTIONS if key in row), None)
    answer = next((key for key in _ANSWERS if key in row), None)
    if question and answer:
        return "prompt", (_conversation([*_prompt(row), *_turns(row[answer], "assistant", answer)], row),), ()
    columns = ", ".join(repr(column)[1:-1] for column in list(row)[:6]) or "none"
    raise Unusable(f"its columns are those of no format known ({columns})")


def _of_threads(threads: list[oasst.Thread]) -> tuple[tuple[Conversation, ...], tuple[Pair, ...]]:
    conversations = [
        _conversation(_messages(turns, "messages"), {"lang": thread.lang})
        for thread in threads
        for turns in thread.conversations
    ]
    pairs = [
        _pair(_messages(turns, "messages"), _text(best, "chosen"), _text(worst, "rejected"), {"lang": thread.lang})
        for thread in threads
        for turns, best, worst in thread.pairs
    ]
    if not threads:
        raise Unusable("no assistant answers in this tree")
    return tuple(conversations), tuple(pairs)


def _alpaca(row: Row) -> Conversation:
    answer = {"role": "assistant", "content": _text(row.get("output", row.get("response")), "output")}
    return _conversation([*_prompt(row), answer], row)


def _prompt(row: Row) -> list[Message]:
    """The messages of a row before its answer, or all of them where they stand in one list; [] where there are none."""
    messages: list[Message] = []
    if container := next((key for key in _CONTAINERS if key in row), None):
        messages = _messages(_parsed(row[container], container), container)
    elif "instruction" in row:
        parts = [_text(row["instruction"], "instruction"), _text(row.get("input", row.get("context", "")), "input")]
        messages = [*_history(row), {"role": "user", "content": "\n".join(part for part in parts if part.strip())}]
    elif question := next((key for key in _QUESTIONS if key in row), None):
        messages = _turns(row[question], "user", question)
    if "system" in row and (system := _text(row["system"], "system")).strip():
        messages = [{"role": "system", "content": system}, *messages]
    return messages


def _history(row: Row) -> list[Message]:
    """Alpaca's earlier turns, pairs of a question and its answer."""
    turns = _parsed(row.get("history") or [], "history")
    if not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise Unusable("history is not a list of pairs [question, answer]")
    roles = ("user", "assistant")
    return [
        {"role": role, "content": _text(said, f"turn {number} of history")}
        for number, turn in enumerate(turns, 1)
        for role, said in zip(roles, turn, strict=True)
    ]


def _preference(row: Row) -> tuple[str, list[Message], str, str]:
    """Format, prompt, better and worse answer of a row with `chosen` and `rejected`."""
    one, other = row["chosen"], row["rejected"]
    prompt = next((key for key in (*_CONTAINERS, "instruction", *_QUESTIONS) if key in row), None)
    if isinstance(one, str) and isinstance(other, str):
        if prompt is None:
            return "prompt", *_implicit(_text(one, "chosen"), _text(other, "rejected"))
        return _pair_format(row, prompt), _prompt(row), _text(one, "chosen"), _text(other, "rejected")
    chosen, rejected = _turns(one, "assistant", "chosen"), _turns(other, "assistant", "rejected")
    if chosen[0]["role"] == "assistant" and prompt is not None:
        messages, name = _prompt(row), _pair_format(row, prompt)
    else:  # whole conversations: what they have in common is the prompt
        messages = [a for a, b in takewhile(lambda ab: ab[0] == ab[1], zip(chosen, rejected, strict=False))]
        if len(messages) in (len(chosen), len(rejected)):
            raise Unusable("chosen equals rejected")
        chosen, rejected, name = chosen[len(messages) :], rejected[len(messages) :], "messages"
    for answer, what in ((chosen, "chosen"), (rejected, "rejected")):
        if len(answer) != 1 or answer[0]["role"] != "assistant":
            raise Unusable(f"{what} is not one answer by the assistant")
    return name, messages, chosen[0]["content"], rejected[0]["content"]


def _vote(row: Row) -> Pair:
    """The pair that a vote between two conversations gives."""
    columns = _ARENA.get(str(row["winner"]))
    if columns is None:
        raise Unusable(f"neither answer was preferred (winner is {_shown(row['winner'])})")
    chosen, rejected = (_parsed(row[column], column) for column in columns)
    _, messages, better, worse = _preference({"chosen": chosen, "rejected": rejected})
    return _pair(messages, better, worse, row)


def _implicit(chosen: str, rejected: str) -> tuple[list[Message], str, str]:
    """Split two texts that begin with the same prompt, as TRL's `extract_prompt` does, or by hh-rlhf's marks."""
    if chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:"):
        *prompt, better = _hh_turns(chosen)
        *same, worse = _hh_turns(rejected)
        if prompt != same or {better["role"], worse["role"]} != {"assistant"}:
            raise Unusable("chosen and rejected are not answers to the same prompt")
        return prompt, better["content"], worse["content"]
    length = sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], zip(chosen, rejected, strict=False)))
    if length and chosen[length - 1] == " ":
        length -= 1
    if not chosen[:length].strip():
        raise Unusable("there is no prompt: neither a column nor a beginning that chosen and rejected share")
    return [{"role": "user", "content": chosen[:length]}], chosen[length:].strip(), rejected[length:].strip()


def _hh_turns(text: str) -> list[Message]:
    _, *parts = _HH_TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _turns(value: Any, role: str, what: str) -> list[Message]:
    """Messages of a text (said by `role`), of one message, or of a list of them."""
    if isinstance(value, str):
        return [{"role": role, "content": _text(value, what)}]
    return _messages(value if isinstance(value, list) else [value], what)


def _messages(values: Any, what: str) -> list[Message]:
    if not isinstance(values, list) or not values:
        raise Unusable(f"{what} is not a list of messages" if values else f"{what} is empty")
    messages = [_message(value, number) for number, value in enumerate(values, 1)]
    if messages[0]["role"] == "system" and not messages[0]["content"].strip():
        del messages[0]  # many tools write an empty one
    return messages


def _message(value: Any, number: int) -> Message:
    if not isinstance(value, dict):
        raise Unusable(f"message {number} is not an object with role and content")
    role = value.get("role") if value.get("role") is not None else value.get("from")
    if role is None:
        raise Unusable(f"message {number} has no role")
    name = str(role).strip().lower()
    if name in _TOOLS or value.get("tool_calls") or value.get("function_call"):
        raise Unusable(f"message {number} is a tool call or its result, which is not supported")
    if name not in _ROLES:
        raise Unusable(f"message {number} has the unknown role {_shown(role)}")
    content = next((value[key] for key in ("content", "value") if value.get(key) is not None), "")
    return {"role": _ROLES[name], "content": _text(content, f"message {number}")}


def _text(value: Any, what: str) -> str:
    """The text of a content: a string, or OpenAI's list of text parts."""
    if isinstance(value, list):
        value = "".join(_part(part, what) for part in value)
    if not isinstance(value, str):
        raise Unusable(f"{what} is not text, but {_shown(value)}")
    if _SURROGATE.search(value):
        raise Unusable(f"{what} holds bytes that are not UTF-8 text (perhaps GBK: save the file as UTF-8)")
    return value


def _part(part: Any, what: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and "image" in kind:
        raise Unusable(f"{what} holds an image; only text can be learnt")
    raise Unusable(f"{what} holds a part that is not text ({_shown(kind if kind else part)})")


def _parsed(value: Any, what: str) -> Any:
    """The value of a column that holds a list; in CSV it is written as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Unusable(f"{what} is not a list of messages, nor JSON text of one") from None


def _cell(column: str, text: str) -> Any:
    """The value of a CSV cell: lists and messages stand there as JSON, but what is said may be JSON, too."""
    lists = column in (*_CONTAINERS, "history", "sources")
    if not (lists or column in _MESSAGES) or not text.startswith(("[", "{")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    first = value[0] if isinstance(value, list) and value else value
    is_message = isinstance(first, dict) and ({"role", "content"} <= first.keys() or {"from", "value"} <= first.keys())
    return value if lists or is_message else text


def _check_text_only(row: Row) -> None:
    for column, what in _MEDIA.items():
        if row.get(column) not in _NONE:
            raise Unusable(f"it comes with {what} (column {column}); only text can be learnt")
    if row.get("tools") not in _NONE:
        raise Unusable("it offers tools to call (column tools), which is not supported")


def _conversation(messages: list[Message], row: Row) -> Conversation:
    _check_order(messages)
    if messages[-1]["role"] != "assistant":
        raise Unusable("it ends without an answer by the assistant")
    task = row.get("task")
    return {
        "messages": messages,
        "task": task if isinstance(task, str) and task.strip() and not _SURROGATE.search(task) else "chat",
        "lang": _language(row, messages),
        "sources": _sources(row.get("sources")),
    }


def _sources(value: Any) -> list[Row]:
    """The sources as our own format lists them; others' are dropped, since they could not be written as JSON."""
    if not value or not isinstance(value, list) or not all(isinstance(source, dict) for source in value):
        return []
    try:
        return [] if _SURROGATE.search(json.dumps(value, ensure_ascii=False)) else value
    except (TypeError, ValueError):
        return []


def _pair(messages: list[Message], chosen: str, rejected: str, row: Row) -> Pair:
    _check_order(messages)
    if messages[-1]["role"] != "user":
        raise Unusable("the prompt does not end with a question by the user")
    for answer, what in ((chosen, "chosen"), (rejected, "rejected")):
        if not answer.strip():
            raise Unusable(f"{what} is empty")
    if chosen.strip() == rejected.strip():
        raise Unusable("chosen equals rejected")
    answered = [*messages, {"role": "assistant", "content": chosen}]
    return {"messages": messages, "chosen": chosen, "rejected": rejected, "lang": _language(row, answered)}


def _check_order(messages: list[Message]) -> None:
    """Refuse messages that are empty or not in turn: perhaps a system's, then user and assistant in alternation."""
    if not messages:
        raise Unusable("there are no messages")
    for number, message in enumerate(messages, 1):
        if not message["content"].strip():
            raise Unusable(f"message {number} ({message['role']}) is empty")
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    first = len(messages) - len(turns) + 1
    for number, message in enumerate(turns, first):
        role, expected = message["role"], "assistant" if (number - first) % 2 else "user"
        if role == "system":
            raise Unusable(f"message {number} is a system message in the middle")
        if role != expected:
            started = number == first
            raise Unusable(
                "the assistant speaks first" if started else f"message {number} is a second {role}'s in a row"
            )
    if not turns:
        raise Unusable("there is a system message only")


def _language(row: Row, messages: list[Message]) -> str:
    said = "\n".join(message["content"] for message in messages if message["role"] != "system")
    return named_language(row.get("lang", row.get("language"))) or detect_language(said)


def _container_format(row: Row, container: str) -> str:
    values = row[container]
    first = values[0] if isinstance(values, list) and values else None
    return "sharegpt" if isinstance(first, dict) and "from" in first else "messages"


def _pair_format(row: Row, prompt: str) -> str:
    if prompt in _CONTAINERS:
        return _container_format(row, prompt)
    return "alpaca" if prompt == "instruction" else "messages" if isinstance(row[prompt], list) else "prompt"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
