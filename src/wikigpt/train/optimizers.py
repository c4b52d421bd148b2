"""Muon for the matrices of the blocks, AdamW for the rest, and the learning-rate schedule."""

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from wikigpt.model import Transformer
from wikigpt.train.config import TrainConfig


def make_optimizers(model: Transformer, config: TrainConfig) -> list[Optimizer]:
    """The two optimizers, each with its base learning rate under `initial_lr` in its groups.

    Muon (Jordan et al. 2024) orthogonalises each matrix's momentum; embeddings, head and gains, for which
    that means nothing, get AdamW.
    """
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.dim() == 2 and ".layers." in name else rest).append(parameter)
    optimizers: list[Optimizer] = [
        Muon(matrices, lr=config.learning_rate, momentum=0.95, weight_decay=config.weight_decay),
        AdamW(rest, lr=config.embedding_learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def learning_rate_factor(step: int, warmup_steps: int, decay_start: int | None, total_steps: int | None) -> float:
    """Warm-up, stable, decay (Hu et al. 2024): the factor on every learning rate at `step`, from 0.

    Until the run knows where it ends (`decay_start` None) the rate stays; so a run limited by time needs
    no guess of its number of steps.
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    if decay_start is None or total_steps is None or step < decay_start:
        return warmup
    return min(warmup, (total_steps - step) / (total_steps - decay_start + 1))


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> None:
    """Multiply every group's base learning rate by `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def optimizer_state(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """All tensors of the optimizers' states, flat, under names that `restore_optimizers` knows."""
    return {
        f"{i}.{parameter}.{key}": torch.as_tensor(value)
        for i, optimizer in enumerate(optimizers)
        for parameter, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def restore_optimizers(optimizers: list[Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_state` returned."""
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, parameter, key = name.split(".", 2)
            if int(index) == i:
                state.setdefault(int(parameter), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
