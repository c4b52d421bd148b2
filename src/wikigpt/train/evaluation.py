"""Held-out loss and bits per byte."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from wikigpt.model import Transformer
from wikigpt.tokens import Shard
from wikigpt.train.objectives import Objective


@dataclass(frozen=True)
class HeldOut:
    """Mean loss on one held-out split."""

    nats_per_target: float
    bits_per_byte: float  # per UTF-8 byte of the split's text: comparable between tokenizers


def evaluate_shards(
    model: Transformer,
    objective: Objective,
    shards: Mapping[str, Shard],
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    autocast: contextlib.AbstractContextManager[None] | None = None,
) -> dict[str, HeldOut]:
    """The model's loss on each shard, over its first `max_tokens` tokens in a fixed shuffled order.

    Gradients stay enabled although none is taken: a compiled model would be compiled again without.
    """
    device = model.lm_head.weight.device
    was_training = model.training
    model.eval()
    results = {}
    for name, shard in shards.items():
        nats, n_targets = 0.0, 0
        packer = objective.packer(shard, sequence_length, seed=0)
        for batch in packer.first_epoch(batch_size, max_tokens):
            with autocast or contextlib.nullcontext():
                nats += objective.loss(model, batch.to(device)).item()
            n_targets += batch.n_targets
        loss = nats / max(1, n_targets)
        all_targets = len(shard.tokens) if shard.mask is None else int(shard.mask.sum())
        results[name] = HeldOut(loss, loss * all_targets / max(1, shard.n_bytes) / math.log(2))
    model.train(was_training)
    return results


def autocast_for(device: torch.device, precision: str | None) -> contextlib.AbstractContextManager[None]:
    """The autocast context of a precision, "bf16" or "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
