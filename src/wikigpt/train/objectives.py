"""What is learned: an objective packs a shard into rows and turns a batch into a loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wikigpt.model import Transformer
from wikigpt.tokens import Shard
from wikigpt.train.batches import IGNORE, Batch, Packer


def summed_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the targets, from hidden states `[batch, tokens, d_model]`.

    Summed and not averaged: dividing by the targets of the whole global batch keeps the loss independent
    of how the batch is cut into micro-batches.
    """
    logits = F.linear(hidden, head).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")


@dataclass(frozen=True)
class CausalLM:
    """Predict each next token of running text."""

    name: str = "causal_lm"
    whole_documents: bool = False
    cross_entropy: Callable[[Tensor, Tensor, Tensor], Tensor] = summed_cross_entropy

    def packer(self, shard: Shard, sequence_length: int, seed: int) -> Packer:
        """Rows of this objective's kind over a shard."""
        return Packer(shard, sequence_length, seed=seed, whole_documents=self.whole_documents)

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over the batch's targets, a differentiable scalar."""
        hidden = model.model(batch.input_ids, batch.document_ids)
        return self.cross_entropy(hidden, model.lm_head.weight, batch.targets)

    def compiled(self, model: Transformer) -> "CausalLM":
        """Compile the model's blocks in place; returns this objective with a compiled loss.

        One block is compiled and serves all layers: 32 s instead of 100 s for the whole graph of a
        6-layer model, and no slower afterwards (docs/experiments.md).
        """
        for layer in model.model.layers:
            layer.compile(dynamic=False)
        return replace(self, cross_entropy=torch.compile(summed_cross_entropy, dynamic=False))

    def plain(self, model: Transformer) -> "CausalLM":
        """Undo `compiled`."""
        for layer in model.model.layers:
            layer._compiled_call_impl = None
        return replace(self, cross_entropy=summed_cross_entropy)


@dataclass(frozen=True)
class Chat(CausalLM):
    """Predict what the assistant says, given what was said before; other turns carry no loss."""

    name: str = "chat"
    whole_documents: bool = True


Objective = CausalLM
