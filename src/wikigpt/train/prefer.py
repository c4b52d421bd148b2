"""Preference tuning: of two answers the better one becomes likelier (Rafailov et al. 2023)."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wikigpt.errors import UserError
from wikigpt.model import Transformer
from wikigpt.tokens import Shard
from wikigpt.train.batches import IGNORE, Batch, Packer, Piece
from wikigpt.train.chunks import back_through_head, chunk_rows, piece_rows
from wikigpt.train.distill import alongside
from wikigpt.train.objectives import Objective


class PairPacker(Packer):
    """Fills rows with pairs: documents 2i and 2i + 1 of the shard, chosen and rejected, stand in one row, both whole.

    In a row they are two documents, numbered 2k and 2k + 1, which do not see each other.
    """

    def __init__(self, shard: Shard, sequence_length: int, *, seed: int):
        if shard.n_documents % 2:
            raise UserError(f"split {shard.name!r} holds {shard.n_documents} answers, which cannot all be in pairs.")
        super().__init__(shard, sequence_length, seed=seed, whole_documents=True)
        # To the packing of whole documents a pair is one.
        self.chosen = dict(zip(self.starts[::2].tolist(), self.sizes[::2].tolist(), strict=True))
        self.starts, self.sizes = self.starts[::2], self.sizes[::2] + self.sizes[1::2]
        if len(self.sizes) and self.sizes.max() > sequence_length:
            raise UserError(
                f"the longest pair of answers has {self.sizes.max()} tokens, its question twice, but a row only "
                f"{sequence_length}; leave long pairs out."
            )

    def _pack_epoch(self, epoch: int) -> list[list[Piece]]:
        return [[half for pair in row for half in self._halves(*pair)] for row in super()._pack_epoch(epoch)]

    def _halves(self, start: int, size: int) -> tuple[Piece, Piece]:
        chosen = self.chosen[start]
        return (start, chosen), (start + chosen, size - chosen)


def answer_logprobs(hidden: Tensor, head: Tensor, batch: Batch) -> Tensor:
    """Log-probabilities of the answers of a batch of pairs, and their numbers of tokens.

    The logits of a few rows are computed at a time, and again for their gradients.

    Args:
        hidden: `[rows, tokens, width]`.
        head: `[vocab, width]`.

    Returns:
        fp32 `[2, rows, pairs, 2]`: first the sums in nats, then how many tokens they are over; chosen before
        rejected. `pairs` is the largest number of pairs in a row; the places of others hold 0.
    """
    where = batch.targets != IGNORE
    n_rows, n_pairs = len(batch.targets), int(pairs_in_rows(batch).max())
    rows = torch.arange(n_rows, device=where.device)[:, None]
    documents = (rows * 2 * n_pairs + batch.document_ids)[where]
    states = hidden[where]
    if torch.is_autocast_enabled(hidden.device.type):
        states = states.to(torch.get_autocast_dtype(hidden.device.type))
    logprobs: Tensor = _LogProbabilities.apply(states, head, batch.targets[where])
    sums = hidden.new_zeros(2, n_rows * 2 * n_pairs, dtype=torch.float32)
    sums = sums.index_add(1, documents, torch.stack([logprobs, torch.ones_like(logprobs)]))
    return sums.view(2, n_rows, n_pairs, 2)


class _LogProbabilities(torch.autograd.Function):
    """Of targets `[rows]`, in nats, from hidden states `[rows, width]` and a head `[vocab, width]`: fp32 `[rows]`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, head, targets)
        weight, rows, some = head.to(hidden.dtype), chunk_rows(head), piece_rows(head)
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        for start in range(0, len(targets), rows):
            where = slice(start, start + rows)
            logits = hidden[where] @ weight.T
            pieces = (x.split(some) for x in (logits, targets[where, None], logprobs[where, None]))
            for piece, wanted, found in zip(*pieces, strict=True):
                found.copy_(piece.log_softmax(-1, torch.float32).gather(1, wanted))
        return logprobs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, head, targets = ctx.saved_tensors
        weight, rows, some = head.to(hidden.dtype), chunk_rows(head), piece_rows(head)
        d_hidden, d_head = torch.empty_like(hidden), torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), rows):
            where = slice(start, start + rows)
            part = hidden[where]
            errors = part @ weight.T  # logits, and then their gradient: 1 - p at the target, -p elsewhere
            pieces = (x.split(some) for x in (errors, targets[where, None], grad[where, None]))
            for piece, wanted, factor in zip(*pieces, strict=True):
                gradient = piece.softmax(-1, torch.float32).mul_(-factor)
                piece.copy_(gradient.scatter_add_(1, wanted, factor))
            back_through_head(errors, part, weight, d_hidden[where], d_head)
        return d_hidden, d_head, None


def pairs_in_rows(batch: Batch) -> Tensor:
    """How many pairs each row of a `PairPacker` holds, int64 `[rows]`."""
    return (batch.document_ids.max(1).values + 1) // 2


@dataclass(frozen=True)
class Prefer(Objective):
    """Direct preference optimisation: the loss in nats is summed over pairs, and a mean is one over pairs.

    A pair's loss is `-log sigmoid(h)` for `h = beta * (r_chosen - r_rejected) - margin`, where `r` is how much likelier
    an answer is than it was for the reference. With `label_smoothing` s that share of the pairs is taken to be labelled
    the wrong way round (Mitchell 2023): `-(1 - s) log sigmoid(h) - s log sigmoid(-h)`.

    With `chosen_weight` a, `-a` times the mean log-probability of the chosen answer's tokens is added (Pang et al.
    2024): by itself the loss is content where both answers become less likely, the worse one faster.

    Held-out data is measured without that, and also by `accuracy`, the share of pairs whose chosen answer gained more,
    and `margin`, the mean of `beta * (r_chosen - r_rejected)`.

    Args:
        reference: a frozen copy of the model at the start; None: `r` is the log-probability itself.
        per_token: `r` is a mean over the answer's tokens, lest long answers win by length; with `margin` and no
            reference this is SimPO (Meng et al. 2024).
    """

    name: str = "prefer"
    is_likelihood: bool = False
    reference: Transformer | None = field(default=None, kw_only=True, repr=False, compare=False)
    beta: float = field(default=0.1, kw_only=True)
    label_smoothing: float = field(default=0.0, kw_only=True)
    per_token: bool = field(default=False, kw_only=True)
    margin: float = field(default=0.0, kw_only=True)
    chosen_weight: float = field(default=0.0, kw_only=True)

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of whole pairs."""
        return PairPacker(shard, sequence_length, seed=seed)

    def count(self, batch: Batch) -> int:
        """Number of pairs."""
        return int(pairs_in_rows(batch).sum())

    def held_out(self, shard: Shard) -> Objective:
        """The loss of the comparison and, beside it, accuracy and margin."""
        return replace(self, measured=("accuracy", "margin"), chosen_weight=0.0)

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Loss in nats, summed over pairs: a differentiable scalar, or the first of the sums that are `measured`."""
        before: Tensor | float = 0.0
        if self.reference is not None:  # first: its activations are gone when the model's are kept
            with torch.no_grad():
                before, _ = self._rewards(alongside(self.reference, model), batch)
        after, means = self._rewards(model, batch)
        rewards = after - before
        n_pairs = pairs_in_rows(batch)
        real = torch.arange(rewards.shape[1], device=n_pairs.device) < n_pairs[:, None]
        gain = self.beta * (rewards[..., 0] - rewards[..., 1])[real]
        h, smoothing = gain - self.margin, self.label_smoothing
        loss = -((1 - smoothing) * F.logsigmoid(h) + smoothing * F.logsigmoid(-h)).sum()
        if self.chosen_weight:
            loss = loss - self.chosen_weight * means[..., 0][real].sum()
        return torch.stack([loss, (gain > 0).float().sum(), gain.sum()]) if self.measured else loss

    def _rewards(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the answers are compared by, and the mean log-probability of their tokens: fp32 `[rows, pairs, 2]`."""
        hidden = model.model(batch.input_ids, batch.document_ids)
        sums, lengths = answer_logprobs(hidden, model.lm_head.weight, batch)
        means = sums / lengths.clamp_min(1)
        return means if self.per_token else sums, means
