"""Token shards: all documents of a split as one flat array on disk, read through memory mapping.

`NAME.bin` holds the token ids (uint16 below 65,536 tokens, else uint32), `NAME.offsets.bin` (uint64) where
each document starts, plus the end of the last, and `NAME.mask.bin` (uint8), where present, which tokens
are to be learned. `tokens.json` describes the splits and carries their checksums.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from wikigpt.artifacts import atomic_folder, check_output_folder, read_json, sha256_file, write_json
from wikigpt.errors import UserError
from wikigpt.tokens.chat import ChatFormat, Message
from wikigpt.tokens.tokenizer import END_OF_TEXT, encode_texts

MANIFEST = "tokens.json"
EXERCISES = "exercises"  # split of conversations that are pretrained on, beside text
BLOCK = 10**6  # tokens read at a time
Progress = Callable[[int, int, str], None]
Document = tuple[str, list[int], int, list[int] | None]  # split, token ids, bytes of the text, mask


@dataclass(frozen=True)
class Shard:
    """One split of a tokens folder, memory-mapped."""

    name: str
    tokens: np.ndarray  # [n_tokens] uint16 or uint32
    offsets: np.ndarray  # [n_documents + 1] uint64
    mask: np.ndarray | None  # [n_tokens] uint8: 1 where a token is a target; None: every token is
    n_bytes: int  # UTF-8 bytes of the text that was encoded
    folder: Path = Path()
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the files in `folder` that it is mapped from

    @property
    def n_documents(self) -> int:
        return len(self.offsets) - 1

    def highest_token(self) -> int:
        """The highest token id; -1 where there is no token that is to be learned.

        All of it has to be read for that, so the checksums are compared on the way (0.4 to 1.5 GB/s a core).

        Raises:
            UserError: a file has changed since it was written.
        """
        highest = {}
        for kind, array in (("", self.tokens), (".mask", self.mask)):
            if array is not None:
                file = f"{self.name}{kind}.bin"
                highest[kind], checksum = _read_through(array)
                if self.sha256.get(file, checksum) != checksum:
                    raise _damaged(self.folder / file, "does not match its checksum")
        return highest[""] if highest.get(".mask", 1) else -1


def _read_through(array: np.ndarray) -> tuple[int, str]:
    """The largest value of a flat array, -1 if it is empty, and the SHA-256 of its bytes."""
    largest, digest = -1, hashlib.sha256()
    for start in range(0, len(array), BLOCK):
        block = np.ascontiguousarray(array[start : start + BLOCK])
        digest.update(block.data)
        largest = max(largest, int(block.max()))
    return largest, digest.hexdigest()


class _SplitWriter:
    """Appends documents to one split's files."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, masked: bool):
        self.folder, self.name, self.dtype = folder, name, dtype
        self.tokens = (folder / f"{name}.bin").open("wb")
        self.mask = (folder / f"{name}.mask.bin").open("wb") if masked else None
        self.offsets = [0]
        self.n_bytes = 0

    def add(self, ids: list[int], n_bytes: int, mask: list[int] | None = None) -> None:
        self.tokens.write(np.asarray(ids, dtype=self.dtype).tobytes())
        if self.mask:
            self.mask.write(np.asarray(mask, dtype=np.uint8).tobytes())
        self.offsets.append(self.offsets[-1] + len(ids))
        self.n_bytes += n_bytes

    def close(self) -> dict[str, Any]:
        files = [self.tokens.name]
        self.tokens.close()
        if self.mask:
            files.append(self.mask.name)
            self.mask.close()
        offsets = self.folder / f"{self.name}.offsets.bin"
        offsets.write_bytes(np.asarray(self.offsets, dtype=np.uint64).tobytes())
        files.append(str(offsets))
        return {
            "tokens": self.offsets[-1],
            "documents": len(self.offsets) - 1,
            "bytes": self.n_bytes,
            "masked": self.mask is not None,
            "sha256": {Path(file).name: sha256_file(Path(file)) for file in files},
        }


def _write(
    output: Path,
    tokenizer: Tokenizer,
    tokenizer_sha256: str,
    documents: Iterable[Document],
    *,
    n_virtual: int = 0,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() + n_virtual < 65_536 else np.uint32)
    check_output_folder(output, MANIFEST)
    with atomic_folder(output) as folder:
        writers: dict[str, _SplitWriter] = {}
        for split, ids, n_bytes, mask in documents:
            if split not in writers:
                writers[split] = _SplitWriter(folder, split, dtype, masked=mask is not None)
            writers[split].add(ids, n_bytes, mask)
        manifest = {
            "dtype": dtype.name,
            "vocab_size": tokenizer.get_vocab_size(),
            "tokenizer_sha256": tokenizer_sha256,
            "splits": {name: writer.close() for name, writer in sorted(writers.items())},
            **(extra or {}),
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def write_text_tokens(
    output: Path,
    documents: Iterable[tuple[str, str]],
    tokenizer: Tokenizer,
    tokenizer_sha256: str,
    *,
    exercises: Iterable[tuple[str, list[Message]]] | None = None,
    max_length: int = 0,
    extra: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode `(split, text)` documents, each opened by `<|endoftext|>`; returns the manifest.

    Args:
        exercises: `(split, messages)` conversations to be pretrained on as well: "train" becomes the split `EXERCISES`,
            the others keep theirs.
        max_length: exercises of more tokens are left out and counted in the manifest's `dropped`.
        extra: what the manifest is to say besides, such as the documents' origin.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise UserError(f"this tokenizer has no {END_OF_TEXT} token to open an article with.")

    def encoded() -> Iterator[Document]:
        done = 0
        iterator = iter(documents)
        while batch := list(itertools.islice(iterator, 256)):
            encodings = encode_texts(tokenizer, [text for _, text in batch])
            for (split, text), ids in zip(batch, encodings, strict=True):
                yield split, [end, *ids], len(text.encode()), None
            done += len(batch)
            if progress:
                progress(done, 0, f"{done:,} articles")

    facts = dict(extra or {})
    parts: list[Iterable[Document]] = [encoded()]
    if exercises is not None:
        named = ((EXERCISES if split == "train" else split, messages) for split, messages in exercises)
        chats = _Chats(named, tokenizer, max_length, progress=progress)
        parts.append(chats)
        facts["dropped"] = chats.dropped
    return _write(output, tokenizer, tokenizer_sha256, itertools.chain(*parts), extra=facts)


def write_chat_tokens(
    output: Path,
    conversations: Iterable[tuple[str, list[Message]]],
    tokenizer: Tokenizer,
    tokenizer_sha256: str,
    *,
    max_length: int,
    first_virtual: int = 0,
    n_virtual: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode `(split, messages)` conversations with the mask of what the assistant says.

    A conversation longer than `max_length` tokens is left out and counted (`too_long`): an answer cut
    in the middle would teach the model to stop there.

    Args:
        first_virtual, n_virtual: ids of virtual tokens that each conversation begins with (`adapt.virtual`).
    """
    virtual = [*range(first_virtual, first_virtual + n_virtual)]
    chats = _Chats(conversations, tokenizer, max_length, virtual, progress=progress)
    return _write(output, tokenizer, tokenizer_sha256, chats, n_virtual=n_virtual, extra={"dropped": chats.dropped})


class _Chats:
    """Conversations as they are encoded one by one; `dropped` counts, meanwhile, those that are left out."""

    def __init__(
        self,
        conversations: Iterable[tuple[str, list[Message]]],
        tokenizer: Tokenizer,
        max_length: int,
        virtual: list[int] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.conversations, self.max_length, self.virtual = conversations, max_length, virtual or []
        self.chat, self.progress = ChatFormat.of(tokenizer), progress
        self.dropped = {"too_long": 0, "nothing_to_learn": 0}

    def __iter__(self) -> Iterator[Document]:
        for done, (split, messages) in enumerate(self.conversations, 1):
            ids, mask = self.chat.encode(messages)
            ids, mask = self.virtual + ids, [0] * len(self.virtual) + mask
            if len(ids) > self.max_length:
                self.dropped["too_long"] += 1
            elif not any(mask):
                self.dropped["nothing_to_learn"] += 1
            else:
                said = sum(len(m["content"].encode()) for m in messages if m["role"] == "assistant")
                yield split, ids, said, mask
            if self.progress and done % 1000 == 0:
                self.progress(done, 0, f"{done:,} conversations")


def open_shards(folder: Path, *, tokenizer_sha256: str | None = None) -> dict[str, Shard]:
    """The splits of a tokens folder by name; empty ones are left out.

    Args:
        tokenizer_sha256: refuse shards that another tokenizer wrote.

    Raises:
        UserError: another tokenizer's, or files are missing or damaged. Only `Shard.highest_token` reads so much
            that it notices a flipped bit in tokens and masks.
    """
    manifest = read_json(folder / MANIFEST)
    try:
        if tokenizer_sha256 and manifest["tokenizer_sha256"] != tokenizer_sha256:
            raise UserError(
                f"{folder} was written with another tokenizer; give that one, or delete {folder} and run the same "
                "command again to encode the corpus anew."
            )
        dtype, splits = np.dtype(manifest["dtype"]), manifest["splits"].items()
        return {name: _open_split(folder, name, dtype, facts) for name, facts in splits if facts["tokens"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, f"is no list of token shards ({error!r})") from None


def shards_sha256(folder: Path) -> str:
    """What tells one tokens folder from another: the checksum of the manifest, which holds those of all files."""
    return sha256_file(folder / MANIFEST)


def _open_split(folder: Path, name: str, dtype: np.dtype, facts: dict[str, Any]) -> Shard:
    tokens, offsets, mask = (folder / f"{name}{kind}.bin" for kind in ("", ".offsets", ".mask"))
    sizes = {tokens: facts["tokens"] * dtype.itemsize, offsets: (facts["documents"] + 1) * 8}
    if facts["masked"]:
        sizes[mask] = facts["tokens"]
    for path, size in sizes.items():
        if not path.is_file():
            raise _damaged(path, "is missing")
        if path.stat().st_size != size:
            raise _damaged(path, f"has {path.stat().st_size:,} bytes, not {size:,}")
    if sha256_file(offsets) != facts["sha256"][offsets.name]:  # small beside the tokens
        raise _damaged(offsets, "does not match its checksum")
    return Shard(
        name,
        np.memmap(tokens, dtype=dtype, mode="r"),
        np.fromfile(offsets, dtype=np.uint64),
        np.memmap(mask, dtype=np.uint8, mode="r") if facts["masked"] else None,
        facts["bytes"],
        folder,
        facts["sha256"],
    )


def _damaged(path: Path, how: str) -> UserError:
    return UserError(f"{path} {how}; delete {path.parent} and run the same command again to encode the text anew.")
