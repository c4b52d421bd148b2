"""The transformer: one module, read from top to bottom, for every family of `config.FAMILIES`.

Module and parameter names are those of transformers, so that saved weights need no renaming and tools
that look for `q_proj` (LoRA) find it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model.cache import Cache, LayerCache
from wikigpt.model.config import FAMILIES, ModelConfig

# Queries are cut into blocks of this many rows, so that each multiplies only the keys it may see: half of
# the score matrix is never computed. On CPUs plain matmuls beat SDPA by far (docs/experiments.md).
ATTENTION_BLOCK = 128


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast queries and keys arrive in bf16, the gain is fp32: norm in the gain's precision.
        return F.rms_norm(x.to(self.weight.dtype), (x.shape[-1],), self.weight, self.eps)


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles (Su et al. 2021), fp32 `[..., head_dim]`."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[..., None].float() * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair `(x[i], x[i + d/2])` by its angle; the half-split layout of transformers."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def block_causal_attention(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None) -> Tensor:
    """Causal attention as plain matmuls over blocks of query rows.

    Args:
        q, k, v: `[batch, heads, tokens, head_dim]`.
        document_ids: `[batch, tokens]`; a token sees only tokens of its own document.
    """
    n_tokens, scale = q.shape[2], 1 / math.sqrt(q.shape[3])
    outputs = []
    for start in range(0, n_tokens, ATTENTION_BLOCK):
        stop = min(start + ATTENTION_BLOCK, n_tokens)
        scores = (q[:, :, start:stop] @ k[:, :, :stop].transpose(-1, -2)) * scale
        rows = torch.arange(start, stop, device=q.device)
        allowed = rows[:, None] >= torch.arange(stop, device=q.device)
        if document_ids is not None:
            allowed = allowed & (document_ids[:, None, start:stop, None] == document_ids[:, None, None, :stop])
        weights = scores.float().masked_fill(~allowed, float("-inf")).softmax(-1)
        outputs.append(weights.to(v.dtype) @ v[:, :, :stop])
    return torch.cat(outputs, dim=2)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions and, in some families, QK-norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.kv_heads, config.key_dim
        self.q_proj = nn.Linear(config.d_model, self.n_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, config.d_model, bias=False)
        if FAMILIES[config.family].qk_norm:
            self.q_norm: nn.Module = RMSNorm(self.head_dim, config.norm_eps)
            self.k_norm: nn.Module = RMSNorm(self.head_dim, config.norm_eps)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        document_ids: Tensor | None,
        cache: LayerCache | None,
    ) -> Tensor:
        batch, n_tokens, _ = x.shape
        q = self.q_proj(x).view(batch, n_tokens, self.n_heads, self.head_dim)
        k = self.k_proj(x).view(batch, n_tokens, self.n_kv_heads, self.head_dim)
        v = self.v_proj(x).view(batch, n_tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        q = rotate(self.q_norm(q).transpose(1, 2), *angles).to(v.dtype)
        k = rotate(self.k_norm(k).transpose(1, 2), *angles).to(v.dtype)
        if cache is not None:
            k, v = cache.append(k, v)
        if self.n_kv_heads != self.n_heads:
            k = k.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
            v = v.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
        if cache is not None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=cache.mask)
        else:
            y = block_causal_attention(q, k, v, document_ids)
        return self.o_proj(y.transpose(1, 2).reshape(batch, n_tokens, self.n_heads * self.head_dim))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.mlp_dim, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.mlp_dim, bias=False)
        self.down_proj = nn.Linear(config.mlp_dim, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and MLP, each normed before and added to the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        document_ids: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, document_ids, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, blocks and final norm: token ids to hidden states."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)

    def forward(self, input_ids: Tensor, document_ids: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        n_tokens = input_ids.shape[1]
        if cache is None:
            positions = torch.arange(n_tokens, device=input_ids.device)
            caches: list[LayerCache | None] = [None] * len(self.layers)
        else:
            positions = cache.positions(n_tokens)[:, None]
            caches = [*cache.layers(n_tokens)]
        angles = rotary_angles(positions, self.config.key_dim, self.config.rope_theta)
        x = self.embed_tokens(input_ids)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer(x, angles, document_ids, layer_cache)
        if cache is not None:
            cache.advance(n_tokens)
        return self.norm(x)


class Transformer(nn.Module):
    """A language model: `forward` gives the logits of each next token.

    Initialised as GPT-2 (normal, 0.02) but for the two projections that write into the residual stream,
    which start at zero, so that each block starts as the identity (as in modded-nanoGPT).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            else:
                parameter.normal_(std=0.02)

    def forward(self, input_ids: Tensor, document_ids: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits `[batch, tokens, vocab_size]` for int64 `input_ids` `[batch, tokens]`.

        Args:
            document_ids: `[batch, tokens]`: which packed document a token belongs to; None: one a row.
            cache: keys and values of earlier tokens; the new ones are appended to it.
        """
        return self.lm_head(self.model(input_ids, document_ids, cache))
