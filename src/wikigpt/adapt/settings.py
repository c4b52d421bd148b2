"""How a base model is adapted; the recipe's section `adapter`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["full", "lora", "dora", "ia3", "freeze", "soft-prompt", "prefix"]
WEIGHT_METHODS: tuple[Method, ...] = ("lora", "dora", "ia3")  # these can be merged into the base's weights
PROMPT_METHODS: tuple[Method, ...] = ("soft-prompt", "prefix")

# AdamW's rate where `learning_rate` is not set (docs/experiments.md has the comparison).
RATES: dict[Method, float] = {"lora": 1e-2, "dora": 1e-2, "ia3": 1e-2, "soft-prompt": 3e-2, "prefix": 1e-2}


class AdapterSettings(BaseModel):
    """What of a model fine-tuning trains."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    method: Method = Field("full", description="full, lora, dora, ia3, freeze, soft-prompt or prefix")
    rank: int = Field(8, ge=1, description="lora, dora: rank of the change of each matrix")
    alpha: float = Field(16, gt=0, description="lora, dora: the change is scaled by alpha / rank")
    targets: list[str] | None = Field(
        None,
        description="lora, dora, ia3: matrices to adapt, as q_proj; default: all of a block (ia3: keys, values, mlp)",
    )
    train: str = Field("last:2,head", description="freeze: what is trained, as last:2,head; see docs/adapting.md")
    virtual_tokens: int = Field(20, ge=1, description="soft-prompt, prefix: how many")
    learning_rate: float | None = Field(
        None, gt=0, description="of AdamW, for what an adapter trains; default: by method"
    )

    @property
    def is_adapter(self) -> bool:
        """Whether the base stays as it is, and what is trained lies beside it."""
        return self.method in (*WEIGHT_METHODS, *PROMPT_METHODS)

    @property
    def n_virtual(self) -> int:
        """Virtual tokens before each conversation."""
        return self.virtual_tokens if self.method in PROMPT_METHODS else 0

    @property
    def rate(self) -> float | None:
        """AdamW's learning rate; None: as for the whole model."""
        return self.learning_rate or RATES.get(self.method)
