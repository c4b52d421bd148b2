"""Conversations as `wikigpt instruct` writes them: a folder of JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path

from wikigpt.errors import UserError
from wikigpt.tokens.chat import Message


def read_folder(folder: Path) -> Iterator[tuple[str, list[Message]]]:
    """`(split, messages)`: training ones as "train", held-out ones as a split per language."""
    for name in ("train", "validation"):
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"{path} is missing; make conversations with `wikigpt instruct`.")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    split, messages = "train" if name == "train" else entry["lang"], entry["messages"]
                    if not all(isinstance(part, str) for m in messages for part in (m["role"], m["content"])):
                        raise ValueError("role and content of a message are text")
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{path}, line {number}: not a conversation ({error!r}).") from None
                yield split, messages
