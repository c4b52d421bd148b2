"""The model: its shape, the transformer itself, and model folders on disk."""

from wikigpt.model.cache import Cache
from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.model.hub import load_model, save_model
from wikigpt.model.transformer import Transformer

__all__ = ["FAMILIES", "Cache", "ModelConfig", "Transformer", "load_model", "save_model"]
