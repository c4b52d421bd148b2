"""From token shards to training rows: which documents fill row N is a function of seed and N alone.

So a resumed run sees exactly the rows it would have seen, whatever the number of steps or processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wikigpt.errors import UserError
from wikigpt.tokens import Shard

IGNORE = -100  # target of a position that is not to be learned, as in torch's cross-entropy
OPEN_ROWS = 16  # rows that whole documents are fitted into at a time


@dataclass(frozen=True)
class Batch:
    """Packed rows, int64 `[rows, tokens]` each."""

    input_ids: Tensor
    targets: Tensor  # what is to be predicted there: the next token, or the masked one, or IGNORE
    document_ids: Tensor  # which document of its row a token belongs to; padding is a document of its own
    weights: Tensor | None = None  # fp32 [rows]: how much a row's targets count; None: all the same

    @property
    def n_targets(self) -> int:
        """Number of positions with something to learn."""
        return int((self.targets != IGNORE).sum())

    def split(self, rows: int) -> Iterator["Batch"]:
        """The batch in pieces of `rows` rows."""
        for start in range(0, len(self.input_ids), rows):
            yield self._each(itemgetter(slice(start, start + rows)))

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def by_weight(self) -> Iterator[tuple[float, Tensor]]:
        """Each weight that rows have, and which rows, bool `[rows]`."""
        assert self.weights is not None
        for weight in self.weights.unique().tolist():
            yield weight, self.weights == weight

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        parts = (self.input_ids, self.targets, self.document_ids, self.weights)
        return Batch(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]


# A piece of a document in a row: (first token in the shard, number of tokens).
Piece = tuple[int, int]


class Rows(Protocol):
    """The endless rows that are trained on; which they are is a function of seed and number alone."""

    def rows(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count`."""
        ...


class Packer:
    """Fills rows of `sequence_length` tokens with the documents of a shard, reshuffled each epoch.

    Args:
        whole_documents: keep every document in one row (conversations: an answer without its question
            teaches nonsense) and pad what remains; else documents follow each other without a gap and
            the last one of a row goes on in the next.
    """

    def __init__(self, shard: Shard, sequence_length: int, *, seed: int, whole_documents: bool):
        self.shard, self.length, self.seed = shard, sequence_length, seed
        self.whole_documents = whole_documents
        self.starts = shard.offsets[:-1].astype(np.int64)
        self.sizes = np.diff(shard.offsets).astype(np.int64)
        if whole_documents and len(self.sizes) and self.sizes.max() > sequence_length + 1:
            raise UserError(
                f"the longest document has {self.sizes.max()} tokens but a row only {sequence_length}; "
                "raise model.context_length or leave long conversations out."
            )
        self._epoch = lru_cache(maxsize=2)(self._pack_epoch)

    def _pack_epoch(self, epoch: int) -> list[list[Piece]]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.sizes))
        pack = self._pack_whole if self.whole_documents else self._pack_stream
        return pack(order)

    def _pack_stream(self, order: np.ndarray) -> list[list[Piece]]:
        rows: list[list[Piece]] = []
        row: list[Piece] = []
        room = self.length
        for start, size in zip(self.starts[order].tolist(), self.sizes[order].tolist(), strict=True):
            while size:
                taken = min(size, room)
                row.append((start, taken))
                start, size, room = start + taken, size - taken, room - taken
                if not room:
                    rows.append(row)
                    row, room = [], self.length
        return [*rows, row] if row else rows

    def _pack_whole(self, order: np.ndarray) -> list[list[Piece]]:
        rows: list[list[Piece]] = []
        open_rows: list[tuple[int, list[Piece]]] = []  # (room left, pieces)
        for start, size in zip(self.starts[order].tolist(), self.sizes[order].tolist(), strict=True):
            size = min(size, self.length)  # at most the last token, which is nobody's input, is beyond
            fitting = [i for i, (room, _) in enumerate(open_rows) if room >= size]
            if fitting:
                best = min(fitting, key=lambda i: open_rows[i][0])
                room, row = open_rows.pop(best)
            else:
                if len(open_rows) == OPEN_ROWS:
                    fullest = min(range(OPEN_ROWS), key=lambda i: open_rows[i][0])
                    rows.append(open_rows.pop(fullest)[1])
                room, row = self.length, []
            row.append((start, size))
            open_rows.append((room - size, row))
        return rows + [row for _, row in open_rows]

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch (later ones may differ by a few where documents stay whole)."""
        return len(self._epoch(0))

    def rows(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count` of the endless sequence of epochs."""
        n = self.rows_per_epoch
        pieces = []
        for number in range(first, first + count):
            epoch, index = divmod(number, n)
            packed = self._epoch(epoch)
            # An epoch that packed into fewer rows than the first repeats some; one with more leaves its
            # last, least filled rows for another epoch's shuffle.
            pieces.append(packed[index % len(packed)])
        return self._assemble(pieces)

    def first_epoch(self, batch_size: int, max_tokens: int) -> Iterator[Batch]:
        """The first epoch once, up to about `max_tokens` tokens: for evaluation.

        Every batch has `batch_size` rows, the last one filled up with empty rows (a compiled model would
        be compiled again for another shape).
        """
        rows = self._epoch(0)[: max(1, max_tokens // self.length)]
        for i in range(0, len(rows), batch_size):
            chosen = rows[i : i + batch_size]
            yield self._assemble(chosen + [[]] * (batch_size - len(chosen)))

    def _assemble(self, rows: list[list[Piece]]) -> Batch:
        shape = (len(rows), self.length)
        input_ids = np.zeros(shape, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        document_ids = np.full(shape, -1, dtype=np.int64)
        tokens, mask = self.shard.tokens, self.shard.mask
        for r, row in enumerate(rows):
            column = 0
            for number, (start, size) in enumerate(row):
                stop = column + size
                input_ids[r, column:stop] = tokens[start : start + size]
                # The token after the last one is the next document's first: for articles that is
                # <|endoftext|>, which every article starts with, so the end is learned from it too.
                following = tokens[start + 1 : start + size + 1].astype(np.int64)
                if mask is not None:
                    following[mask[start + 1 : start + size + 1] == 0] = IGNORE
                targets[r, column : column + len(following)] = following
                document_ids[r, column:stop] = number
                column = stop
        return Batch(*(torch.from_numpy(a) for a in (input_ids, targets, document_ids)))


class MixedRows:
    """Rows of text with rows of exercises evenly among them, each in its own order.

    Args:
        share: of the rows that are exercises, 0 to 1.
        weight: how much more a target counts in them than in text, of which every token is one.
        alone: how many rows at the beginning are exercises only.
    """

    def __init__(self, text: Packer, exercises: Packer, share: float, weight: float = 1.0, alone: int = 0):
        self.text, self.exercises = text, exercises
        self.share, self.weight, self.alone = share, weight, alone

    def n_exercises(self, rows: int) -> int:
        """How many of the first so many rows are exercises."""
        return min(rows, self.alone) + int(max(0, rows - self.alone) * self.share)

    def rows(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count`."""
        before, after = self.n_exercises(first), self.n_exercises(first + count)
        parts = [self.exercises.rows(before, after - before), self.text.rows(first - before, count - (after - before))]
        ids, targets, documents = (
            torch.cat(tensors)
            for tensors in zip(*((p.input_ids, p.targets, p.document_ids) for p in parts), strict=True)
        )
        # In the order of their numbers, so that every micro-batch and every process gets its part of both.
        numbers = range(first, first + count)
        is_text = [self.n_exercises(number + 1) == self.n_exercises(number) for number in numbers]
        order = torch.tensor(is_text).argsort(stable=True).argsort()
        weights = torch.where(torch.tensor(is_text), 1.0, self.weight) if self.weight != 1 else None
        return Batch(ids[order], targets[order], documents[order], weights)
