"""`report.html` and `plots/` of a training run, made from its `metrics.jsonl` alone."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from wikigpt.artifacts import write_atomic
from wikigpt.errors import UserError
from wikigpt.page import render_page
from wikigpt.train.charts import Line, line_chart, short
from wikigpt.train.metrics import METRICS, read_metrics

SHOWN_EVALUATIONS, SHOWN_SAMPLES, SHOWN_MESSAGES = 24, 10, 200
T = TypeVar("T")
Entry = dict[str, Any]


def write_training_report(folder: Path) -> Path:
    """Write `folder/report.html` and `folder/plots/*.svg` from `folder/metrics.jsonl`; returns the page's path.

    Raises:
        UserError: there is no such file.
    """
    if not (folder / METRICS).is_file():
        raise UserError(f"{folder} has no {METRICS}; give the folder that a training run writes to.")
    entries = list(read_metrics(folder / METRICS))
    steps = [entry for entry in entries if "loss" in entry]
    held_out = list({entry["step"]: entry for entry in entries if "held_out_loss" in entry}.values())
    about: Entry = next((entry["run"] for entry in reversed(entries) if "run" in entry), {})
    plots = training_plots(entries)
    for name, svg in plots.items():
        write_atomic(folder / "plots" / f"{name}.svg", svg)
    splits = about.get("data", {})
    page = render_page(
        "train/report.html.j2",
        {"value": _value, "perplexity": math.exp, "short": short},
        chinese="zh" in splits and "en" not in splits,
        name=" / ".join(folder.resolve().parts[-2:]),
        about=about,
        went_on=sorted({entry["step"] for entry in entries if "run" in entry and entry["step"]}),
        steps=steps,
        total=about.get("state", {}).get("total_steps"),
        recent=steps[-max(1, len(steps) // 50) :],
        skipped=sum(not math.isfinite(step["loss"]) for step in steps),
        speed=speed(steps),
        held_out=_spread(held_out, SHOWN_EVALUATIONS),
        plots=[Markup(svg) for svg in plots.values()],
        samples=_by_prompt([entry for entry in entries if "samples" in entry]),
        messages=[entry for entry in entries if "message" in entry][-SHOWN_MESSAGES:],
    )
    write_atomic(folder / "report.html", page)
    return folder / "report.html"


def training_plots(entries: Sequence[Entry]) -> dict[str, str]:
    """Charts of a run's log as SVG: `loss`, `bits_per_byte` (masked models: `perplexity`), `throughput`, `gradient`."""
    steps = [entry for entry in entries if "loss" in entry]
    held_out = [entry for entry in entries if "held_out_loss" in entry]
    splits = list(dict.fromkeys(name for entry in held_out for name in entry["held_out_loss"]))

    def curve(key: str) -> list[tuple[float, float]]:
        return [(entry["step"], entry[key]) for entry in steps if key in entry]

    def by_split(key: str) -> list[Line]:
        return [
            Line((name, name), [(e["step"], e[key][name]) for e in held_out if name in e[key]], color)
            for color, name in enumerate(splits, 1)
        ]

    def measured(kind: str) -> list[Line]:
        found = [(e["step"], e["measures"]) for e in held_out if "measures" in e]
        points = {name: [(step, m[name][kind]) for step, m in found if kind in m.get(name, {})] for name in splits}
        some = [name for name in splits if points[name]]
        return [Line((name, name), points[name], color) for color, name in enumerate(some, 0 if len(some) > 2 else 1)]

    charts: dict[str, str] = {}
    if preferred := measured("accuracy"):
        charts["accuracy"] = line_chart(("Chosen above rejected, held out", "留出集偏好准确率"), preferred)
    elif any(entry["bits_per_byte"] for entry in held_out) or not held_out:
        of_text = [line for line in by_split("bits_per_byte") if line.points]
        charts["bits_per_byte"] = line_chart(("Bits per byte, held out", "留出集每字节比特数"), of_text)
    else:
        lines = [Line(a.name, [(x, math.exp(y)) for x, y in a.points], a.color) for a in by_split("held_out_loss")]
        charts["perplexity"] = line_chart(("Perplexity of masked tokens, held out", "留出集掩码困惑度"), lines)
    if right := measured("answers_right"):
        charts["answers"] = line_chart(("Answers word for word, held out", "留出集逐字答对率"), right, from_zero=True)
    # Where text is learned beside exercises, their losses are much lower and there are many.
    text = {name for entry in held_out for name in entry["bits_per_byte"]} or set(splits)
    losses = [line for line in by_split("held_out_loss") if line.name[0] in text]
    training = Line(("training", "训练"), curve("loss"), 0, "noisy")
    rate = Line(("learning rate", "学习率"), curve("learning_rate"), 4, "dashed")
    gradient = Line(("norm", "范数"), curve("grad_norm"), 3, "noisy")
    speeds = Line(("", ""), curve("tokens_per_second"), 2, "noisy")
    return {
        "loss": line_chart(("Loss, nats per target", "损失（奈特／目标）"), [training, *losses]),
        **charts,
        "throughput": line_chart(("Tokens per second", "每秒词元数"), [speeds], from_zero=True),
        "gradient": line_chart(("Gradient", "梯度"), [gradient, rate], from_zero=True),
    }


def speed(steps: Sequence[Entry]) -> tuple[float, float]:
    """Mean tokens per second over the steps, and MFU."""
    if not steps:
        return 0.0, 0.0
    seconds = sum(1 / entry["tokens_per_second"] for entry in steps)
    return len(steps) / seconds, sum(e.get("mfu", 0) / e["tokens_per_second"] for e in steps) / seconds


def _spread(entries: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, denser at the beginning, where more changes; the first and the last always."""
    if len(entries) <= most:
        return list(entries)
    last = len(entries) - 1
    return [entries[i] for i in sorted({round(last * (k / (most - 1)) ** 1.5) for k in range(most)})]


def _by_prompt(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What became of each prompt: `prompt`, `split`, `expected`, and `completions` as (step, text)."""
    prompts: dict[str, dict[str, Any]] = {}
    for entry in entries:
        for sample in entry["samples"]:
            shown = prompts.setdefault(sample["prompt"], {**sample, "completions": {}})
            shown["completions"][entry["step"]] = sample["completion"]
    return [
        {**shown, "completions": _spread([*shown["completions"].items()], SHOWN_SAMPLES)} for shown in prompts.values()
    ]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
