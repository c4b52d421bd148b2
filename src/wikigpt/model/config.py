"""The shape of a model, and what sets one family apart from another."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FamilyName = Literal["qwen3", "llama"]


@dataclass(frozen=True)
class Family:
    """What differs between architectures; everything else is one code path."""

    architecture: str  # the class transformers, vLLM and llama.cpp know it by
    qk_norm: bool  # RMSNorm over each head's queries and keys


FAMILIES: dict[FamilyName, Family] = {
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True),
    "llama": Family("LlamaForCausalLM", qk_norm=False),
}


class ModelConfig(BaseModel):
    """A decoder-only transformer: RMSNorm, RoPE, SwiGLU, grouped-query attention, no biases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: FamilyName = Field("qwen3", description="architecture, by the name transformers uses")
    vocab_size: int = Field(8192, gt=0, description="number of tokens; in a recipe the tokenizer decides")
    context_length: int = Field(512, ge=8, description="longest sequence in tokens")
    n_layers: int = Field(6, ge=1, description="transformer blocks")
    d_model: int = Field(256, ge=8, description="width of the residual stream")
    n_heads: int = Field(4, ge=1, description="query heads")
    n_kv_heads: int | None = Field(None, ge=1, description="key/value heads; default: as many as n_heads")
    head_dim: int | None = Field(None, ge=2, description="width of a head; default: d_model / n_heads")
    d_ff: int | None = Field(None, ge=8, description="inner width of SwiGLU; default: 8/3 d_model, a multiple of 64")
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary position frequencies")
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square in RMSNorm")
    tie_embeddings: bool = Field(True, description="one matrix for input embedding and output head")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Write the derived defaults into the fields, so that a saved configuration is complete."""
        if isinstance(values, dict):
            values = dict(values)
            d_model, n_heads = values.get("d_model", 256), values.get("n_heads", 4)
            if not (isinstance(d_model, int) and isinstance(n_heads, int) and n_heads > 0):
                return values  # field validation says what is wrong
            if values.get("n_kv_heads") is None:
                values["n_kv_heads"] = n_heads
            if values.get("head_dim") is None:
                if d_model % n_heads:
                    raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
                values["head_dim"] = d_model // n_heads
            if values.get("d_ff") is None:
                values["d_ff"] = max(64, round(d_model * 8 / 3 / 64) * 64)
        return values

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}")
        if self.key_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd; rotary positions need an even width")
        return self

    @property
    def kv_heads(self) -> int:
        """`n_kv_heads` with its default filled in."""
        return self.n_kv_heads or self.n_heads

    @property
    def key_dim(self) -> int:
        """`head_dim` with its default filled in."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def mlp_dim(self) -> int:
        """`d_ff` with its default filled in."""
        return self.d_ff or max(64, round(self.d_model * 8 / 3 / 64) * 64)

    @property
    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        attention = self.d_model * self.key_dim * (2 * self.n_heads + 2 * self.kv_heads)
        norms = 2 * self.d_model + (2 * self.key_dim if FAMILIES[self.family].qk_norm else 0)
        layer = attention + 3 * self.d_model * self.mlp_dim + norms
        embeddings = self.vocab_size * self.d_model * (1 if self.tie_embeddings else 2)
        return self.n_layers * layer + embeddings + self.d_model

    def flops_per_token(self, sequence_length: int) -> int:
        """Floating-point operations to train on one token: 6 per matrix weight, plus attention.

        Attention counts the causal half only: 2 matmuls x 2 FLOPs x 3 (forward and backward) x T/2.
        """
        norms = self.d_model + self.n_layers * 2 * self.d_model
        embedding = 0 if self.tie_embeddings else self.vocab_size * self.d_model
        matrices = self.n_parameters - norms - embedding
        attention = 6 * self.n_layers * self.n_heads * self.key_dim * sequence_length
        return 6 * matrices + attention
