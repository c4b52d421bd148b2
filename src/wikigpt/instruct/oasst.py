"""Trees of messages as OpenAssistant publishes them: ranked answers to a prompt, and what users said to them.

At each point the best ranked answer is taken, and every question that follows it, so that one tree gives as many
conversations as it has ends. Best and worst answer to the same are a preference pair. (Köpf et al. 2023,
https://arxiv.org/abs/2304.07327, section 3.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Turn = dict[str, Any]

_UNRANKED = 10**9  # behind every rank


@dataclass(slots=True)
class Thread:
    """What a message gives: the conversations that end with it, the pairs of which it is the better answer."""

    lang: str | None
    conversations: list[list[Turn]] = field(default_factory=list)
    pairs: list[tuple[list[Turn], Any, Any]] = field(default_factory=list)


def is_message(row: Row) -> bool:
    """Whether a row is one message of a tree."""
    return {"message_id", "parent_id", "text", "role"} <= row.keys()


def goes_on(first: Row, row: Row) -> bool:
    """Whether `row` belongs to the tree that began with `first`."""
    if not is_message(row):
        return False
    if first.get("message_tree_id") is not None:
        return bool(first["message_tree_id"] == row.get("message_tree_id"))
    return row["parent_id"] is not None


def flattened(prompt: Row) -> list[tuple[int, Row]]:
    """The messages of a nested tree (`replies` within `replies`) as rows."""
    rows: list[tuple[int, Row]] = []
    waiting: list[tuple[Any, int | None]] = [(prompt, None)]
    for node, parent in waiting:  # which grows
        if isinstance(node, dict):
            rows.append((len(rows), {**node, "message_id": len(rows), "parent_id": parent}))
            replies = node.get("replies")
            waiting += [(reply, len(rows) - 1) for reply in replies] if isinstance(replies, list) else []
    return rows


def threads(rows: list[tuple[int, Row]]) -> Iterator[tuple[int, Thread | str]]:
    """Yield for each row what it gives, or why it is not used."""
    children: dict[Any, list[Row]] = {}
    for _, row in rows:
        if not row.get("deleted"):
            children.setdefault(_id(row["parent_id"]), []).append(row)
    found: dict[Any, Thread | str] = {}
    waiting: list[tuple[Row, list[Turn]]] = [(root, []) for root in children.get(None, [])]
    while waiting:
        asked, before = waiting.pop()
        turns = [*before, _turn(asked)]
        answers = sorted(_after(asked, "assistant", children), key=_rank)
        found[_id(asked["message_id"])] = Thread(asked.get("lang"))
        if not answers:
            found[_id(asked["message_id"])] = "no assistant answers it"
            continue
        for answer in answers[1:]:
            found[_id(answer["message_id"])] = "a better answer was ranked above it"
        best = answers[0]
        thread = found[_id(best["message_id"])] = Thread(best.get("lang"))
        worst = answers[-1]
        if _rank(best) < _rank(worst) < _UNRANKED and best["text"] != worst["text"]:
            thread.pairs.append((turns, best["text"], worst["text"]))
            found[_id(worst["message_id"])] = Thread(None)
        turns = [*turns, _turn(best)]
        following = _after(best, "user", children)
        answered = [question for question in following if _after(question, "assistant", children)]
        found.update((_id(q["message_id"]), "no assistant answers it") for q in following if q not in answered)
        waiting += [(question, turns) for question in answered]
        if not answered:
            thread.conversations.append(turns)
    ids = {_id(row["message_id"]) for _, row in rows}
    for number, row in rows:
        yield number, found.get(_id(row["message_id"])) or _unreached(row, ids)


def _unreached(row: Row, ids: set[Any]) -> str:
    if row.get("deleted"):
        return "it is marked as deleted"
    if row["parent_id"] is not None and _id(row["parent_id"]) not in ids:
        return "the message that it answers is not in its tree"
    return "it belongs to a branch that was not taken"


def _rank(row: Row) -> float:
    rank = row.get("rank")
    return rank if isinstance(rank, int | float) and rank < _UNRANKED else _UNRANKED


def _after(row: Row, role: str, children: dict[Any, list[Row]]) -> list[Row]:
    roles = ("assistant",) if role == "assistant" else ("prompter", "user")
    return [child for child in children.get(_id(row["message_id"]), []) if child.get("role") in roles]


def _turn(row: Row) -> Turn:
    return {"role": row.get("role"), "content": row.get("text")}


def _id(value: Any) -> Any:
    """An id that can be looked up, whatever a file holds there."""
    return value if value is None or isinstance(value, str | int) else str(value)
