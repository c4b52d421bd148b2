"""A recipe: everything that decides what a run makes, in one TOML file."""

import math
import tomllib
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.errors import UserError
from wikigpt.instruct.settings import ExerciseSettings, InstructSettings
from wikigpt.knowledge.settings import KnowledgeSettings
from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.train.config import PretrainConfig, TrainConfig
from wikigpt.train.tuning import DistillConfig, PreferConfig

SAMPLE = "sample"  # the input that means the embedded sample wiki

# How fast to learn where a pretrained model goes on: a tenth of what a new one takes, which would wipe out
# what it knows (docs/experiments.md).
CONTINUED = {"learning_rate": 1e-3, "embedding_learning_rate": 1e-4}
CONTINUED_MICRO_BATCH = 4  # its vocabulary is large: at 512 tokens a row and 49,152 tokens, 0.4 GB of logits


class CorpusSettings(BaseModel):
    """From dump to clean articles."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[str] = Field([SAMPLE], description='dumps or folders; "sample" is the embedded sample wiki')
    lang: str | None = Field(None, description="language of inputs that do not say theirs")
    variant: str | None = Field("zh-hans", description="Chinese script: zh-hans, zh-hant, zh-tw, zh-hk")
    min_chars: int = Field(60, ge=0, description="shorter articles are dropped; Chinese characters count twice")
    validation_fraction: float = Field(0.05, ge=0, lt=1, description="share of articles held out")
    max_documents: int | None = Field(None, ge=1, description="stop after so many articles")
    keep_references: bool = Field(False, description="keep sections that only list references and links")
    keep_tables: bool = Field(False, description="keep tables as lines of text")
    keep_dropped: bool = Field(False, description="write articles that are left out to dropped/, with the reason")
    near_duplicates: float | None = Field(
        0.9, ge=0.5, le=1, description="similarity from which an article is a copy; none: only exact copies are dropped"
    )
    privacy: Literal["placeholder", "pseudonym"] | None = Field(
        None, description="replace e-mail addresses and numbers of phones, cards, identities"
    )
    key: str | None = Field(None, description="age key file; with it the corpus is encrypted")
    skip_damaged: bool = Field(False, description="leave out what of a damaged dump cannot be read")
    page_seconds: float = Field(60.0, gt=0, description="a page that takes longer to clean is left out")
    report: bool = Field(True, description="write corpus/report.html")
    templates: dict[str, str] = Field(
        default_factory=dict, description='what templates show: "my box" = "{1} ({2})"; see templates.toml'
    )


class TokenizerSettings(BaseModel):
    """Byte-level BPE."""

    model_config = ConfigDict(extra="forbid")

    vocab_size: int = Field(8192, ge=264, description="tokens, special ones included")
    split_cjk: bool = Field(True, description="one token holds at most one Chinese character")
    max_token_length: int | None = Field(16, ge=1, description="longest token in bytes")
    max_articles: int = Field(50_000, ge=1, description="train on at most so many articles")


class EvaluateSettings(BaseModel):
    """How many questions to ask."""

    model_config = ConfigDict(extra="forbid")

    closed_book: int = Field(2000, ge=0, description="questions from memory, per language")
    grounded: int = Field(200, ge=0, description="questions on articles no conversation was made from, per language")
    unanswerable: int = Field(60, ge=0, description="questions the wiki does not answer, per language")


class Recipe(BaseModel):
    """All sections; a recipe file sets what differs from these defaults."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(0, ge=0, description="the one seed everything is derived from")
    objective: Literal["causal_lm", "masked_lm"] | None = Field(
        None, description="what a base model learns; default: what its family is for; without a family, the family's"
    )
    base: str | None = Field(None, description="pretrained model to go on from: a model folder or a .gguf file")
    corpus: CorpusSettings = Field(default_factory=CorpusSettings)
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    model: ModelConfig = Field(default_factory=ModelConfig)
    exercises: ExerciseSettings | None = Field(
        None, description="conversations to be pretrained on beside text, in pretrain.exercise_share of the rows"
    )
    pretrain: PretrainConfig = Field(default_factory=lambda: PretrainConfig(minutes=20))
    instruct: InstructSettings = Field(default_factory=InstructSettings)
    finetune: TrainConfig = Field(default_factory=lambda: TrainConfig(minutes=8))
    adapter: AdapterSettings = Field(default_factory=AdapterSettings)
    distill: DistillConfig = Field(default_factory=DistillConfig)
    prefer: PreferConfig = Field(default_factory=PreferConfig)
    knowledge: KnowledgeSettings = Field(default_factory=KnowledgeSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)

    @model_validator(mode="before")
    @classmethod
    def _family_of_objective(cls, values: Any) -> Any:
        """A masked objective alone means BERT; with a named family or shape, `_objective_fits` compares them."""
        model = values.get("model") or {} if isinstance(values, dict) else None
        if isinstance(model, dict) and values.get("objective") == "masked_lm" and not {"family", "shape"} & set(model):
            return {**values, "model": {**model, "family": "bert"}}
        return values

    @model_validator(mode="after")
    def _objective_fits(self) -> "Recipe":
        own = "causal_lm" if FAMILIES[self.model.family].causal else "masked_lm"
        if self.objective not in (None, own):
            raise ValueError(f"objective {self.objective} does not fit the {self.model.family} family, only {own}")
        if self.exercises and own == "masked_lm":
            raise ValueError(f"a {self.model.family} model fills masks and learns from no exercises; leave them out")
        return self

    @model_validator(mode="after")
    def _gently_from_a_base(self) -> "Recipe":
        """With a base, what was not set is gentler; rows are as long as `model` says, not the base's whole context."""
        if self.base is not None:
            for section in (self.pretrain, self.finetune, self.distill, self.prefer):
                rows = {
                    "sequence_length": self.model.context_length,
                    "micro_batch_size": math.gcd(section.batch_size, CONTINUED_MICRO_BATCH),
                }
                for name, value in {**({} if section is self.prefer else CONTINUED), **rows}.items():
                    if name not in section.model_fields_set:
                        setattr(section, name, value)
            if self.adapter.learning_rate is None and self.adapter.rate is not None:
                self.adapter.learning_rate = self.adapter.rate / 10
        return self


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("wikigpt") / "recipes"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a TOML file by path, and apply `section.key=value` overrides.

    Raises:
        UserError: no such recipe, a syntax error, an unknown key, a value that does not fit.
    """
    values = _read(name_or_path)
    for override in overrides or []:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, name_or_path)) from None


def keys_set(name_or_path: str, overrides: list[str] | None = None) -> set[str]:
    """`section.key` of what the user decided: in a recipe file of theirs or by overrides, not in a shipped recipe."""
    values = {} if name_or_path in shipped_recipes() else _read(name_or_path)
    for override in overrides or []:
        _apply(values, override)
    return {f"{section}.{key}" for section, keys in values.items() if isinstance(keys, dict) for key in keys}


def with_settings(recipe: Recipe, settings: dict[str, dict[str, Any]], *, kept: Collection[str]) -> Recipe:
    """The recipe with other settings, by section, except those whose `section.key` is in `kept`."""
    values = recipe.model_dump()
    for section, keys in settings.items():
        values[section] |= {key: value for key, value in keys.items() if f"{section}.{key}" not in kept}
    return Recipe.model_validate(values)


def dump_recipe(recipe: Recipe) -> str:
    """The fully resolved recipe as TOML (which has no null: keys without a value are left out)."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True, mode="json"))


def _read(name_or_path: str) -> dict[str, Any]:
    path = Path(name_or_path)
    if name_or_path in shipped_recipes():
        text = (resources.files("wikigpt") / "recipes" / f"{name_or_path}.toml").read_text(encoding="utf-8")
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a recipe: recipes are TOML text files.") from None
    else:
        raise UserError(
            f"there is no recipe {name_or_path!r}: neither a file nor one of {', '.join(shipped_recipes())}."
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {name_or_path}: {error}.") from None


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value`; the value is TOML, or else a plain string; `none` unsets."""
    key, equals, text = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise UserError(f"--set {override!r}: write it as section.key=value, for example pretrain.minutes=5.")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override!r}: {section} is a value, not a section.")
    text = text.strip()
    if (sections, name) == (["model"], "shape"):
        values.clear()  # a whole shape, not some of it under what the recipe says
    if text.lower() == "none":
        values[name] = None
        return
    try:
        values[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[name] = text


def _explain(error: ValidationError, source: str) -> str:
    """One sentence for the first thing wrong with a recipe."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        return f"recipe {source}: there is no key {where}; known there: {', '.join(known)}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"recipe {source}: {where}: {message} (got {problem['input']!r})."


def _known_keys(sections: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for section in sections:
        model = model.model_fields[section].annotation
        if not hasattr(model, "model_fields"):
            return ["(see the documentation)"]
    return sorted(model.model_fields)
