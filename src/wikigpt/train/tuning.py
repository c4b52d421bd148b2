"""Settings of learning from a teacher and from preferences."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from wikigpt.train.config import TrainConfig


class _TuningConfig(TrainConfig):
    """Recipes may leave these sections out, so one that sets a single key has to know how long to train."""

    usual_minutes: ClassVar[float]

    @model_validator(mode="before")
    @classmethod
    def _some_length(cls, values: Any) -> Any:
        unset = isinstance(values, dict) and not {"minutes", "steps"} & set(values)
        return {**values, "minutes": cls.usual_minutes} if unset else values

    def training(self, **changes: Any) -> TrainConfig:
        """The settings of training alone, some of them changed."""
        return TrainConfig(**{**self.model_dump(include=set(TrainConfig.model_fields)), **changes})

    def own(self) -> dict[str, Any]:
        """The others."""
        return self.model_dump(exclude=set(TrainConfig.model_fields))


class DistillConfig(_TuningConfig):
    """How a student learns from a teacher, beside how it is trained."""

    usual_minutes = 8
    kind: Literal["forward", "reverse", "sequence", "hidden", "on-policy"] = Field(
        "forward",
        description="the teacher's probabilities (forward or reverse KL; hidden: and its hidden states; on-policy: of "
        "what the student says), or its answers (sequence)",
    )
    # Measured on the sample wiki, 40 steps from a base: held-out loss 3.58 (en) and 3.08 (zh) at 1, 3.82 and 3.18 at 2;
    # without a teacher 3.63 and 3.17.
    temperature: float = Field(1.0, gt=0, le=100, description="of both models' probabilities; above 1 shows more")
    mix: float = Field(0.5, ge=0, le=1, description="share of the teacher in the loss; the rest is cross-entropy")
    prompts: float = Field(
        0.0, ge=0, description="weight of what the teacher thinks of a token of the user's, beside one of an answer"
    )
    hidden_weight: float = Field(1.0, gt=0, description="hidden: weight of the hidden states' loss")
    hidden_layers: list[tuple[int, int]] | None = Field(
        None, description="hidden: pairs of blocks, of student and teacher, from 0; default: those equally deep"
    )
    rounds: int = Field(4, ge=1, description="on-policy: how often the student answers anew; they share the time")
    round_prompts: int = Field(256, ge=1, description="on-policy: questions it answers each time")
    answer_tokens: int = Field(256, ge=1, le=65_536, description="sequence, on-policy: longest answer")
    answer_temperature: float | None = Field(
        None, ge=0, le=10, description="sequence, on-policy: of the answers; default: 0, and 1 on-policy"
    )
    requests: int = Field(8, ge=1, le=256, description="sequence, by URL: requests at a time")


class PreferConfig(_TuningConfig):
    """How a model learns which of two answers is better; gentle, since it shall stay near what it was."""

    usual_minutes = 4
    batch_size: int = Field(16, ge=1, description="rows per optimizer step; each holds as many pairs as fit")
    # At 1e-3 and 1e-4 SmolLM2's grounded answers fell from 67 % right to 39 % in 30 steps, at these they stayed.
    learning_rate: float = Field(2e-4, gt=0, description="of Muon, for the matrices of the blocks")
    embedding_learning_rate: float = Field(2e-5, gt=0, description="of AdamW, for embeddings, head and norm gains")
    warmup_steps: int = Field(10, ge=0, description="steps of linear warm-up")
    evaluate_every: int = Field(50, ge=1, description="steps between evaluations on held-out data")
    beta: float = Field(0.1, gt=0, description="how much a gain in likelihood counts; small: free to move far")
    reference_free: bool = Field(False, description="compare likelihoods themselves, not with those at the start")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of the pairs that may be the wrong way round")
    per_token: bool = Field(False, description="compare means over tokens, lest long answers win by length")
    margin: float = Field(0.0, ge=0, description="by how much the chosen answer has to be ahead")
    chosen_weight: float = Field(
        1.0, ge=0, description="weight of the chosen answer's own loss a token, lest it become less likely, too"
    )
