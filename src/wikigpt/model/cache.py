"""Keys and values of the tokens seen so far, for generating one token after the other."""

import torch
from torch import Tensor

from wikigpt.model.config import ModelConfig


class LayerCache:
    """One layer's share of a `Cache`: what its attention appends to and looks back on."""

    def __init__(self, keys: Tensor, values: Tensor, length: int, mask: Tensor | None):
        self.keys, self.values, self.length, self.mask = keys, values, length, mask

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values `[batch, heads, n, head_dim]`; returns all of the layer so far."""
        stop = self.length + keys.shape[2]
        self.keys[:, :, self.length : stop] = keys
        self.values[:, :, self.length : stop] = values
        return self.keys[:, :, :stop].to(keys.dtype), self.values[:, :, :stop].to(values.dtype)


class Cache:
    """A preallocated key/value cache for a batch whose rows are padded on the left.

    Args:
        padding: int64 `[batch]`: how many padding tokens stand at the start of each row.
        max_length: most tokens a row can hold, padding included.
    """

    def __init__(self, config: ModelConfig, padding: Tensor, max_length: int, dtype: torch.dtype):
        shape = (config.n_layers, len(padding), config.kv_heads, max_length, config.key_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=padding.device)
        self.values = torch.zeros(shape, dtype=dtype, device=padding.device)
        self.padding = padding
        self.length = 0

    def layers(self, n_tokens: int) -> list[LayerCache]:
        """Each layer's view of the cache, for a step of `n_tokens` new tokens."""
        mask = self.mask(n_tokens)
        return [LayerCache(k, v, self.length, mask) for k, v in zip(self.keys, self.values, strict=True)]

    def advance(self, n_tokens: int) -> None:
        """Count `n_tokens` as stored, once every layer has appended them."""
        self.length += n_tokens

    def positions(self, n_tokens: int) -> Tensor:
        """Position of each new token within its own row's text: int64 `[batch, n_tokens]`."""
        columns = torch.arange(self.length, self.length + n_tokens, device=self.padding.device)
        return (columns - self.padding[:, None]).clamp(min=0)

    def mask(self, n_tokens: int) -> Tensor | None:
        """Which columns each new token may see: bool `[batch, 1, n_tokens, columns]`; None: all."""
        if n_tokens == 1 and not self.padding.any():
            return None
        rows = torch.arange(self.length, self.length + n_tokens, device=self.padding.device)
        columns = torch.arange(self.length + n_tokens, device=self.padding.device)
        allowed = (columns <= rows[:, None]) & (columns >= self.padding[:, None, None])
        # A padding token sees itself, lest its softmax be over nothing and yield NaN.
        return (allowed | (columns == rows[:, None]))[:, None]

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch, so that finished ones cost nothing."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.padding = self.padding[rows]
