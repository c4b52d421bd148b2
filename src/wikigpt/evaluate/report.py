"""`report.html`: one page, without outside files, that shows what a run did and how well."""

import io
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

SHOWN_ANSWERS = 12  # of each task and language


def write_report(run: Path, recipe: Recipe, stages: dict[str, Any], evaluation: dict[str, Any]) -> Path:
    """Write `run/report.html` (and its plots as `run/plots/*.svg`) from what the stages left behind."""
    template = (resources.files("wikigpt.evaluate") / "report.html.j2").read_text(encoding="utf-8")
    answers = list(read_metrics(run / "evaluation" / "answers.jsonl"))
    plots = {}
    for stage in ("pretrain", "finetune"):
        plots[stage] = plot_training(list(read_metrics(run / stage / "metrics.jsonl")))
        write_atomic(run / "plots" / f"{stage}.svg", plots[stage])
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


def plot_training(metrics: list[dict[str, Any]]) -> str:
    """Loss, held-out bits per byte, throughput, gradient norm and learning rate against steps, as SVG."""
    from matplotlib.figure import Figure

    steps = [m for m in metrics if "loss" in m]
    held_out = [m for m in metrics if "bits_per_byte" in m]
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots(2, 2)
    x = [m["step"] for m in steps]
    loss, bits, rate, gradient = axes.flat
    loss.plot(x, [m["loss"] for m in steps], color="0.8", linewidth=0.8)
    loss.plot(x, _smoothed([m["loss"] for m in steps]), color="tab:blue", label="training")
    for split in held_out[-1]["held_out_loss"] if held_out else ():
        points = [(m["step"], m["held_out_loss"][split]) for m in held_out]
        loss.plot(*zip(*points, strict=True), "o--", markersize=3, linewidth=1, label=f"held out, {split}")
        points = [(m["step"], m["bits_per_byte"][split]) for m in held_out]
        bits.plot(*zip(*points, strict=True), "o-", markersize=3, label=split)
    loss.set(title="Loss (nats per target)", xlabel="step")
    loss.legend()
    bits.set(title="Held-out bits per byte", xlabel="step")
    if held_out:
        bits.legend()
    rate.plot(x, _smoothed([m["tokens_per_second"] for m in steps]), color="tab:green")
    rate.set(title="Tokens per second", xlabel="step", ylim=(0, None))
    gradient.plot(x, _smoothed([m["grad_norm"] for m in steps]), color="tab:red", label="gradient norm")
    gradient.set(title="Gradient norm, learning rate (dotted)", xlabel="step")
    other = gradient.twinx()
    other.plot(x, [m["learning_rate"] for m in steps], ":", color="0.3")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    buffer = io.StringIO()
    # Fixed salt and no date: the same run draws the same file.
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "wikigpt"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def _bold(text: str) -> Markup:
    """The text as HTML, with Markdown's `**bold**` as such."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))


def _smoothed(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average without its bias towards the first value."""
    smooth, average, total = [], 0.0, 0.0
    for value in values:
        average, total = weight * average + (1 - weight) * value, weight * total + (1 - weight)
        smooth.append(average / total)
    return smooth


def _some_of_each(answers: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """A fixed random choice of judged answers by task and language, right and wrong as they come."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        groups.setdefault(f"{answer['task'].replace('_', '-')}, {answer['lang']}", []).append(answer)
    return {
        name: random.Random(0).sample(group, min(SHOWN_ANSWERS, len(group))) for name, group in sorted(groups.items())
    }
