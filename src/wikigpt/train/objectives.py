"""What is learned: an objective packs a shard into rows and turns a batch into a loss."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from wikigpt.model import Transformer
from wikigpt.tokens import Shard
from wikigpt.train.batches import IGNORE, Batch, Packer
from wikigpt.train.masking import MASKED_SHARE, Masking, MaskingPacker, most_masked


def summed_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats, summed over the targets, from hidden states `[batch, tokens, d_model]`.

    Summed and not averaged: dividing by the targets of the whole global batch keeps the loss independent
    of how the batch is cut into micro-batches.
    """
    logits = F.linear(hidden, head, bias).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")


@dataclass(frozen=True)
class Objective:
    """How a shard becomes rows, and a batch of rows a loss."""

    name: str
    predicted: float = 1.0  # share of the positions that go through the output head
    is_likelihood: bool = True  # the loss is the text's information, so that bits per byte mean something
    cross_entropy: Callable[..., Tensor] = summed_cross_entropy

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of this objective's kind over a shard."""
        raise NotImplementedError

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over the batch's targets, a differentiable scalar."""
        raise NotImplementedError

    def compiled(self, model: Transformer) -> Self:
        """Compile the model's blocks in place; returns this objective with a compiled loss.

        One block is compiled and serves all layers: 32 s instead of 100 s for the whole graph of a
        6-layer model, and no slower afterwards (docs/experiments.md).
        """
        for layer in model.model.layers:
            layer.compile(dynamic=False)
        return replace(self, cross_entropy=torch.compile(summed_cross_entropy, dynamic=False))

    def plain(self, model: Transformer) -> Self:
        """Undo `compiled`."""
        for layer in model.model.layers:
            layer._compiled_call_impl = None
        return replace(self, cross_entropy=summed_cross_entropy)


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
        hidden = model.model(batch.input_ids, batch.document_ids)
        return self.cross_entropy(hidden, model.lm_head.weight, batch.targets)


@dataclass(frozen=True)
class Chat(CausalLM):
    """Predict what the assistant says, given what was said before; other turns carry no loss."""

    name: str = "chat"
    whole_documents: bool = True


@dataclass(frozen=True)
class MaskedLM(Objective):
    """Predict masked tokens from what stands before and after them (Devlin et al. 2019).

    For models that are not causal. The loss says nothing of the text's information, since each token is
    predicted with most others in sight; so bits per byte are not defined.
    """

    name: str = "masked_lm"
    predicted: float = MASKED_SHARE
    is_likelihood: bool = False
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
