"""Held-out loss, and bits per byte where the loss measures them."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import torch

from wikigpt.model import Transformer
from wikigpt.tokens import Shard
from wikigpt.train.distributed import Parallel, World
from wikigpt.train.objectives import Objective


@dataclass(frozen=True)
class HeldOut:
    """Mean loss on one held-out split."""

    nats_per_target: float
    # Per UTF-8 byte of the split's text: comparable between tokenizers. None where the loss does not measure
    # the text's information (masked tokens).
    bits_per_byte: float | None
    measures: Mapping[str, float] = field(default_factory=dict)  # means of what else the objective measures

    @property
    def perplexity(self) -> float:
        """Number of equally likely tokens that a target is as hard to tell from."""
        return math.exp(self.nats_per_target)


def evaluate_shards(
    model: Transformer,
    objective: Objective,
    shards: Mapping[str, Shard],
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    autocast: contextlib.AbstractContextManager[None] | None = None,
    parallel: Parallel | None = None,
) -> dict[str, HeldOut]:
    """The model's loss on each shard, over its first `max_tokens` tokens in a fixed shuffled order.

    Gradients stay enabled although none is taken: a compiled model would be compiled again without.

    Args:
        parallel: ranks that share the batches out among them; all get the results.
    """
    device = model.lm_head.weight.device
    was_training = model.training
    model.eval()
    parallel = parallel or Parallel(model, World())
    world, results = parallel.world, {}
    for name, shard in shards.items():
        measure = objective.held_out(shard)
        sums, n_targets = [0.0] * (1 + len(measure.measured)), 0.0
        packer = measure.packer(shard, sequence_length, seed=0)
        batches = packer.first_epoch(batch_size, max_tokens)
        for group in zip_longest(*[batches] * world.size):
            mine = group[world.rank]
            with autocast or contextlib.nullcontext():
                loss = parallel.loss(measure, (mine or group[0]).to(device))  # a pass on all ranks: FSDP
            if mine is not None:
                sums = [total + value for total, value in zip(sums, loss.flatten().tolist(), strict=True)]
                n_targets += measure.count(mine)
        *sums, n_targets = world.sum(*sums, n_targets)
        mean, measures = measure.means(sums, n_targets)
        all_targets = len(shard.tokens) if shard.mask is None else int(shard.mask.sum())
        bits = mean * all_targets / max(1, shard.n_bytes) / math.log(2) if measure.is_likelihood else None
        results[name] = HeldOut(mean, bits, measures)
    model.train(was_training)
    return results


def autocast_for(device: torch.device, precision: str | None) -> contextlib.AbstractContextManager[None]:
    """The autocast context of a precision, "bf16" or "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
