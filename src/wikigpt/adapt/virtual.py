"""Prompts that are learned as numbers: virtual tokens before each conversation, which no text can write.

Their ids follow those of the vocabulary, so they travel in rows of tokens like all others; the output head does not
know them, and never says one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model.transformer import Angles, Attention, Decoder, rotate


class WithVirtualTokens(nn.Embedding):
    """An embedding with `rows` `[n, d_model]` for n more tokens; `weight` stays that of the vocabulary."""

    def __init__(self, words: nn.Embedding, rows: Tensor, *, trained: bool):
        self.n_words = words.num_embeddings
        super().__init__(self.n_words + len(rows), words.embedding_dim, device="meta")
        self.weight = words.weight
        self.prompt_embeddings = nn.Parameter(rows, requires_grad=trained)
        self.numbers = torch.empty(0, dtype=torch.long)  # of the last input's virtual tokens; negative: not virtual

    def forward(self, input_ids: Tensor) -> Tensor:
        self.numbers = input_ids - self.n_words
        words = F.embedding(input_ids.clamp(max=self.n_words - 1), self.weight)
        virtual = F.embedding(self.numbers.clamp(min=0), self.prompt_embeddings)
        return torch.where((self.numbers >= 0)[..., None], virtual, words)


class Prefix(nn.Module):
    """Keys and values of virtual tokens in one layer, learned there (prefix tuning, Li & Liang 2021).

    Both `[n, kv_heads, head_dim]`; keys before rotation: they turn with the place their conversation has in its row.
    """

    def __init__(self, keys: Tensor, values: Tensor, embedding: WithVirtualTokens):
        super().__init__()
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)
        self._embedding = (embedding,)  # in a tuple, since it is no part of this module

    def forward(self, k: Tensor, v: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor]:
        """Keys (rotated) and values `[batch, kv_heads, tokens, head_dim]` with those of virtual tokens replaced."""
        numbers = self._embedding[0].numbers
        is_virtual, rows = (numbers >= 0)[:, None, :, None], numbers.clamp(min=0)
        keys, values = (t[rows].transpose(1, 2).to(k.dtype) for t in (self.keys, self.values))
        if angles is not None:
            keys = rotate(keys, *angles)
        return torch.where(is_virtual, keys, k), torch.where(is_virtual, values, v)


def add_soft_prompt(decoder: Decoder, rows: Tensor, *, trained: bool = True) -> WithVirtualTokens:
    """Give a decoder virtual tokens whose embeddings are `rows` (prompt tuning, Lester et al. 2021)."""
    embedding = WithVirtualTokens(decoder.embed_tokens, rows, trained=trained)
    decoder.embed_tokens = embedding
    return embedding


def add_prefix(decoder: Decoder, prefixes: list[tuple[Tensor, Tensor]]) -> None:
    """Give a decoder virtual tokens with these keys and values in each layer."""
    blank = decoder.embed_tokens.weight.new_zeros(len(prefixes[0][0]), decoder.config.d_model)
    embedding = add_soft_prompt(decoder, blank, trained=False)
    for attention, (keys, values) in zip(attentions(decoder), prefixes, strict=True):
        attention.prefix = Prefix(keys, values, embedding)


def remove_virtual_tokens(decoder: Decoder) -> None:
    """Make the decoder what it was before `add_soft_prompt` or `add_prefix`."""
    embedding = decoder.embed_tokens
    if isinstance(embedding, WithVirtualTokens):
        decoder.embed_tokens = nn.Embedding(embedding.n_words, embedding.embedding_dim, device="meta")
        decoder.embed_tokens.weight = embedding.weight
    for attention in attentions(decoder):
        attention.prefix = None


@torch.no_grad()
def keys_and_values(decoder: Decoder, input_ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What each layer makes of the tokens `[n]`: keys before rotation and values, to begin a prefix with."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[module] = output.clone()

    layers = attentions(decoder)
    hooks = [m.register_forward_hook(keep) for layer in layers for m in (layer.k_norm, layer.v_proj)]
    try:
        decoder(input_ids[None])
    finally:
        for hook in hooks:
            hook.remove()
    shapes = [(len(input_ids), layer.n_kv_heads, layer.head_dim) for layer in layers]
    return [
        (outputs[layer.k_norm].view(shape), outputs[layer.v_proj].view(shape))
        for layer, shape in zip(layers, shapes, strict=True)
    ]


def attentions(decoder: Decoder) -> list[Attention]:
    """The attention modules of all layers, in order."""
    return [module for module in decoder.modules() if isinstance(module, Attention)]
