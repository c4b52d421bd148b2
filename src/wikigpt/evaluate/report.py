"""`report.html`: one page, without outside files, that shows what a run did and how well."""

import random
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from wikigpt.artifacts import read_json, write_atomic
from wikigpt.recipe import Recipe, dump_recipe
from wikigpt.train.metrics import read_metrics
from wikigpt.train.report import training_plots, write_training_report

SHOWN_ANSWERS = 12  # of each task and language


def write_report(run: Path, recipe: Recipe, stages: dict[str, Any], evaluation: dict[str, Any]) -> Path:
    """Write `run/report.html` from what the stages left behind, and again those of the training stages."""
    template = (resources.files("wikigpt.evaluate") / "report.html.j2").read_text(encoding="utf-8")
    answers = list(read_metrics(run / "evaluation" / "answers.jsonl"))
    plots = {}
    for stage in ("pretrain", "finetune"):
        write_training_report(run / stage)
        plots[stage] = training_plots([*read_metrics(run / stage / "metrics.jsonl")]).values()
    templates = Environment(autoescape=True)
    templates.filters["bold"] = _bold
    page = templates.from_string(template).render(
        name=run.resolve().name,
        stages=stages,
        evaluation=evaluation,
        plots=plots,
        answers=_some_of_each(answers),
        corpus=read_json(run / "corpus" / "corpus.json"),
        instruct=read_json(run / "conversations" / "instruct.json"),
        environment=read_json(run / "environment.json"),
        recipe=dump_recipe(recipe),
        minutes=sum(entry["seconds"] for entry in stages.values()) / 60,
    )
    path = run / "report.html"
    write_atomic(path, page)
    return path


def _bold(text: str) -> Markup:
    """The text as HTML, with Markdown's `**bold**` as such."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))


def _some_of_each(answers: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """A fixed random choice of judged answers by task and language, right and wrong as they come."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        groups.setdefault(f"{answer['task'].replace('_', '-')}, {answer['lang']}", []).append(answer)
    return {
        name: random.Random(0).sample(group, min(SHOWN_ANSWERS, len(group))) for name, group in sorted(groups.items())
    }
