"""What is learned: an objective packs a shard into rows and turns a batch into a loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from wikigpt.model import Transformer, cpu
from wikigpt.tokens import Shard
from wikigpt.train.batches import IGNORE, Batch, Packer
from wikigpt.train.masking import MASKED_SHARE, Masking, MaskingPacker, most_masked

CHUNK_LOGITS = 2**24  # numbers: 64 MB in fp32
LARGE_LOGITS = 2**27  # from here on `summed_cross_entropy` would need some GB


def summed_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats, summed over the targets, from hidden states `[batch, tokens, d_model]`.

    Summed and not averaged: dividing by the targets of the whole global batch keeps the loss independent
    of how the batch is cut into micro-batches.
    """
    logits = F.linear(hidden, head, bias).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")


def fused_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """`summed_cross_entropy` by `cpu.cross_entropy`, which never holds the logits."""
    return cpu.cross_entropy(hidden, head, targets, bias, dtype=cpu.product_dtype())


def chunked_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """`summed_cross_entropy` without the logits of all rows at once: rows come in chunks, as in Hsu et al. 2024.

    The gradients are computed along with the loss and kept, as large as `hidden` and `head`; the logits, as a rule
    the largest tensor of a step, are never larger than `CHUNK_LOGITS`.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden.flatten(0, 1), head, targets.flatten(), bias)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
        rows = max(1, CHUNK_LOGITS // head.shape[0])
        loss = hidden.new_zeros((), dtype=torch.float32)
        weight = head.detach().to(hidden.dtype)
        grads = [torch.empty_like(hidden), torch.zeros_like(head), None if bias is None else torch.zeros_like(bias)]
        d_hidden, d_head, d_bias = grads
        assert d_hidden is not None and d_head is not None
        for start in range(0, hidden.shape[0], rows):
            part, wanted = hidden[start : start + rows].detach(), targets[start : start + rows]
            logits = F.linear(part, weight).float()
            if bias is not None:
                logits += bias
            counts = wanted != IGNORE
            answers = wanted.where(counts, 0)[:, None]
            log_sums = logits.logsumexp(-1, keepdim=True)
            loss += ((log_sums - logits.gather(1, answers))[:, 0] * counts).sum()
            probabilities = logits.sub_(log_sums).exp_()
            probabilities.scatter_add_(1, answers, probabilities.new_full(answers.shape, -1.0))
            probabilities *= counts[:, None]
            if d_bias is not None:
                d_bias += probabilities.sum(0)
            errors = probabilities.to(hidden.dtype)
            torch.mm(errors, weight, out=d_hidden[start : start + rows])
            d_head += errors.T @ part
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_head, d_bias = (None if g is None else g * grad for g in ctx.saved_tensors)
        return d_hidden, d_head, None, d_bias


@dataclass(frozen=True)
class Objective:
    """How a shard becomes rows, and a batch of rows a loss."""

    name: str
    predicted: float = 1.0  # share of the positions that go through the output head
    is_likelihood: bool = True  # the loss is the text's information, so that bits per byte mean something
    causal: bool = True  # for models that see only what came before
    measured: tuple[str, ...] = ()  # what `loss` sums up beside the loss, which then comes first in a vector
    cross_entropy: Callable[..., Tensor] = summed_cross_entropy

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of this objective's kind over a shard."""
        raise NotImplementedError

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over the batch's targets, a differentiable scalar."""
        raise NotImplementedError

    def count(self, batch: Batch) -> float:
        """What the summed loss of a batch is a sum over: its mean over so many is reported and learned from."""
        return batch.n_targets

    def held_out(self, shard: Shard) -> "Objective":
        """What held-out data is measured by, where that is not what is learned."""
        return self

    def means(self, sums: Sequence[float], count: float) -> tuple[float, dict[str, float]]:
        """Mean loss, and what else is measured by name, from the sums that `loss` gave over `count`."""
        loss, *others = [total / max(1, count) for total in sums]
        return loss, dict(zip(self.measured, others, strict=True))

    def with_cross_entropy(self, kind: str, *, fused: bool, n_logits: int) -> Self:
        """This objective with a cross-entropy of `TrainConfig.cross_entropy`.

        Args:
            fused: whether the operators of `model.cpu` may be used.
            n_logits: how many numbers the logits of one forward pass are.
        """
        function = {"plain": summed_cross_entropy, "chunked": chunked_cross_entropy}.get(kind)
        if function is None:
            large = n_logits * self.predicted > LARGE_LOGITS
            function = fused_cross_entropy if fused else chunked_cross_entropy if large else summed_cross_entropy
        return replace(self, cross_entropy=function)

    def compiled(self, model: Transformer) -> Self:
        """Compile the model's blocks in place; returns this objective with a compiled loss.

        One block is compiled and serves all layers: 32 s instead of 100 s for the whole graph of a
        6-layer model, and no slower afterwards (docs/experiments.md).
        """
        for layer in model.model.layers:
            layer.compile(dynamic=False)
        if self.cross_entropy is not summed_cross_entropy:
            return self  # the others are made of operators that compiling does not make faster
        return replace(self, cross_entropy=torch.compile(summed_cross_entropy, dynamic=False))


def uncompile(model: Transformer) -> None:
    """Undo what `Objective.compiled` does to a model; the objective from before still has its own loss."""
    for layer in model.model.layers:
        layer._compiled_call_impl = None


@dataclass(frozen=True)
class CausalLM(Objective):
    """Predict each next token of running text."""

    name: str = "causal_lm"
    whole_documents: bool = False

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of text, its documents one after the other."""
        return Packer(shard, sequence_length, seed=seed, whole_documents=self.whole_documents)

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over the next tokens that are to be learned, a differentiable scalar."""
        hidden, head = model.model(batch.input_ids, batch.document_ids), model.lm_head.weight
        if batch.weights is None:
            return self.cross_entropy(hidden, head, batch.targets)
        parts = [w * self.cross_entropy(hidden[rows], head, batch.targets[rows]) for w, rows in batch.by_weight()]
        return torch.stack(parts).sum()

    def count(self, batch: Batch) -> float:
        """Number of targets, each as many times as its row's weight says."""
        if batch.weights is None:
            return batch.n_targets
        return float((batch.weights * (batch.targets != IGNORE).sum(1)).sum())

    def held_out(self, shard: Shard) -> Objective:
        """Text by this loss; conversations also by how many of their answers are right.

        Bits per byte of answers mean little beside those of text, so whoever learns text has none of exercises.
        """
        if shard.mask is None:
            return self
        return Answers(cross_entropy=self.cross_entropy, is_likelihood=self.whole_documents)


@dataclass(frozen=True)
class Chat(CausalLM):
    """Predict what the assistant says, given what was said before; other turns carry no loss."""

    name: str = "chat"
    whole_documents: bool = True


@dataclass(frozen=True)
class Answers(Chat):
    """`Chat`'s loss, and the share of answers that the model would give word for word: `answers_right`.

    An answer whose every token is the likeliest after those before it is what greedy decoding writes, so none has to
    be written to count them. Where several wordings are taught, the share is bounded by guessing which.
    """

    measured: tuple[str, ...] = ("answers_right", "answers")

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats, number of right answers, and of all answers."""
        hidden = model.model(batch.input_ids, batch.document_ids)
        loss = self.cross_entropy(hidden, model.lm_head.weight, batch.targets)
        where = batch.targets != IGNORE
        goes_on = where & where.roll(1, 1) & (batch.document_ids == batch.document_ids.roll(1, 1))
        goes_on[:, 0] = False
        answer = (where & ~goes_on).flatten().cumsum(0).unflatten(0, where.shape)[where] - 1
        rows = max(1, CHUNK_LOGITS // model.lm_head.out_features)
        with torch.no_grad():
            likeliest = [model.lm_head(part).argmax(-1) for part in hidden[where].split(rows)]
        wrong = torch.cat([*likeliest, answer[:0]]) != batch.targets[where]
        n_answers = int(answer[-1]) + 1 if len(answer) else 0
        n_wrong = len(answer[wrong].unique())
        return torch.stack([loss, loss.new_tensor(n_answers - n_wrong), loss.new_tensor(n_answers)])

    def means(self, sums: Sequence[float], count: float) -> tuple[float, dict[str, float]]:
        """Mean loss of a target token, and share of right answers."""
        loss, right, answers = sums
        return loss / max(1, count), {"answers_right": right / max(1, answers)}


@dataclass(frozen=True)
class MaskedLM(Objective):
    """Predict masked tokens from what stands before and after them (Devlin et al. 2019).

    For models that are not causal. The loss says nothing of the text's information, since each token is
    predicted with most others in sight; so bits per byte are not defined.
    """

    name: str = "masked_lm"
    predicted: float = MASKED_SHARE
    is_likelihood: bool = False
    causal: bool = False
    masking: Masking = field(kw_only=True)

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, whole_words: bool = False) -> Self:
        """The objective over a tokenizer's mask token; see `Masking`."""
        name = "masked_lm_whole_words" if whole_words else "masked_lm"
        return cls(name=name, masking=Masking(tokenizer, whole_words=whole_words))

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of running text, some of it masked."""
        return MaskingPacker(shard, sequence_length, seed=seed, masking=self.masking)

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over the masked tokens, a differentiable scalar."""
        hidden = model.model(batch.input_ids, batch.document_ids)
        # Only masked positions go through the head: the largest targets of a row are they, then IGNORE. Always
        # as many as a row can have, so that shapes stay the same for a compiled loss.
        targets, where = batch.targets.topk(most_masked(batch.targets.shape[1]), dim=1)
        hidden = model.transform(hidden.take_along_dim(where[..., None], dim=1))
        return self.cross_entropy(hidden, model.lm_head.weight, targets, model.lm_head.bias)
