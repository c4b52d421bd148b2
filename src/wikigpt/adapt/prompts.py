"""Prompt templates: named wordings of a task, with variables.

A template is text with variables in braces, "Translate into {target}: {text}"; a brace itself is doubled. There are
no attributes, indexes, formats or code in it, so a template from a stranger can do nothing but be read.
"""

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wikigpt.errors import UserError

LANGUAGE_NAMES = {"en": {"en": "English", "zh": "Chinese"}, "zh": {"en": "英文", "zh": "中文"}}  # by the prompt's


@dataclass(frozen=True, slots=True)
class Task:
    """What a task takes and gives.

    `inputs` are the variables that every text of it has, the first the one that a user types; `optional` those that
    only some have; `given` those that come from options instead of the data. A `chosen` answer is one of a few labels.
    """

    name: str
    about: str
    inputs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    chosen: bool = False
    max_new_tokens: int = 128
    metric: str = "rouge_l"

    @property
    def variables(self) -> tuple[str, ...]:
        """All that a template of this task may use."""
        return (*self.inputs, *self.optional, *self.given)


TASKS = {
    task.name: task
    for task in (
        Task("qa", "answer a question 问答", ("question",), ("context",), max_new_tokens=48, metric="f1"),
        Task("dialogue", "reply in a conversation 对话", ("text",), ("persona",), metric="chrf"),
        Task("summarise", "say it in short 摘要", ("text",)),
        Task("translate", "translate 翻译", ("text",), given=("source", "target"), metric="chrf"),
        Task("sentiment", "positive or negative 情感", ("text",), given=("labels",), chosen=True, metric="accuracy"),
        Task("classify", "which of your labels 分类", ("text",), given=("labels",), chosen=True, metric="accuracy"),
        Task("write", "write freely about something 写作", ("text",), max_new_tokens=256),
    )
}


class Template(BaseModel):
    """One wording of a task, as a `[[template]]` of a TOML file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="what it is called, after --prompt")
    task: str = Field(description="qa, dialogue, summarise, translate, sentiment, classify or write")
    lang: Literal["en", "zh"] = Field(description="language that the prompt is written in")
    user: str = Field(min_length=1, description="what the user says, with variables in braces")
    system: str = Field("", description="what the system message says, with variables in braces")
    labels: list[str] | dict[str, str] = Field(
        default_factory=list, description="labels to choose from, or label = word that the model says for it"
    )
    shots: int = Field(0, ge=0, description="how many examples to show")
    examples: str = Field("", description="file of examples, relative to this one")
    columns: dict[str, str] = Field(default_factory=dict, description="which columns of it hold what")
    calibrate: bool = Field(False, description="take the labels' own likelihood away (Zhao et al. 2021)")
    measured: dict[str, str | int | float] = Field(default_factory=dict, description="what a search measured")

    @model_validator(mode="after")
    def _check(self) -> "Template":
        if self.task not in TASKS:
            raise ValueError(f"there is no task {self.task!r}; tasks are {', '.join(TASKS)}")
        task = TASKS[self.task]
        for text in (self.user, self.system):
            for variable in variables(text):
                if variable not in task.variables:
                    possible = ", ".join(f"{{{name}}}" for name in task.variables)
                    raise ValueError(f"{{{variable}}} is no variable of {self.task}; it has {possible}")
        missing = [name for name in task.inputs if name not in variables(self.user)]
        if missing:
            raise ValueError(f"`user` leaves out {{{missing[0]}}}, so the model would not see it")
        if self.labels and not task.chosen:
            raise ValueError(f"labels are for sentiment and classify, not for {self.task}")
        return self

    @property
    def variables(self) -> frozenset[str]:
        """The variables that are to be filled in."""
        return frozenset({*variables(self.user), *variables(self.system)})

    @property
    def words(self) -> dict[str, str]:
        """Label to the word that stands for it in prompt and answer."""
        return dict(self.labels) if isinstance(self.labels, dict) else {label: label for label in self.labels}

    def messages(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """The system message, if any, and the user's, with `values` in them. Raises `UserError` where one is missing.

        Values are put in as they are: braces in them mean nothing.
        """
        if lacking := sorted(self.variables - set(values)):
            raise UserError(
                f"the prompt {self.name} needs {lacking[0]}, which is not given; add it with "
                f"`--var {lacking[0]}=…` or as a column, or take another prompt."
            )
        turns = (("system", self.system), ("user", self.user))
        return [{"role": role, "content": text.format_map(values)} for role, text in turns if text]


def variables(text: str) -> list[str]:
    """The variables of a template's text, in order. Raises `ValueError` where it is not well formed."""
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(text)]
    except ValueError as error:
        raise ValueError(f"{error}; a brace that is no variable is written twice, {{{{ or }}}}") from None
    found = []
    for field, spec, conversion in fields:
        if field is None:
            continue
        if not field.isidentifier() or spec or conversion:
            written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"{{{written}}} is not a plain variable such as {{text}}")
        found.append(field)
    return found


def parse_templates(text: str, origin: str) -> list[Template]:
    """The `[[template]]`s of a TOML text; `origin` is named where one is wrong, as a `UserError`."""
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{origin} is not TOML: {error}.") from None
    entries = content.get("template")
    if set(content) != {"template"} or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"{origin}: templates are written as [[template]] with name, task, lang and user.")
    templates = []
    for number, entry in enumerate(entries, 1):
        try:
            templates.append(Template(**entry))
        except ValidationError as error:
            problem = error.errors()[0]
            where = "".join(f"{part}: " for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            raise UserError(f"{origin}, template {entry.get('name', number)!r}: {where}{message}.") from None
    return templates


def load_templates(path: Path | None = None) -> list[Template]:
    """The user's templates from a TOML file, if one is given, then the shipped ones.

    Raises:
        UserError: the file is absent or wrong, or a name is taken twice.
    """
    shipped = (resources.files("wikigpt.adapt") / "prompts.toml").read_text(encoding="utf-8")
    own: list[Template] = []
    if path is not None:
        try:
            own = parse_templates(path.read_text(encoding="utf-8-sig"), str(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); give a TOML file with templates.") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
        for template in own:
            if template.examples:
                template.examples = str(path.parent / template.examples)
    templates = [*own, *parse_templates(shipped, "prompts.toml")]
    seen: set[str] = set()
    for template in templates:
        if template.name in seen:
            raise UserError(f"{path or 'prompts.toml'}: two templates are called {template.name!r}; rename one.")
        seen.add(template.name)
    return templates


def find_task(name: str) -> Task:
    """The task of that name. Raises `UserError` that lists the tasks."""
    if name not in TASKS:
        raise UserError(f"there is no task {name!r}; tasks are {', '.join(TASKS)}.")
    return TASKS[name]


def find_template(templates: Iterable[Template], name: str, task: str | None = None) -> Template:
    """The template of that name. Raises `UserError` that lists those of the task."""
    known = [template for template in templates if task in (None, template.task)]
    for template in known:
        if template.name == name:
            return template
    of_task = f" of {task}" if task else ""
    raise UserError(f"there is no prompt {name!r}{of_task}; prompts are {', '.join(t.name for t in known)}.")


def default_template(templates: Iterable[Template], task: Task, lang: str, fields: Collection[str]) -> Template:
    """The first template of the task and language that uses the most of these fields and no others."""
    usable = [
        template
        for template in templates
        if template.task == task.name and template.lang == lang and template.variables <= {*fields, *task.given}
    ]
    if not usable:
        raise UserError(
            f"no prompt of {task.name} in {lang!r} does with {', '.join(sorted(fields))} alone; languages are en, zh, "
            f"and the variables {', '.join(task.variables)}."
        )
    return max(usable, key=lambda template: len(template.variables & set(fields)))  # the first of equals
