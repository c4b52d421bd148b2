"""What each augmentation of conversations does to a model of the sample wiki: closed-book and read answers.

One base, fine-tuned for the same time on the demo's conversations as they are and with a part of them rewritten. Asked
are held-out questions, phrased as no conversation phrases them: as they are, with slips of the pen, and, in Chinese, in
Traditional characters. `--only NAME,NAME` measures these alone, `--seed` another base and order.
"""

import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import torch

from common import arguments, report, result
from wikigpt.chat.engine import Engine
from wikigpt.display import QuietDisplay
from wikigpt.evaluate.tasks import run_tasks
from wikigpt.instruct.augment import noisy
from wikigpt.instruct.settings import Noise
from wikigpt.knowledge import Index
from wikigpt.pipeline import build, read_stages
from wikigpt.recipe import load_recipe
from wikigpt.train.machine import physical_cores

VARIANTS: dict[str, list[str]] = {
    "as they are": [],
    "paraphrase": ["instruct.paraphrase=0.3"],
    "slips": ['instruct.noises=["typos", "spaces"]', "instruct.noise=0.3"],
    "Traditional characters": ['instruct.noises=["traditional"]', "instruct.noise=0.3"],
    "back-translation": ["instruct.back_translation=0.3"],
    "entity swap": ["instruct.entity_swap=0.5"],
}
WAYS: tuple[Noise | None, ...] = (None, "typos", "traditional")
LIMITS = {"closed_book": 200, "grounded": 100}


def main() -> None:
    """Fine-tune and ask by turns, print, write."""
    options = arguments(__doc__, minutes=4.0, work="", only="", seed=0)
    torch.set_num_threads(physical_cores())
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        for name in options.only.split(",") if options.only else VARIANTS:
            settings = ["base=none", *VARIANTS[name], f"finetune.minutes={options.minutes}", f"seed={options.seed}"]
            build(load_recipe("demo", settings), folder, until="knowledge", display=QuietDisplay())
            scores[name] = ask(folder)
            steps = read_stages(folder)["finetune"]["facts"]["steps"]
            print(f"{name}, {steps:,} steps: {scores[name]}", flush=True)
    plain = next(iter(scores.values()))
    print(f"| | {' | '.join(plain)} |\n|---|{'---|' * len(plain)}")
    for name, found in scores.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in found.values())} |")
    rows = [
        result(
            f"{name}: {measure}", [found[measure]], [max(plain[measure], 1e-3)], peer_name="as they are", unit="share"
        )
        for name, found in scores.items()
        if found is not plain
        for measure in plain
    ]
    report(rows, options.json)


def ask(folder: Path) -> dict[str, float]:
    """Exact match of the model in a run folder, by what is asked and how."""
    engine, index = Engine.from_folder(folder / "model"), Index(folder / "knowledge")
    lines = (folder / "conversations" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, float] = {}
    for way in WAYS:
        asked = [_slipped(json.loads(line), way) for line in lines]
        file = folder / "asked.jsonl"
        file.write_text("".join(json.dumps(question) + "\n" for question in asked if question), encoding="utf-8")
        limits = LIMITS if way is None else {"closed_book": LIMITS["closed_book"]}
        tasks = run_tasks(engine, index, file, limits=limits)[0]
        for task in limits:
            for lang, shares in tasks[task].items():
                found[f"{task.replace('_', ' ')} {lang}, {way or 'plain'}"] = shares["exact_match"]
    return found


def _slipped(question: dict[str, Any], way: Noise | None) -> dict[str, Any] | None:
    """The question with a slip; None where only Chinese is asked, or it is of another kind."""
    if way is None:
        return question
    if question["task"] != "closed_book" or not question["core"] or (way == "traditional" and question["lang"] != "zh"):
        return None
    rng = Random(question["question"])
    return {**question, "question": noisy(question["question"], question["lang"], rng, way, [question["title"]])}


if __name__ == "__main__":
    main()
