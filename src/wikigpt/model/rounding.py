"""Weights as whole numbers of 8 bits, a quarter of the file: how the models that come with the package are kept.

Each row of a matrix (what leads to one output) is divided by a number of its own, its scale, and rounded. Vectors stay
as they are; they are a thousandth of the weights. Read back, all of it is floating point again, and works so.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

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
        scale = weight.float().abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        kept[name] = (weight.float() / scale[:, None]).round().to(torch.int8)
        kept[name + SCALE] = scale
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
