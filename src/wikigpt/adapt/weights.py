"""Adapters as functions of a weight: from a frozen matrix and a few trained numbers to the matrix that is used.

Each is a parametrization of torch (`torch.nn.utils.parametrize`). Whoever reads `linear.weight` gets the adapted
matrix, and gradients flow on to the trained numbers; so every operator for training works unchanged. PEFT applies
LoRA to activations instead, which saves the product for the whole matrix' gradient and costs two thin products,
for each linear layer, that no fused operator knows.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LoRA(nn.Module):
    """`weight + scale · B A` (Hu et al. 2021), for a weight `[outputs, inputs]`; begins as no change."""

    def __init__(self, weight: Tensor, rank: int, scale: float):
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = scale
        self.lora_A = nn.Parameter(weight.new_empty(rank, inputs))
        self.lora_B = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as PEFT

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # small changes would be lost in bf16
            return torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scale)


class DoRA(LoRA):
    """LoRA for the directions of the weight's rows, and a trained length for each (Liu et al. 2024).

    The rows' norms are constants to the gradient (section 4.3 there).
    """

    def __init__(self, weight: Tensor, rank: int, scale: float):
        super().__init__(weight, rank, scale)
        self.lora_magnitude_vector = nn.Parameter(weight.detach().norm(dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        changed = super().forward(weight)
        return changed * (self.lora_magnitude_vector / changed.detach().norm(dim=1))[:, None]


class IA3(nn.Module):
    """Trained factors on the outputs of keys and values `[outputs, 1]` and the inputs of `down_proj` `[1, inputs]`.

    Liu et al. 2022, "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning".
    """

    def __init__(self, weight: Tensor, *, on_inputs: bool):
        super().__init__()
        outputs, inputs = weight.shape
        self.ia3_l = nn.Parameter(weight.new_ones((1, inputs) if on_inputs else (outputs, 1)))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.ia3_l


class _OfBias(nn.Module):
    """What `IA3` on the outputs means for a bias."""

    def __init__(self, factors: IA3):
        super().__init__()
        self.factors = factors

    def forward(self, bias: Tensor) -> Tensor:
        return bias * self.factors.ia3_l[:, 0]


def add(linear: nn.Linear, adapter: nn.Module) -> None:
    """Adapt a linear layer; its own weights are frozen."""
    for parameter in linear.parameters():
        parameter.requires_grad_(False)
    parametrize.register_parametrization(linear, "weight", adapter)
    if isinstance(adapter, IA3) and linear.bias is not None and adapter.ia3_l.shape[1] == 1:
        parametrize.register_parametrization(linear, "bias", _OfBias(adapter))


def adapter_of(linear: nn.Module) -> nn.Module | None:
    """What a linear layer is adapted by, if it is."""
    if not parametrize.is_parametrized(linear, "weight"):
        return None
    parametrizations: nn.ModuleDict = linear.parametrizations  # type: ignore[assignment]
    chain: nn.ModuleList = parametrizations["weight"]  # type: ignore[assignment]
    return chain[0]


def bake(linear: nn.Module, *, keep: bool) -> None:
    """Make a layer plain again: with its adapted weights, or (`keep` false) with those from before."""
    for name in ("weight", "bias"):
        if parametrize.is_parametrized(linear, name):
            parametrize.remove_parametrizations(linear, name, leave_parametrized=keep)
