"""Weights as whole numbers of 8 bits, a quarter of the file: how the models that come with the package are kept.

Each row of a matrix (what leads to one output) is divided by a number of its own, its scale, and rounded. Vectors stay
as they are; they are a thousandth of the weights. Read back, all of it is floating point again, and works so; or the
matrices stay rounded in memory, too, for answers (`round_in_place`).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.errors import UserError

SCALE = ".scale"  # what a scale's name has behind that of its matrix
CONFIG = {"quant_method": "wikigpt_int8"}  # `quantization_config` in config.json, so that nobody else reads it as it is
LARGEST = 127


def rounded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 `[rows, columns]` with fp32 scales `[rows]` beside them, all else unchanged."""
    kept: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() < 2:
            kept[name] = weight
            continue
        kept[name], kept[name + SCALE] = _rounded(weight)
    return kept


def restored(found: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """What `rounded` was given, but for the rounding: each weight is off by at most half its row's scale.

    Raises:
        UserError: a matrix and its scale do not belong together; `source` is what the words name.
    """
    weights = {name: tensor for name, tensor in found.items() if not name.endswith(SCALE)}
    for name, scale in found.items():
        if name.endswith(SCALE):
            name = name.removesuffix(SCALE)
            matrix = weights.get(name)
            if matrix is None or matrix.dim() != 2 or scale.shape != matrix.shape[:1]:
                raise UserError(f"{source} is damaged: the scales of {name} do not fit it.")
            weights[name] = matrix.float() * scale[:, None]
    return weights


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.float().abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


class RoundedLinear(nn.Module):
    """`nn.Linear` without bias, its weight int8 `[outputs, inputs]` with a scale for each output."""

    bias = None
    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)


class RoundedEmbedding(RoundedLinear):
    """`nn.Embedding`, its rows int8 with a scale each."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float() * self.scale[ids][..., None]


@torch.no_grad()
def round_in_place(model: nn.Module) -> None:
    """Keep the matrices of a model's linear layers without bias and of its token embedding in 8 bits."""
    known: dict[int, tuple[Tensor, Tensor]] = {}  # of tied ones, by their place
    for parent in [*model.modules()]:
        for name, module in parent.named_children():
            if not isinstance(module, nn.Linear | nn.Embedding) or getattr(module, "bias", None) is not None:
                continue
            place = module.weight.data_ptr()
            if place not in known:
                known[place] = _rounded(module.weight)
            kind = RoundedLinear if isinstance(module, nn.Linear) else RoundedEmbedding
            setattr(parent, name, kind(*known[place]))
