"""The shape of a model, and what sets one family apart from another."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FamilyName = Literal["qwen3", "llama", "gpt2", "bert"]


@dataclass(frozen=True)
class Family:
    """What differs between architectures; everything else is one code path."""

    architecture: str  # the class transformers, vLLM and llama.cpp know it by
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    positions: Literal["rope", "learned"] = "rope"
    mlp: Literal["swiglu", "gelu_new", "gelu"] = "swiglu"
    biases: bool = False  # on every linear layer of a block; qwen3 and llama leave it to the configuration
    qk_norm: bool = False  # RMSNorm over each head's queries and keys
    post_norm: bool = False  # norms after each sum and after the embedding, not before each part and at the end
    token_types: int = 0  # kinds of segments that have an embedding; only kind 0 is used
    causal: bool = True  # else every token sees all of its document, and masked ones are predicted


FAMILIES: dict[FamilyName, Family] = {
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True),
    "llama": Family("LlamaForCausalLM"),
    "gpt2": Family(
        "GPT2LMHeadModel", norm="layer", norm_eps=1e-5, positions="learned", mlp="gelu_new", biases=True
    ),
    "bert": Family(
        "BertForMaskedLM",
        norm="layer",
        norm_eps=1e-12,
        positions="learned",
        mlp="gelu",
        biases=True,
        post_norm=True,
        token_types=2,
        causal=False,
    ),
}  # fmt: skip

# Shapes with a name, for `--shape NAME` and `model.shape` in a recipe.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-tiny": {"family": "qwen3", "n_layers": 4, "d_model": 192, "n_heads": 3, "context_length": 256},
    "qwen3-mini": {"family": "qwen3", "n_layers": 6, "d_model": 256, "n_heads": 4, "context_length": 512},
    "llama-mini": {"family": "llama", "n_layers": 6, "d_model": 256, "n_heads": 4, "context_length": 512},
    # GPT2Config(n_ctx=512, n_embd=256, n_head=4), all else as transformers has it.
    "gpt2-mini": {"family": "gpt2", "n_layers": 12, "d_model": 256, "n_heads": 4, "context_length": 512},
    "gpt2-small": {"family": "gpt2", "n_layers": 12, "d_model": 768, "n_heads": 12, "context_length": 1024},
    # Turc et al. 2019, "Well-read students learn better".
    "bert-mini": {"family": "bert", "n_layers": 4, "d_model": 256, "n_heads": 4, "context_length": 512},
    "bert-base": {"family": "bert", "n_layers": 12, "d_model": 768, "n_heads": 12, "context_length": 512},
}


class RopeScaling(BaseModel):
    """Llama 3's stretching of the rotary positions to a longer context (`rope_type` "llama3")."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    factor: float = Field(gt=0, description="how many times longer the slow waves become")
    low_freq_factor: float = Field(gt=0, description="waves longer than old context / this are stretched whole")
    high_freq_factor: float = Field(gt=0, description="waves shorter than old context / this stay as they are")
    original_context_length: int = Field(ge=1, description="context the model was first trained with, in tokens")

    @model_validator(mode="after")
    def _in_order(self) -> "RopeScaling":
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor={self.low_freq_factor} is not below high_freq_factor={self.high_freq_factor}"
            )
        return self


class ModelConfig(BaseModel):
    """The shape of a transformer; what else there is to say of it is in its family."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: FamilyName = Field("qwen3", description="architecture, by the name transformers uses")
    vocab_size: int = Field(8192, gt=0, description="number of tokens; in a recipe the tokenizer decides")
    context_length: int = Field(512, ge=8, description="longest sequence in tokens")
    n_layers: int = Field(6, ge=1, description="transformer blocks")
    d_model: int = Field(256, ge=8, description="width of the residual stream")
    n_heads: int = Field(4, ge=1, description="query heads")
    n_kv_heads: int | None = Field(None, ge=1, description="key/value heads; default: as many as n_heads")
    head_dim: int | None = Field(None, ge=2, description="width of a head; default: d_model / n_heads")
    d_ff: int | None = Field(
        None, ge=8, description="inner width of the MLP; default: 4 d_model, SwiGLU 8/3 d_model as a multiple of 64"
    )
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary position frequencies")
    rope_scaling: RopeScaling | None = Field(None, description="rotary positions stretched as in Llama 3.1")
    norm_eps: float | None = Field(None, gt=0, description="added to the variance in the norms; default: the family's")
    attention_bias: bool | None = Field(None, description="biases in attention; default: the family's")
    mlp_bias: bool | None = Field(None, description="biases in the MLP; default: the family's")
    tie_embeddings: bool = Field(True, description="one matrix for input embedding and output head")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Write the derived defaults into the fields, so that a saved configuration is complete."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        shape = values.pop("shape", None)
        if shape is not None and shape not in SHAPES:
            raise ValueError(f"there is no shape {shape!r}; the shapes are {', '.join(SHAPES)}")
        values = {**SHAPES.get(shape, {}), **values}
        family = FAMILIES.get(values.get("family", "qwen3"))
        d_model, n_heads = values.get("d_model", 256), values.get("n_heads", 4)
        if family is None or not (isinstance(d_model, int) and isinstance(n_heads, int) and n_heads > 0):
            return values  # field validation says what is wrong
        if values.get("head_dim") is None and d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
        defaults = {
            "n_kv_heads": n_heads,
            "head_dim": d_model // n_heads,
            "d_ff": max(64, round(d_model * 8 / 3 / 64) * 64) if family.mlp == "swiglu" else 4 * d_model,
            "norm_eps": family.norm_eps,
            "attention_bias": family.biases,
            "mlp_bias": family.biases,
        }
        return {**values, **{name: value for name, value in defaults.items() if values.get(name) is None}}

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        family = FAMILIES[self.family]
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}")
        if family.positions == "rope":
            if self.key_dim % 2:
                raise ValueError(f"head_dim={self.head_dim} is odd; rotary positions need an even width")
            if self.mlp_bias and self.family == "qwen3":
                raise ValueError("mlp_bias: the qwen3 family has none")
        elif (self.kv_heads, self.key_dim * self.n_heads) != (self.n_heads, self.d_model):
            raise ValueError(f"n_kv_heads and head_dim cannot be chosen in the {self.family} family")
        elif self.rope_scaling or not (self.attention_bias and self.mlp_bias):
            raise ValueError(f"the {self.family} family has biases everywhere and no rope_scaling")
        return self

    @property
    def kv_heads(self) -> int:
        """`n_kv_heads` with its default filled in."""
        assert self.n_kv_heads is not None
        return self.n_kv_heads

    @property
    def key_dim(self) -> int:
        """`head_dim` with its default filled in."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def mlp_dim(self) -> int:
        """`d_ff` with its default filled in."""
        assert self.d_ff is not None
        return self.d_ff

    @property
    def epsilon(self) -> float:
        """`norm_eps` with its default filled in."""
        assert self.norm_eps is not None
        return self.norm_eps

    @property
    def _block_matrices(self) -> int:
        """Weights of one block's matrices."""
        inputs = 2 if FAMILIES[self.family].mlp == "swiglu" else 1  # matrices into the MLP; one leads out of it
        return self.d_model * (self.key_dim * 2 * (self.n_heads + self.kv_heads) + (inputs + 1) * self.mlp_dim)

    @property
    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        family, d = FAMILIES[self.family], self.d_model
        norm = d if family.norm == "rms" else 2 * d
        inputs = 2 if family.mlp == "swiglu" else 1
        block = self._block_matrices + 2 * norm
        block += 2 * self.key_dim if family.qk_norm else 0
        block += self.key_dim * (self.n_heads + 2 * self.kv_heads) + d if self.attention_bias else 0
        block += inputs * self.mlp_dim + d if self.mlp_bias else 0
        embeddings = self.vocab_size * d * (1 if self.tie_embeddings else 2) + family.token_types * d
        embeddings += self.context_length * d if family.positions == "learned" else 0
        masked_head = 0 if family.causal else d * d + d + norm + self.vocab_size
        return self.n_layers * block + embeddings + norm + masked_head

    def flops_per_token(self, sequence_length: int, predicted: float = 1.0) -> int:
        """Floating-point operations to train on one token: 6 per matrix weight, plus attention.

        Attention counts 2 matmuls x 2 FLOPs x 3 (forward and backward) x T, and only half of that where it
        is causal.

        Args:
            predicted: share of the tokens that go through the output head.
        """
        causal = FAMILIES[self.family].causal
        head = self.d_model * (self.vocab_size if causal else self.vocab_size + self.d_model)
        matrices = self.n_layers * self._block_matrices + predicted * head
        attention = (6 if causal else 12) * self.n_layers * self.n_heads * self.key_dim * sequence_length
        return round(6 * matrices) + attention
