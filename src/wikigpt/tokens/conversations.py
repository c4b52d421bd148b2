"""Conversations as `wikigpt instruct` writes them: a folder of JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path

from wikigpt.errors import UserError
from wikigpt.tokens.chat import Message


def conversation_files(folder: Path) -> list[Path]:
    """The files of a folder's training and held-out conversations. Raises `UserError` where one is missing."""
    paths = [folder / f"{name}.jsonl" for name in ("train", "validation")]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; make conversations with `wikigpt instruct`.")
    return paths


def read_folder(folder: Path, *, by_task: bool = False) -> Iterator[tuple[str, list[Message]]]:
    """`(split, messages)`: training ones as "train", held-out ones as a split per language, or "LANG TASK"."""
    for path in conversation_files(folder):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    messages, split = entry["messages"], "train"
                    if path.stem == "validation":
                        split = f"{entry['lang']} {entry['task']}" if by_task else entry["lang"]
                    if not all(isinstance(part, str) for m in messages for part in (m["role"], m["content"])):
                        raise ValueError("role and content of a message are text")
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{path}, line {number}: not a conversation ({error!r}).") from None
                yield split, messages
