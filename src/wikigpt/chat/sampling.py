"""How the next token is chosen from its logits."""

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from wikigpt.errors import UserError


class Sampling(BaseModel):
    """Generation settings, with the meaning they have in transformers and llama.cpp."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(256, ge=1, le=65_536, description="most tokens of an answer")
    temperature: float = Field(0.0, ge=0, le=10, description="0: always the likeliest token")
    top_k: int = Field(0, ge=0, description="only the k likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens that sum to this probability")
    min_p: float = Field(0.0, ge=0, le=1, description="only tokens at least this likely beside the likeliest")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1: tokens seen before get less likely")
    seed: int | None = Field(None, description="same seed, same answer")
    stop: tuple[str, ...] = Field((), description="texts that end the answer; they are not part of it")
    json_schema: dict[str, Any] | None = Field(None, description="the answer is JSON that this schema allows")
    regex: str = Field("", description="the whole answer matches this regular expression")
    choices: tuple[str, ...] = Field((), description="the answer is one of these texts")

    @model_validator(mode="after")
    def _no_contradiction(self) -> "Sampling":
        if len(self._forms) > 1:
            raise ValueError(f"{' and '.join(self._forms)} contradict each other; give one of them")
        if not all(self.choices):
            raise ValueError("an empty text is no choice")
        return self

    @property
    def form(self) -> str:
        """Name of the setting that prescribes the answer's form; empty where none does."""
        return "".join(self._forms)

    @property
    def _forms(self) -> list[str]:
        given = {"json_schema": self.json_schema is not None, "regex": self.regex, "choices": self.choices}
        return [name for name, wanted in given.items() if wanted]

    @classmethod
    def checked(cls, **settings: Any) -> "Sampling":
        """Build from keyword arguments; a wrong one is a `UserError` that names it."""
        try:
            return cls(**settings)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            said = problem["msg"].removeprefix("Value error, ")
            raise UserError(f"generation setting{f' {where}' if where else 's'}: {said}.") from None


def choose_token(logits: Tensor, seen: list[int], sampling: Sampling, generator: torch.Generator | None) -> int:
    """The next token id from fp32 logits `[vocab_size]`, filtered in transformers' order."""
    if sampling.repetition_penalty != 1.0 and seen:
        ids = torch.tensor(sorted(set(seen)), device=logits.device)
        values = logits[ids]
        penalty = sampling.repetition_penalty
        logits = logits.clone()
        logits[ids] = torch.where(values > 0, values / penalty, values * penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        logits = logits.index_fill(0, order[before >= sampling.top_p], float("-inf"))
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1)
        logits = logits.masked_fill(probabilities < sampling.min_p * probabilities.max(), float("-inf"))
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))
