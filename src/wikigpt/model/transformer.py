"""The transformer: one module, read from top to bottom, for every family of `config.FAMILIES`.

Module and parameter names are those that transformers gives Qwen3 and Llama, so that tools that look for
`q_proj` (LoRA) find it; `hub` translates the names of GPT-2 and BERT.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model import cpu
from wikigpt.model.cache import Cache, LayerCache
from wikigpt.model.config import FAMILIES, ModelConfig, RopeScaling

# Queries are cut into blocks of this many rows, so that each multiplies only the keys it may see: half of
# the score matrix is never computed. For training on CPUs there is `cpu.attention` (docs/experiments.md).
ATTENTION_BLOCK = 128

Angles = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast queries and keys arrive in bf16, the gain is fp32: norm in the gain's precision.
        return F.rms_norm(x.to(self.weight.dtype), (x.shape[-1],), self.weight, self.eps)


def make_norm(config: ModelConfig) -> RMSNorm | nn.LayerNorm:
    """The family's norm over the residual stream: RMSNorm, or LayerNorm (Ba et al. 2016)."""
    kind = RMSNorm if FAMILIES[config.family].norm == "rms" else nn.LayerNorm
    return kind(config.d_model, config.epsilon)


def rotary_angles(positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Angles:
    """Cosine and sine of the rotary angles (Su et al. 2021), fp32 `[..., head_dim]`."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    frequencies = theta**-exponents
    if scaling is not None:
        frequencies = stretched(frequencies, scaling)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Frequencies for a longer context: slow waves become slower by `factor`, fast ones stay (Llama 3.1)."""
    waves = scaling.original_context_length * frequencies / (2 * math.pi)  # within the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((waves - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair `(x[i], x[i + d/2])` by its angle; the half-split layout of transformers."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def first_keys(document_ids: Tensor) -> Tensor:
    """Where each token's document starts, int32 `[batch, tokens]`; the tokens of a document stand together."""
    positions = torch.arange(document_ids.shape[1], dtype=torch.int32, device=document_ids.device)
    begins = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0))
    return torch.where(begins, positions, 0).cummax(1).values


def block_causal_attention(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor | None) -> Tensor:
    """Causal attention as plain matmuls over blocks of query rows.

    Args:
        q, k, v: `[batch, heads, tokens, head_dim]`.
        first_key: int32 `[batch, tokens]`, the first token that each one sees; None: that of its row.
    """
    n_tokens, q = q.shape[2], q / math.sqrt(q.shape[3])
    outputs = []
    for start in range(0, n_tokens, ATTENTION_BLOCK):
        stop = min(start + ATTENTION_BLOCK, n_tokens)
        scores = q[:, :, start:stop] @ k[:, :, :stop].transpose(-1, -2)
        rows = torch.arange(start, stop, dtype=torch.int32, device=q.device)
        columns = torch.arange(stop, dtype=torch.int32, device=q.device)
        allowed = columns <= rows[:, None]
        if first_key is not None:
            allowed = allowed & (columns >= first_key[:, None, start:stop, None])
        weights = scores.float().masked_fill(~allowed, float("-inf")).softmax(-1)
        outputs.append(weights.to(v.dtype) @ v[:, :, :stop])
    return torch.cat(outputs, dim=2)


@functools.cache
def _flex() -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    return torch.compile(flex_attention), torch.compile(create_block_mask)


def causal_mask(document_ids: Tensor | None, batch: int, n_tokens: int, device: torch.device) -> Any:
    """The blocks of scores that `flex_attention` computes, for tokens `[batch, tokens]` that see their own document."""

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= key
        return seen if document_ids is None else seen & (document_ids[row, query] == document_ids[row, key])

    return _flex()[1](visible, batch, None, n_tokens, n_tokens, device=device)


def flex_attention(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Causal attention within documents as one kernel (Dong et al. 2024), for training on GPUs.

    Arguments as of `block_causal_attention`, but for a mask by `causal_mask`, and `kv_heads` may be fewer.
    """
    return _flex()[0](q, k, v, block_mask=mask, enable_gqa=k.shape[1] != q.shape[1])


def cpu_attention(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor | None) -> Tensor:
    """`cpu.attention` with the arguments of `block_causal_attention`; `kv_heads` may be fewer."""
    if first_key is None:
        first_key = torch.zeros(q.shape[0], q.shape[2], dtype=torch.int32)
    return cpu.attention(q, k, v, first_key)


def full_attention(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None) -> Tensor:
    """Attention in both directions, between tokens of one id `[batch, tokens]`; else as `block_causal_attention`."""
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[3])
    if document_ids is not None:
        other = document_ids[:, None, :, None] != document_ids[:, None, None, :]
        scores = scores.masked_fill(other, float("-inf"))
    return scores.float().softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Grouped-query self-attention, in some families with rotary positions and QK-norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        family, bias = FAMILIES[config.family], bool(config.attention_bias)
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.kv_heads, config.key_dim
        self.q_proj = nn.Linear(config.d_model, self.n_heads * self.head_dim, bias)
        self.k_proj = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias)
        self.v_proj = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, config.d_model, bias)
        self.attend: Callable[..., Tensor] = block_causal_attention if family.causal else full_attention
        if family.qk_norm:
            self.q_norm: nn.Module = RMSNorm(self.head_dim, config.epsilon)
            self.k_norm: nn.Module = RMSNorm(self.head_dim, config.epsilon)
        else:
            self.q_norm, self.k_norm = nn.Identity(), nn.Identity()
        # Keys and values that a prompt learned as numbers puts in the place of its tokens' (`adapt.virtual`).
        self.prefix: nn.Module | None = None

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
        """Those of queries, keys, values and of what comes out."""
        return self.q_proj, self.k_proj, self.v_proj, self.o_proj

    def forward(self, x: Tensor, angles: Angles | None, documents: Tensor | None, cache: LayerCache | None) -> Tensor:
        batch, n_tokens, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, n_tokens, self.n_heads, self.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, n_tokens, self.n_kv_heads, self.head_dim)).transpose(1, 2)
        v = self.v_proj(x).view(batch, n_tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if self.prefix is not None:
            k, v = self.prefix(k, v, angles)
        if cache is not None:
            k, v = cache.append(k, v)
        grouped = cache is None and self.attend in (cpu_attention, flex_attention)
        if self.n_kv_heads != self.n_heads and not grouped:
            k = k.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
            v = v.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
        if cache is not None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=cache.mask)
        else:
            y = self.attend(q, k, v, documents)
        return self.o_proj(y.transpose(1, 2).reshape(batch, n_tokens, self.n_heads * self.head_dim))


class SwiGLU(nn.Module):
    """The gated MLP of Shazeer 2020."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        bias = bool(config.mlp_bias)
        self.gate_proj = nn.Linear(config.d_model, config.mlp_dim, bias)
        self.up_proj = nn.Linear(config.d_model, config.mlp_dim, bias)
        self.down_proj = nn.Linear(config.mlp_dim, config.d_model, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class GELU(nn.Module):
    """The MLP of Vaswani et al. 2017 with GELU (Hendrycks & Gimpel 2016), exact or by tanh (`gelu_new`)."""

    def __init__(self, config: ModelConfig, approximate: str):
        super().__init__()
        bias = bool(config.mlp_bias)
        self.approximate = approximate
        self.up_proj = nn.Linear(config.d_model, config.mlp_dim, bias)
        self.down_proj = nn.Linear(config.mlp_dim, config.d_model, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate=self.approximate))


MLPS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "swiglu": SwiGLU,
    "gelu": functools.partial(GELU, approximate="none"),
    "gelu_new": functools.partial(GELU, approximate="tanh"),
}


class Block(nn.Module):
    """Attention and MLP, each normed before and added to the residual stream.

    `documents` `[batch, tokens]` keeps tokens of other documents out of sight: `first_keys` of them in causal
    families, else their numbers.
    """

    fused = False  # by the operators of `cpu`

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = MLPS[FAMILIES[config.family].mlp](config)

    def forward(
        self,
        x: Tensor,
        angles: Angles | None,
        documents: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        if self.fused and cache is None:
            return self._by_operators(x, angles, documents)
        x = x + self.self_attn(self.input_layernorm(x), angles, documents, cache)
        return x + self.mlp(self.post_attention_layernorm(x))

    def can_fuse(self, *kinds: type[nn.Module]) -> bool:
        """Whether there are operators for all of this block: plain matrices, SwiGLU, and RMSNorm in fp32.

        Args:
            kinds: of matrices that the operators know; those of training know `nn.Linear` alone.
        """
        norm = self.input_layernorm
        if not isinstance(self.mlp, SwiGLU) or not isinstance(norm, RMSNorm) or norm.weight.dtype != torch.float32:
            return False
        return all(isinstance(m, kinds or nn.Linear) and m.bias is None for m in self.linears)

    @property
    def linears(self) -> list[nn.Module]:
        """The projections of attention, then those of a gated MLP."""
        assert isinstance(self.mlp, SwiGLU)
        return [*self.self_attn.projections, self.mlp.gate_proj, self.mlp.up_proj, self.mlp.down_proj]

    def _by_operators(self, x: Tensor, angles: Angles | None, documents: Tensor | None) -> Tensor:
        attention, mlp = self.self_attn, self.mlp
        first, second = self.input_layernorm, self.post_attention_layernorm
        assert isinstance(mlp, SwiGLU) and isinstance(first, RMSNorm) and isinstance(second, RMSNorm) and angles
        dtype = cpu.product_dtype()
        q_gain, k_gain = (m.weight if isinstance(m, RMSNorm) else None for m in (attention.q_norm, attention.k_norm))
        # The operators take fp32; the matrices of a teacher are kept in less (`train.distill.narrowed`).
        q_proj, k_proj, v_proj, o_proj = (m.weight.float() for m in attention.projections)
        gate, up, down = (m.weight.float() for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        q, k, v = cpu.norm_qkv(
            x,
            first.weight,
            q_proj,
            k_proj,
            v_proj,
            q_gain,
            k_gain,
            *angles,
            first.eps,
            n_heads=attention.n_heads,
            n_kv_heads=attention.n_kv_heads,
            dtype=dtype,
        )
        if attention.prefix is not None:
            k, v = attention.prefix(k, v, angles)
        x = cpu.project_add(cpu_attention(q, k, v, documents), o_proj, x, dtype=dtype)
        return cpu.norm_swiglu(x, second.weight, gate, up, down, second.eps, dtype=dtype)


class PostNormBlock(Block):
    """Attention and MLP, each added to what it saw and the sum normed, as in the first transformer.

    The norm of attention's sum keeps the name `input_layernorm`, that of the MLP's `post_attention_layernorm`.
    """

    def forward(
        self,
        x: Tensor,
        angles: Angles | None,
        documents: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        x = self.input_layernorm(x + self.self_attn(x, angles, documents, cache))
        return self.post_attention_layernorm(x + self.mlp(x))


class Decoder(nn.Module):
    """Embedding, blocks and final norm: token ids to hidden states.

    Positions count from the start of a row, in every family: learned ones are all trained equally often so,
    and rotary ones only know distances.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        family = FAMILIES[config.family]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions: nn.Embedding | None = None
        if family.positions == "learned":
            self.embed_positions = nn.Embedding(config.context_length, config.d_model)
        self.embed_types = nn.Embedding(family.token_types, config.d_model) if family.token_types else None
        self.embed_norm = make_norm(config) if family.post_norm else nn.Identity()
        block = PostNormBlock if family.post_norm else Block
        self.layers = nn.ModuleList(block(config) for _ in range(config.n_layers))
        self.norm = nn.Identity() if family.post_norm else make_norm(config)

    @property
    def attend(self) -> Callable[..., Tensor]:
        """How all layers attend where there is no cache."""
        block = self.layers[0]
        assert isinstance(block, Block)
        return block.self_attn.attend

    @property
    def stream_dtype(self) -> torch.dtype:
        """Of the residual stream: that of the gains which norm it, also where matrices are kept in less."""
        block = self.layers[0]
        assert isinstance(block, Block)
        return block.input_layernorm.weight.dtype

    def angles(self, positions: Tensor) -> Angles:
        """What rotary positions turn by."""
        return rotary_angles(positions, self.config.key_dim, self.config.rope_theta, self.config.rope_scaling)

    def forward(
        self,
        input_ids: Tensor,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
        watch: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Hidden states `[batch, tokens, d_model]`; `watch` is called with what each block puts out."""
        n_tokens = input_ids.shape[1]
        if cache is None:
            positions = torch.arange(n_tokens, device=input_ids.device)
            caches: list[LayerCache | None] = [None] * len(self.layers)
        else:
            positions = cache.positions(n_tokens)
            caches = [*cache.layers(n_tokens)]
        x = self.embed_tokens(input_ids).to(self.stream_dtype)
        angles: Angles | None = None
        if self.embed_positions is None:
            angles = self.angles(positions if cache is None else positions[:, None])  # [batch, heads, tokens]
        else:
            x = x + self.embed_positions(positions)
        if self.embed_types is not None:
            x = x + self.embed_types.weight[0]
        x = self.embed_norm(x)
        documents = document_ids
        if cache is None and self.attend is flex_attention:
            documents = causal_mask(document_ids, input_ids.shape[0], n_tokens, input_ids.device)
        elif document_ids is not None and FAMILIES[self.config.family].causal:
            documents = first_keys(document_ids)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer(x, angles, documents, layer_cache)
            if watch is not None:
                watch(x)
        if cache is not None:
            cache.advance(n_tokens)
        return self.norm(x)


class Transformer(nn.Module):
    """A language model: `forward` gives the logits of each next token, or of each token of a masked model.

    Initialised as GPT-2 (normal, 0.02) but for the two projections that write into the residual stream,
    which start at zero, so that each block starts as the identity (as in modded-nanoGPT).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        family = FAMILIES[config.family]
        self.model = Decoder(config)
        self.transform: nn.Module = nn.Identity()
        if not family.causal:  # BERT's last layer before the output embedding (Devlin et al. 2019)
            self.transform = nn.Sequential(nn.Linear(config.d_model, config.d_model), nn.GELU(), make_norm(config))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=not family.causal)
        self.tie()
        self._initialise()

    def tie(self) -> None:
        """Make the head's matrix the embedding's, where the configuration says so."""
        if self.config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def fuse(self, fused: bool = True) -> None:
        """Where there is no cache, use operators made for the device the weights are on, or no longer."""
        if FAMILIES[self.config.family].causal:
            made_for_it = cpu_attention if self.lm_head.weight.device.type == "cpu" else flex_attention
            for module in self.modules():
                if isinstance(module, Attention):
                    module.attend = made_for_it if fused else block_causal_attention
                if isinstance(module, Block):
                    module.fused = fused and made_for_it is cpu_attention and module.can_fuse()

    def can_fuse(self) -> bool:
        """Whether its blocks are wholly made of operators of `cpu` when it is fused there."""
        return all(block.can_fuse() for block in self.modules() if isinstance(block, Block))

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith((".bias", "o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            elif parameter.dim() > 1:
                parameter.normal_(std=0.02)

    def forward(self, input_ids: Tensor, document_ids: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits `[batch, tokens, vocab_size]` for int64 `input_ids` `[batch, tokens]`.

        Args:
            document_ids: `[batch, tokens]`: which packed document a token belongs to; None: one a row.
            cache: keys and values of earlier tokens; the new ones are appended to it (causal families).
        """
        return self.lm_head(self.transform(self.model(input_ids, document_ids, cache)))
