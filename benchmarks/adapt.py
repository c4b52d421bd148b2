"""What each way of fine-tuning gains for the weights and the time that it takes, on real articles.

A base of 6 x 256 learns English and Chinese Wikipedia ($WIKIGPT_DATA/text, default `../shared/data/text`) for some
minutes; then every method learns the conversations made from these articles, for the same number of steps. The gain
is how far the held-out loss of what the assistant says (other phrasings, other articles) falls below the base's, as a
share of what training all weights gains. Written with `--plot FILE`: the gain against the trained weights and against
the seconds.
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import arguments, report, result
from wikigpt import stages
from wikigpt.adapt.settings import AdapterSettings
from wikigpt.corpus import build_corpus
from wikigpt.instruct import build_conversations
from wikigpt.model import load_model
from wikigpt.recipe import load_recipe
from wikigpt.tokens import open_shards
from wikigpt.train import Chat, TrainConfig
from wikigpt.train.evaluation import evaluate_shards
from wikigpt.train.machine import physical_cores
from wikigpt.tune import finetune

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data") / "text"
ARTICLES = {"en": 1200, "zh": 12_000}  # about as much text of each
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
METHODS: dict[str, dict[str, Any]] = {
    "all weights": {"method": "full"},
    "LoRA, rank 8, attention and down": {"method": "lora", "targets": LORA_TARGETS},
    "LoRA, rank 8": {"method": "lora"},
    "DoRA, rank 8": {"method": "dora"},
    "IA3": {"method": "ia3"},
    "last 2 layers": {"method": "freeze", "train": "last:2"},
    "head": {"method": "freeze", "train": "head"},
    "soft prompt of 20": {"method": "soft-prompt"},
    "prefix of 20": {"method": "prefix"},
}  # fmt: skip
LORA = "LoRA, rank 8, attention and down"


@dataclass(frozen=True)
class Outcome:
    """One method's."""

    trained: int
    share: float
    seconds: float
    loss: float  # nats a token, mean of the languages


def main() -> None:
    """Train all, print, draw, write."""
    options = arguments(__doc__, steps=250, minutes=4.0, plot="", work="")
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare(folder, options.minutes)
        outcomes = {}
        for name, settings in METHODS.items():
            outcomes[name] = train(folder, folder / "try", settings, options.steps)
            print(f"{name}: {outcomes[name]}", flush=True)
            if name == "all weights":
                base = base_loss(folder)
    full = outcomes["all weights"]
    gains = {name: (base - o.loss) / (base - full.loss) for name, o in outcomes.items()}
    print(f"held-out loss of the base {base:.3f}\n| | trained weights | share | seconds | held-out loss | gain |")
    print("|---|---|---|---|---|---|")
    for name, o in outcomes.items():
        row = f"| {name} | {o.trained:,} | {o.share:.2%} | {o.seconds:.0f} | {o.loss:.3f} | {gains[name]:.1%} |"
        print(row, flush=True)
    if options.plot:
        draw(outcomes, gains, Path(options.plot))
    rows = [
        result(
            f"{LORA}: gain in held-out loss (target: at least 0.95)",
            [base - outcomes[LORA].loss],
            [base - full.loss],
            peer_name="all weights, as many steps",
            unit="nats",
        ),
        result(
            f"{LORA}: share of the weights (target: at most 1)",
            [outcomes[LORA].share],
            [0.03],
            peer_name="target, at most",
            unit="share",
        ),
    ]
    report(rows, options.json)


def prepare(folder: Path, minutes: float) -> None:
    """Write `base` and `conversations`, where they are not there yet."""
    recipe = load_recipe("small", [f"pretrain.minutes={minutes}"])
    if (folder / "conversations" / "instruct.json").is_file():
        return
    settings = recipe.corpus.model_dump(exclude={"inputs", "lang", "max_documents", "report"})
    for lang, most in ARTICLES.items():
        build_corpus([DATA / f"{lang}wiki.jsonl.xz"], folder / lang, lang=lang, max_documents=most, **settings)
    parts = [part for lang in ARTICLES for part in sorted((folder / lang).glob("*.parquet"))]
    build_corpus(parts, folder / "corpus", **settings)
    stages.tokenizer(folder / "corpus", folder / "tokenizer", settings=recipe.tokenizer)
    stages.tokens(folder / "corpus", folder / "tokenizer", folder / "tokens")
    stages.pretrain(
        folder / "tokens",
        folder / "tokenizer",
        folder / "pretrain",
        folder / "base",
        model=recipe.model,
        settings=recipe.pretrain,
    )
    build_conversations(folder / "corpus", folder / "conversations", settings=recipe.instruct, seed=0)


def train(folder: Path, work: Path, adapter: dict[str, Any], steps: int) -> Outcome:
    """Fine-tune by one method, from the start."""
    shutil.rmtree(work, ignore_errors=True)
    settings = TrainConfig(steps=steps, batch_size=16, evaluate_every=10**6, samples=[], evaluation_tokens=100_000)
    begin = time.perf_counter()
    facts = finetune(
        folder / "base",
        folder / "conversations",
        work,
        work / "out",
        settings=settings,
        adapter=AdapterSettings(**adapter),
    )
    losses = facts["held_out_loss"].values()
    seconds = time.perf_counter() - begin
    return Outcome(facts["trained_parameters"], facts["trained_share"], seconds, sum(losses) / len(losses))


def base_loss(folder: Path) -> float:
    """Held-out loss of the base itself, on the tokens that training all weights left."""
    model, shards = load_model(folder / "base"), open_shards(folder / "try" / "tokens")
    del shards["train"]
    length = model.config.context_length
    losses = evaluate_shards(model, Chat(), shards, sequence_length=length, batch_size=8, max_tokens=100_000)
    return sum(held_out.nats_per_target for held_out in losses.values()) / len(losses)


def draw(outcomes: dict[str, Outcome], gains: dict[str, float], file: Path) -> None:
    """The gain against the trained weights, and against the seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, label, value in zip(
        figure.subplots(1, 2, sharey=True),
        ("trained weights", "seconds"),
        (lambda o: o.trained, lambda o: o.seconds),
        strict=True,
    ):
        for name, outcome in outcomes.items():
            axes.plot(value(outcome), 100 * gains[name], "o")
            axes.annotate(name, (value(outcome), 100 * gains[name]), xytext=(5, 3), textcoords="offset points", size=7)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        if label == "trained weights":
            axes.set_xscale("log")
            axes.set_ylabel("gain, % of that of all weights")
    figure.savefig(file)


if __name__ == "__main__":
    main()
