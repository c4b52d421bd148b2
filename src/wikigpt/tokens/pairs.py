"""Pairs of a better and a worse answer to the same conversation: read from files, encoded as token shards."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from wikigpt.artifacts import fingerprint
from wikigpt.errors import UserError
from wikigpt.tokens.chat import ROLES, ChatFormat, Message
from wikigpt.tokens.shards import Document, _write

PAIRS, HELD_OUT_PAIRS = "pairs.jsonl", "pairs-validation.jsonl"
HELD_OUT_SHARE = 0.02  # of a file without held-out pairs of its own
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Pair:
    """A conversation that ends with the user's turn, and two answers to it."""

    split: str  # "train", or of held-out pairs their language
    messages: list[Message]
    chosen: str
    rejected: str


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a `.jsonl` file, or of `pairs.jsonl` and `pairs-validation.jsonl` in a folder.

    A line is `{"messages": [...], "chosen": "...", "rejected": "...", "lang": "en"}`, `lang` optional. Without
    `pairs-validation.jsonl` a fiftieth of the conversations is held out: by a hash, so always the same, and all pairs
    of one conversation together.

    Raises:
        UserError: there is no such file, or a line is no pair; the message says which.
    """
    file = path / PAIRS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} is missing; give a .jsonl file of preference pairs, or a folder with a {PAIRS}.")
    held_out = path / HELD_OUT_PAIRS
    if path.is_dir() and held_out.is_file():
        yield from _read(file, lambda messages: False)
        yield from _read(held_out, lambda messages: True)
    else:
        yield from _read(file, is_held_out)


def is_held_out(messages: list[Message]) -> bool:
    """Whether pairs about this conversation are held out, where nobody says which are: by a hash."""
    return int(fingerprint(messages), 16) < HELD_OUT_SHARE * 16**16


def _read(file: Path, held_out: Callable[[list[Message]], bool]) -> Iterator[Pair]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                messages = [Message(role=m["role"], content=m["content"]) for m in entry["messages"]]
                answers, lang = (entry["chosen"], entry["rejected"]), entry.get("lang") or "validation"
                if not all(isinstance(text, str) for text in (*answers, lang, *(m["content"] for m in messages))):
                    raise ValueError("contents, answers and language are text")
                if strange := [m["role"] for m in messages if m["role"] not in ROLES]:
                    raise ValueError(f"there is a role {strange[0]!r}; roles are {', '.join(ROLES)}")
                if not messages or messages[-1]["role"] != "user":
                    raise ValueError("the messages have to end with the user's")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{file}, line {number}: not a preference pair ({error!r}).") from None
            yield Pair("train" if not held_out(messages) else lang, messages, *answers)


def write_pair_tokens(
    output: Path,
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    tokenizer_sha256: str,
    *,
    max_length: int,
    first_virtual: int = 0,
    n_virtual: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode pairs as documents 2i (chosen) and 2i + 1 (rejected), with the mask of the two answers alone.

    Left out and counted are pairs longer than `max_length` tokens together (`too_long`), with twice the same answer
    (`same`), or with one that is empty (`empty`).

    Args:
        first_virtual, n_virtual: ids of virtual tokens that each document begins with (`adapt.virtual`).
    """
    chat = ChatFormat.of(tokenizer)
    virtual = [*range(first_virtual, first_virtual + n_virtual)]
    dropped = {"too_long": 0, "same": 0, "empty": 0}

    def encoded() -> Iterator[Document]:
        for done, pair in enumerate(pairs, 1):
            n_asked = len(chat.encode(pair.messages)[0])
            both = []
            for answer in (pair.chosen, pair.rejected):
                ids, mask = chat.encode([*pair.messages, Message(role="assistant", content=answer)])
                mask = [0] * (n_virtual + n_asked) + mask[n_asked:]
                both.append((pair.split, virtual + ids, len(answer.encode()), mask))
            if pair.chosen == pair.rejected:
                dropped["same"] += 1
            elif not pair.chosen.strip() or not pair.rejected.strip():
                dropped["empty"] += 1
            elif sum(len(ids) for _, ids, _, _ in both) > max_length:
                dropped["too_long"] += 1
            else:
                yield from both
            if progress and done % 1000 == 0:
                progress(done, 0, f"{done:,} pairs")

    return _write(output, tokenizer, tokenizer_sha256, encoded(), n_virtual=n_virtual, extra={"dropped": dropped})
