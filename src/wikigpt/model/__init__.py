"""The model: its shape, the transformer itself, and model folders on disk."""

from typing import TYPE_CHECKING

from wikigpt.lazy import lazy
from wikigpt.model.config import FAMILIES, SHAPES, ModelConfig

if TYPE_CHECKING:
    from wikigpt.model.cache import Cache
    from wikigpt.model.hub import load_model, save_model
    from wikigpt.model.induction import new_model
    from wikigpt.model.transformer import Transformer

__all__ = ["FAMILIES", "SHAPES", "Cache", "ModelConfig", "Transformer", "load_model", "new_model", "save_model"]
__getattr__ = lazy(
    __name__,
    {
        "Cache": "cache",
        "Transformer": "transformer",
        "load_model": "hub",
        "new_model": "induction",
        "save_model": "hub",
    },
)
