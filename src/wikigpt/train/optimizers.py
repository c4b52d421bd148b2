"""Muon for the matrices of the blocks, AdamW for the rest, and the learning-rate schedule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from wikigpt.model import Transformer, cpu
from wikigpt.train.config import TrainConfig


class Muon(torch.optim.Muon):
    """torch's Muon, whose step `fused` leaves to `cpu.muon_step`: a fifth of the time on a CPU."""

    fused = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, as of any optimizer."""
        if not self.fused:
            return super().step(closure)
        for group in self.param_groups:
            entries = []
            for p in group["params"]:
                if p.grad is not None:
                    if "momentum_buffer" not in self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                    factor = math.sqrt(max(1, p.shape[0] / p.shape[1]))  # torch's adjust_lr_fn "original"
                    entries.append((p, p.grad, self.state[p]["momentum_buffer"], factor))
            cpu.muon_step(entries, group)
        return None


def make_optimizers(model: Transformer, config: TrainConfig) -> list[Optimizer]:
    """The optimizers of what is trained, each with its base learning rate under `initial_lr` in its groups.

    Muon (Jordan et al. 2024) orthogonalises each matrix's momentum; embeddings, head and gains, for which
    that means nothing, get AdamW, and so do the numbers of adapters.
    """
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() == 2 and ".layers." in name and name.endswith(".weight")
            (matrices if is_matrix else rest).append(parameter)
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=config.learning_rate, momentum=0.95, weight_decay=config.weight_decay))
    if rest:
        rate = config.embedding_learning_rate
        optimizers.append(AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def fuse_muon(optimizers: list[Optimizer], fused: bool) -> None:
    """Let Muon use `cpu.muon_step`, or no longer."""
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            optimizer.fused = fused


def learning_rate_factor(
    step: int, warmup_steps: int, decay_start: int | None, total_steps: int | None, schedule: str = "wsd"
) -> float:
    """The factor on every learning rate at `step`, counted from 0.

    "wsd": warm-up, stable, decay to 0 in a straight line (Hu et al. 2024). Until the run knows where it ends
    (`decay_start` None) the rate stays; so a run limited by time needs no guess of its number of steps.
    "cosine": warm-up, then half a cosine down to 0 (Loshchilov & Hutter 2017).
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "cosine" and total_steps is not None and step >= warmup_steps:
        return (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps))) / 2
    if schedule == "cosine" or decay_start is None or total_steps is None or step < decay_start:
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
