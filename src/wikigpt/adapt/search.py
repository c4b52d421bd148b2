"""Which wording, with how many examples, does best on a development set."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from wikigpt.adapt.examples import Row, guess_lang
from wikigpt.adapt.prompts import Task, Template, find_task
from wikigpt.adapt.tasks import BATCH, Result, TaskRunner, known_label
from wikigpt.artifacts import fingerprint, read_json, write_atomic, write_json
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.chat.engine import Engine

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """A template with so many shots, measured: `score` is the task's metric (0 to 1), `error` its standard error."""

    template: str
    shots: int
    metric: str
    score: float
    error: float
    n: int
    others: dict[str, float]
    seconds: float


def measure(
    task: Task, results: Sequence[Result], rows: Sequence[Row], words: dict[str, str]
) -> dict[str, list[float]]:
    """The task's metrics, the main one first: a value for each row, or a single one where it is of all rows at once."""
    from wikigpt.evaluate import judge, metrics

    texts = [result.text for result in results]
    golds = [list(row.answers) for row in rows]
    if task.chosen:
        truth = [known_label(row.answers[0], words, row.where) for row in rows]
        hits = [float(text == label) for text, label in zip(texts, truth, strict=True)]
        return {"accuracy": hits, "macro_f1": [metrics.macro_f1(texts, truth)]}
    pairs = list(zip(texts, golds, strict=True))
    if task.metric == "f1":
        langs = [guess_lang(gold[0]) for gold in golds]
        triples = [(text, gold, lang) for (text, gold), lang in zip(pairs, langs, strict=True)]
        return {
            "f1": [judge.f1(*triple) for triple in triples],
            "exact_match": [float(judge.exact_match(*triple)) for triple in triples],
        }
    if task.metric == "chrf":
        lang = guess_lang(" ".join(gold[0] for gold in golds))
        return {
            "chrf": [metrics.sentence_chrf(text, gold) for text, gold in pairs],
            "bleu": [metrics.bleu(texts, golds, lang)],
        }
    return {"rouge_l": [metrics.rouge_l(text, gold) for text, gold in pairs]}


def search_prompts(
    engine: "Engine",
    templates: Sequence[Template],
    dev: Sequence[Row],
    *,
    examples: Sequence[Row] = (),
    shots: Sequence[int] = (0,),
    partial: Path | None = None,
    progress: Progress | None = None,
    origin: Any = None,
    **settings: Any,
) -> Iterator[Tried]:
    """Measure every template with every number of shots on rows with answers; yields each as it is known.

    Args:
        partial: file that keeps what is known, so that the same search goes on after an interruption; it is the
            caller's to remove.
        origin: what else the results depend on (JSON), such as the name and checksum of the model.
        settings: `labels`, `calibrate`, `values`, `to` and `sampling` of `TaskRunner`.

    Raises:
        UserError: a row has no answer, or a metric's package is missing.
    """
    for row in dev:
        if not row.answers:
            raise UserError(f"{row.where}: no answer, so nothing can be measured on it.")
    task = find_task(templates[0].task)
    # A package that is missing shows before the model works, not after.
    measure(task, [Result(dev[0].answers[0])], dev[:1], {dev[0].answers[0]: ""})
    plain = [[(row.values, row.answers) for row in rows] for rows in (dev, examples)]
    key = fingerprint(plain, settings, origin)
    known: dict[str, Any] = {}
    if partial is not None and partial.is_file():
        kept = read_json(partial)
        known = kept["results"] if isinstance(kept, dict) and kept.get("key") == key else {}
    jobs = [(template, k) for template in templates for k in shots]
    for number, (template, k) in enumerate(jobs):
        name = fingerprint(template.model_dump(include={"user", "system", "labels"}), k)
        if name in known:
            yield Tried(**{**known[name], "template": template.name})
            continue
        runner = TaskRunner(engine, template, examples=examples, shots=k, **settings)
        begin = time.perf_counter()
        results = []
        for done, result in enumerate(runner.answer(dev), 1):
            results.append(result)
            if progress and (done % BATCH == 0 or done == len(dev)):
                message = f"{template.name}, {k} shots ({number + 1} of {len(jobs)})"
                progress(number * len(dev) + done, len(jobs) * len(dev), message)
        (metric, items), *others = measure(task, results, dev, runner.words).items()
        tried = Tried(
            template=template.name,
            shots=k,
            metric=metric,
            score=round(float(np.mean(items)), 4),
            # Of a mean over independent rows; for right or wrong this is the binomial one.
            error=round(float(np.std(items) / len(items) ** 0.5), 4),
            n=len(items),
            others={name: round(float(np.mean(values)), 4) for name, values in others},
            seconds=round(time.perf_counter() - begin, 1),
        )
        known[name] = asdict(tried)
        if partial is not None:
            write_json(partial, {"key": key, "results": known})
        yield tried


def write_winner(path: Path, winner: Tried, template: Template, **settings: Any) -> None:
    """Write a TOML file with the one template, its shots and examples, for `wikigpt task --prompts`.

    Args:
        settings: fields of `Template` to set, such as `labels`, `examples` and `calibrate`.
    """
    measured = {winner.metric: winner.score, "error": winner.error, **winner.others, "n": winner.n}
    chosen = template.model_copy(
        update={
            **settings,
            "name": f"best-{template.name.removeprefix('best-')}",
            "shots": winner.shots,
            "measured": measured,
        }
    )
    entry = {name: value for name, value in chosen.model_dump().items() if value not in ("", [], {}, False, 0)}
    write_atomic(path, tomli_w.dumps({"template": [entry]}, multiline_strings=True))
