"""A task done by a prompted model: examples chosen, prompts filled in, answers generated or labels scored."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from wikigpt.adapt.examples import Row, Similar, guess_lang
from wikigpt.adapt.prompts import LANGUAGE_NAMES, Task, Template, find_task
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.chat.engine import Engine
    from wikigpt.tokens import Message

CONTENT_FREE = ("N/A", "[MASK]", "")  # what calibration asks about (Zhao et al. 2021, section 5)
BATCH = 16  # texts answered together; few enough that answers keep coming


@dataclass(frozen=True, slots=True)
class Result:
    """An answer: `text` is what the model wrote or the label it chose; `probabilities` are the labels', if any."""

    text: str
    probabilities: dict[str, float] = field(default_factory=dict)
    shots: int = 0
    prompt_tokens: int = 0


class TaskRunner:
    """One task by one template with one model.

    Args:
        engine: the model; None where only messages are wanted.
        examples: rows with answers, of which the `shots` most similar to a text are shown before it, as turns.
        labels: for sentiment and classify, label to the word shown for it; default: the template's own. Where the
            word is a label of the template, the template's word for that stands in: 0=negative becomes 0=bad.
        calibrate: divide each label's probability by the one it has for a text without content (Zhao et al. 2021,
            arXiv:2102.09690), so that a word which is likely anyway gains nothing by it.
        values: variables that are the same for all texts.
        to: the language to translate into; default: the other one.
        sampling: settings of generation; `max_new_tokens` defaults to the task's.

    Raises:
        UserError: labels or examples are missing, or an example has none of the labels.
    """

    def __init__(
        self,
        engine: "Engine | None",
        template: Template,
        *,
        examples: Sequence[Row] = (),
        shots: int = 0,
        labels: Mapping[str, str] | None = None,
        calibrate: bool = False,
        values: Mapping[str, str] | None = None,
        to: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ):
        self.engine, self.template, self.task = engine, template, find_task(template.task)
        own = template.words
        self.words = {label: own.get(word, word) for label, word in labels.items()} if labels else own
        self.examples, self.shots, self.calibrate = list(examples), shots, calibrate
        self.values, self.to = dict(values or {}), to
        given = {name: value for name, value in (sampling or {}).items() if value is not None}
        self.sampling: dict[str, Any] = {"max_new_tokens": self.task.max_new_tokens, **given}
        _check_labels(self.task, self.words)
        if to is not None and to not in LANGUAGE_NAMES:
            raise UserError(
                f"there is no language {to!r} to translate into; languages are {', '.join(LANGUAGE_NAMES)}."
            )
        if shots and not examples:
            raise UserError("there are no examples to show; give a file of them with --examples FILE.")
        self._nearest: Similar | None = None
        self._copies = Counter(tuple(example.values.items()) for example in self.examples)
        if shots:
            for row in self.examples:
                self.answer_of(row)
            self._nearest = Similar([row.values[self.task.inputs[0]] for row in self.examples])
        self._bias: dict[tuple[int, ...], np.ndarray] = {}  # by the ids of the examples

    def answer_of(self, row: Row) -> str:
        """What is right for a row with answers: its label as the word shown, or its first answer."""
        if not row.answers:
            raise UserError(f"{row.where}: an example needs an answer.")
        if not self.task.chosen:
            return row.answers[0]
        return self.words[known_label(row.answers[0], self.words, row.where)]

    def prompt(self, row: Row, shown: Sequence[Row] = ()) -> "list[Message]":
        """The chat that asks for a row's answer, after examples as earlier turns."""
        turns: list[dict[str, str]] = []
        for example in shown:
            asked = self.template.messages(self._filled(example))[-1]
            turns += [asked, {"role": "assistant", "content": self.answer_of(example)}]
        *system, user = self.template.messages(self._filled(row))
        return cast("list[Message]", [*system, *turns, user])

    def shown(self, row: Row) -> tuple[Row, ...]:
        """The examples for a row: the most similar ones that leave room for the answer, the nearest last.

        The nearest stands next to the question, where it helps most (Liu et al. 2021, arXiv:2101.06804). The row
        itself is never its own example.
        """
        if self._nearest is None or self.engine is None:
            return ()
        text = row.values[self.task.inputs[0]]
        room = self.engine.context_length - (self._longest_label if self.task.chosen else self._answer_room)
        found: list[Row] = []
        # One more for every twin of the row: a development set may well be its own source of examples.
        for i in self._nearest.nearest(text, self.shots + self._twins(row)):
            example = self.examples[i]
            if example.values != row.values and len(found) < self.shots:
                found.insert(0, example)
        while found and self.engine.count_tokens(self.prompt(row, found)) > room:
            found.pop(0)
        return tuple(found)

    def answer(self, rows: Sequence[Row]) -> Iterator[Result]:
        """Answer rows in order, `BATCH` at a time. Raises `UserError` where a text is too long for the context."""
        for i in range(0, len(rows), BATCH):
            batch = rows[i : i + BATCH]
            shown = [self.shown(row) for row in batch]
            prompts = [self.prompt(row, examples) for row, examples in zip(batch, shown, strict=True)]
            try:
                yield from self._choose(prompts, shown) if self.task.chosen else self._generate(prompts, shown)
            except UserError as error:
                where = max(zip(map(self._engine.count_tokens, prompts), batch, strict=True), key=itemgetter(0))[
                    1
                ].where
                raise UserError(f"{where}: {error}" if where else str(error)) from None

    def stream(self, row: Row) -> Iterator[str]:
        """Answer one row piece by piece."""
        if self.task.chosen:
            yield next(self.answer([row])).text
        else:
            yield from self._engine.stream(self.prompt(row, self.shown(row)), **self.sampling)

    @property
    def _engine(self) -> "Engine":
        if self.engine is None:
            raise ValueError("a runner without an engine makes prompts only")
        return self.engine

    @property
    def _longest_label(self) -> int:
        return max(self._engine.count_tokens(word) for word in self.words.values())

    @property
    def _answer_room(self) -> int:
        """Tokens kept for the answer; at most half the context, else a small model could be shown nothing."""
        return min(self.sampling["max_new_tokens"], self._engine.context_length // 2)

    def _twins(self, row: Row) -> int:
        return self._copies[tuple(row.values.items())]

    def _generate(self, prompts: "Sequence[list[Message]]", shown: Sequence[tuple[Row, ...]]) -> Iterator[Result]:
        for completion, examples in zip(self._engine.generate(prompts, **self.sampling), shown, strict=True):
            yield Result(completion.text.strip(), {}, len(examples), completion.prompt_tokens)

    def _choose(self, prompts: "Sequence[list[Message]]", shown: Sequence[tuple[Row, ...]]) -> Iterator[Result]:
        scores = self._scores(prompts)
        if self.calibrate:
            scores = scores - np.array([self._bias_with(examples) for examples in shown])
        shares = _softmax(scores)
        for prompt, examples, row in zip(prompts, shown, shares, strict=True):
            probabilities = {label: round(float(p), 6) for label, p in zip(self.words, row, strict=True)}
            best = list(self.words)[int(row.argmax())]
            yield Result(best, probabilities, len(examples), self._engine.count_tokens(prompt))

    def _scores(self, prompts: "Sequence[list[Message]]") -> np.ndarray:
        """Log-probability of each label after each prompt, in nats: `[prompts, labels]`."""
        words = list(self.words.values())
        begins_another = any(a != b and b.startswith(a) for a in words for b in words)
        return np.array(self._engine.score(prompts, [words] * len(prompts), ended=begins_another))

    def _bias_with(self, examples: tuple[Row, ...]) -> np.ndarray:
        """Log of the labels' mean probability for texts without content, after the same examples."""
        key = tuple(map(id, examples))
        if key not in self._bias:
            texts = [Row(dict.fromkeys(self.task.inputs, text)) for text in CONTENT_FREE]
            scores = self._scores([self.prompt(row, examples) for row in texts])
            self._bias = {key: np.log(_softmax(scores).mean(0))}  # the last one alone: texts rarely share examples
        return self._bias[key]

    def _filled(self, row: Row) -> dict[str, str]:
        """The row's variables, and those that options give."""
        values = {**self.values, **row.values}
        names = LANGUAGE_NAMES[self.template.lang]
        if "target" in self.task.given:
            source = "en" if self.to == "zh" else "zh" if self.to == "en" else guess_lang(row.values["text"])
            values |= {"source": names[source], "target": names["zh" if source == "en" else "en"]}
        if self.words:
            values["labels"] = _listed(list(self.words.values()), self.template.lang)
        return values


def known_label(answer: str, words: Mapping[str, str], where: str) -> str:
    """The label of an answer, which is written as the label or as its word. Raises `UserError` for another."""
    folded = answer.strip().casefold()
    for label, word in words.items():
        if folded in (label.casefold(), word.casefold()):
            return label
    known = ", ".join(f"{label}={word}" if label != word else label for label, word in words.items())
    raise UserError(
        f"{where}: {answer!r} is none of the labels {known}; say which it means, as in --labels '{answer}=positive,…'."
    )


def parse_labels(text: str) -> dict[str, str]:
    """Label to its word, from "a,b,c" or "0=bad,1=good" (also with ，). Raises `UserError` where it makes no sense."""
    words: dict[str, str] = {}
    for part in text.replace("，", ",").split(","):
        label, equals, word = part.partition("=")
        label, word = label.strip(), word.strip() if equals else label.strip()
        if not label or not word:
            raise UserError(f"--labels {text!r}: a label is empty; write them as a,b,c or 0=bad,1=good.")
        if label in words:
            raise UserError(f"--labels {text!r}: {label!r} stands there twice.")
        words[label] = word
    return words


def export_conversations(
    rows: Sequence[Row], templates: Sequence[Template], *, seed: int = 0, **settings: Any
) -> Iterator[dict[str, Any]]:
    """Conversations to fine-tune on, one a row, each in a wording drawn from those that its variables suffice for.

    Args:
        settings: `labels`, `values` and `to` of `TaskRunner`.
    """
    runners = [TaskRunner(None, template, **settings) for template in templates]
    rng = random.Random(seed)
    for row in rows:
        usable = [r for r in runners if r.template.variables <= {*row.values, *r.values, *r.task.given}]
        if not usable:
            runners[0].prompt(row)  # says what is missing
        runner = rng.choice(usable)
        answer: Message = {"role": "assistant", "content": runner.answer_of(row)}
        yield {
            "messages": [*runner.prompt(row), answer],
            "task": runner.task.name,
            "lang": runner.template.lang,
            "sources": [],
        }


def _check_labels(task: Task, words: Mapping[str, str]) -> None:
    if not task.chosen:
        if words:
            raise UserError(f"--labels are for sentiment and classify; {task.name} answers freely.")
    elif len(words) < 2:
        raise UserError(f"{task.name} needs at least two labels to choose from: --labels sports,politics,…")
    elif len(set(words.values())) < len(words):
        raise UserError("two labels have the same word, so that none could be told from the other.")


def _listed(words: list[str], lang: str) -> str:
    comma, last = ("、", "还是") if lang == "zh" else (", ", " or ")
    return comma.join(words[:-1]) + last + words[-1]


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)
