"""Settings of one training run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainConfig(BaseModel):
    """How long to train, on how much at once, how fast to learn, what to keep."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    minutes: float | None = Field(None, gt=0, description="wall-clock budget, compilation included")
    steps: int | None = Field(None, ge=1, description="optimizer steps; with it a run repeats exactly")
    batch_size: int = Field(32, ge=1, description="sequences per optimizer step")
    micro_batch_size: int | None = Field(
        None, ge=1, description="sequences per forward pass; default: batch_size, no accumulation"
    )
    sequence_length: int | None = Field(None, ge=8, description="tokens a row; default: the model's context")
    learning_rate: float = Field(0.02, gt=0, description="of Muon, for the matrices of the blocks")
    embedding_learning_rate: float = Field(3e-3, gt=0, description="of AdamW, for embeddings, head and norm gains")
    weight_decay: float = Field(0.01, ge=0, description="decoupled, on matrices only")
    warmup_steps: int = Field(30, ge=0, description="steps of linear warm-up")
    schedule: Literal["wsd", "cosine"] = Field(
        "wsd", description="after warm-up: stable, then linear decay (wsd); or half a cosine, which needs steps"
    )
    decay_fraction: float = Field(0.4, ge=0, le=1, description="wsd: last part of the run, falling to 0")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the whole gradient")
    exercise_share: float = Field(
        0.3, gt=0, lt=1, description="pretraining: part of the rows that are exercises, where there are any"
    )
    exercise_weight: float = Field(
        1.0, gt=0, description="pretraining: how much an exercise's target counts; text has ten times as many a row"
    )
    exercise_first: int = Field(
        0, ge=0, description="pretraining: so many steps at the beginning are of exercises alone"
    )
    induction_heads: bool = Field(
        True, description="pretraining: a new model begins with two heads that copy, where its family has room for them"
    )
    whole_words: bool = Field(False, description="a masked language model: mask words, not single tokens")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: the faster one, measured")
    compile: Literal["auto", "on", "off"] = Field("auto", description="auto: where it pays, measured")
    cross_entropy: Literal["auto", "plain", "chunked"] = Field(
        "auto", description="auto: fused, or in chunks where the logits of all rows would be large"
    )
    operators: Literal["auto", "plain"] = Field("auto", description="auto: on CPUs fused ones, compiled by g++")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="under torchrun, each process holds the whole model (ddp) or its share of it (fsdp)"
    )
    evaluate_every: int = Field(200, ge=1, description="steps between evaluations on held-out data")
    evaluation_tokens: int = Field(50_000, ge=1, description="tokens of each held-out split to evaluate on")
    checkpoint_seconds: float = Field(60, gt=0, description="seconds between checkpoints")
    samples: list[str] | None = Field(
        None, description="prompts to complete at each evaluation; default: beginnings of held-out texts; []: none"
    )
    tensorboard: bool = Field(False, description="write events for TensorBoard, too")
    keep_checkpoints: int = Field(2, ge=1, description="how many of the newest to keep")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("set either minutes or steps (set the other one to none)")
        if self.schedule == "cosine" and self.steps is None:
            raise ValueError('schedule="cosine" needs steps: a run limited by minutes does not know where it ends')
        if self.batch_size % self.micro_batch:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of micro_batch_size={self.micro_batch_size}"
            )
        return self

    @property
    def micro_batch(self) -> int:
        """`micro_batch_size` with its default filled in."""
        return self.micro_batch_size or self.batch_size


class PretrainConfig(TrainConfig):
    """Running text is learned best at half the rate at which a small model learns facts by heart."""

    learning_rate: float = Field(0.01, gt=0, description="of Muon, for the matrices of the blocks")
    embedding_learning_rate: float = Field(0.01, gt=0, description="of AdamW, for embeddings, head and norm gains")
