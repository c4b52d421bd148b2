"""What `wikigpt instruct` may be told; the recipe's section `instruct`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Noise = Literal["typos", "spaces", "traditional"]


class Share(BaseModel):
    """How many conversations of a kind are made in each language."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(
        ge=0, description="conversations for each opportunity (a fact, an article); 0.5 = half of them"
    )
    maximum: int = Field(ge=0, description="never more than this in a language")


class Extra(BaseModel):
    """A file of conversations to mix in; docs/guide.md lists its formats."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, description="JSON lines, JSON list, CSV or parquet, also compressed")
    weight: float = Field(1.0, gt=0, le=1000, description="2 = each conversation twice, 0.5 = a random half of them")
    maximum: int | None = Field(None, ge=1, description="never more than this")


class InstructSettings(BaseModel):
    """How conversations and evaluation questions are made from a corpus."""

    model_config = ConfigDict(extra="forbid")

    languages: list[str] = Field(["zh", "en"], description="languages to make conversations in")
    other_languages: bool = Field(
        True, description="also make bare conversations, of names and keys, in languages without phrasings"
    )
    extra: list[Extra] = Field(default_factory=list, description="files of other conversations to mix in")
    max_articles: int = Field(30_000, ge=1, description="articles used per language; those with infoboxes come first")

    core_relations: list[str] | None = Field(
        None, description="ids of the relations to be taught by heart; none given = those marked core in relations.toml"
    )
    phrasings_per_fact: int = Field(8, ge=1, description="differently worded conversations for each core fact")
    answer_forms: int = Field(3, ge=1, description="different sentences that answer the same question")
    max_core: int = Field(
        60_000, ge=0, description="conversations on core facts per language; facts are left out whole"
    )
    other_fact: Share = Field(Share(weight=2, maximum=20_000), description="facts that are not core, per fact")
    follow_up: Share = Field(Share(weight=1, maximum=4_000), description="two turns, the second elliptic; per article")
    identification: Share = Field(Share(weight=1, maximum=6_000), description="fact or description to title")
    definition: Share = Field(Share(weight=2, maximum=20_000), description="title to first sentence, per article")
    section: Share = Field(Share(weight=0.3, maximum=2_000), description="what a section says, per section")
    summary: Share = Field(Share(weight=0.1, maximum=500), description="body to lead, per article")
    translation: Share = Field(Share(weight=1, maximum=6_000), description="titles, per interlanguage link")
    category: Share = Field(Share(weight=0.3, maximum=2_000), description="which category fits, per article")
    small_talk: Share = Field(Share(weight=2, maximum=2_000), description="about itself, per phrasing")
    sentiment: Share = Field(
        Share(weight=4, maximum=600), description="is a remark positive, negative or neutral, per remark"
    )
    unknown: Share = Field(
        Share(weight=0.02, maximum=100), description="made-up things asked without passages, per article"
    )
    reckoning: Share = Field(
        Share(weight=1, maximum=1_000), description="numbers and dates worked out by a tool, per article"
    )
    grounded: Share = Field(Share(weight=0.5, maximum=8_000), description="open-book questions, per fact")
    unanswerable: Share = Field(
        Share(weight=0.1, maximum=1_500), description="open-book, answer not in the passages, per fact"
    )
    cloze: Share = Field(Share(weight=0.2, maximum=3_000), description="open-book gap to fill, per article")

    # Off here: they are for pretraining, see `ExerciseSettings`.
    copy_text: Share = Field(
        Share(weight=0, maximum=0), description="exercise: some sentences word for word, per article"
    )
    recall: Share = Field(
        Share(weight=0, maximum=0), description="exercise: a list of made-up entries, then some are asked; per article"
    )
    gaps: Share = Field(
        Share(weight=0, maximum=0), description="exercise: sentences of a passage with gaps to fill; per article"
    )
    quiz: Share = Field(
        Share(weight=0, maximum=0), description="exercise: several questions over the same passages, per article"
    )

    counterfactual: float = Field(
        0.5, ge=0, le=1, description="part of grounded answers whose value is swapped in the passage"
    )
    running_text: float = Field(
        0.6, ge=0, le=1, description="part of grounded answers taken from sentences although the infobox has them, too"
    )
    invented: float = Field(
        0.2, ge=0, le=1, description="part of grounded answers whose title is replaced by a made-up name"
    )
    brief: float = Field(
        0,
        ge=0,
        le=1,
        description="part of grounded answers in the words of the passage, not in a sentence",
    )
    max_passages: int = Field(4, ge=1, le=9, description="passages in an open-book question, the right one included")
    passage_bytes: int = Field(480, ge=80, description="length of a passage in bytes, as in the knowledge section")
    noise: float = Field(
        0.15, ge=0, le=1, description="part of the questions written carelessly (lower case, no question mark)"
    )
    chatter: float = Field(
        0.35, ge=0, le=1, description="part of the questions with a remark around them that is to be ignored"
    )

    balance: float = Field(
        0,  # the maxima above bound kinds and languages already, and a small wiki has nothing to throw away
        ge=0,
        le=1,
        description="how far large kinds and languages shrink towards the median one: 0 not at all, 1 down to it",
    )
    # Off by default; each rewrites conversations and adds none. docs/guide.md has what they gain.
    paraphrase: float = Field(0, ge=0, le=1, description="part of the questions put into a composed phrasing")
    noises: list[Noise] = Field(
        default_factory=list,
        description="slips besides carelessness, in `noise` of the questions each time one of them",
    )
    back_translation: float = Field(
        0, ge=0, le=1, description="part of the questions that name their subject in the other language"
    )
    entity_swap: float = Field(
        0, ge=0, le=1, description="part of the grounded conversations turned into ones about another article"
    )
    pairs: Share = Field(
        Share(weight=0.2, maximum=300), description="preference pairs for `wikigpt prefer`, open-book, per fact"
    )

    validation_conversations: int = Field(300, ge=0, description="held-out conversations per language, for the loss")
    core_questions: int = Field(1000, ge=0, description="evaluation questions per language on core facts, closed book")
    other_questions: int = Field(200, ge=0, description="evaluation questions per language on other facts, closed book")
    grounded_questions: int = Field(200, ge=0, description="evaluation questions per language on held-out articles")
    unanswerable_questions: int = Field(60, ge=0, description="evaluation questions per language that have no answer")


class ExerciseSettings(InstructSettings):
    """Conversations for pretraining: what is not set is an exercise in reading, or is not made."""

    @model_validator(mode="before")
    @classmethod
    def _exercises_alone(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        none = Share(weight=0, maximum=0)
        defaults = {name: none for name, field in cls.model_fields.items() if field.annotation is Share}
        defaults |= {
            "copy_text": Share(weight=2, maximum=20_000),
            "recall": Share(weight=2, maximum=20_000),
            "gaps": Share(weight=2, maximum=20_000),
            "quiz": Share(weight=4, maximum=40_000),
        }
        questions = ("core_questions", "other_questions", "grounded_questions", "unanswerable_questions")
        numbers = {"max_core": 0, "counterfactual": 0.9, "invented": 0.5, **dict.fromkeys(questions, 0)}
        return {**defaults, **numbers, **values}
