"""What each way of fine-tuning gains for the weights and the time that it takes, on real articles.

SmolLM2-135M-Instruct learns the conversations made from articles of the English Wikipedia (see `smollm2.py`) by every
method, for the same number of steps. The gain is how far the held-out loss of what the assistant says (other phrasings,
other articles) falls below the base's, as a share of what training all weights gains. Written with `--plot FILE`: the
gain against the trained weights and against the seconds.
"""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import arguments, report, result
from smollm2 import TRAINING, prepare
from wikigpt.adapt.settings import RATES, AdapterSettings
from wikigpt.model import load_model
from wikigpt.tokens import open_shards
from wikigpt.train import Chat, TrainConfig
from wikigpt.train.evaluation import autocast_for, evaluate_shards
from wikigpt.train.machine import physical_cores
from wikigpt.tune import finetune

METHODS: dict[str, dict[str, Any]] = {
    "all weights": {"method": "full"},
    "LoRA, rank 8": {"method": "lora"},
    "IA3": {"method": "ia3"},
    "last 2 layers": {"method": "freeze", "train": "last:2"},
    "prefix of 20": {"method": "prefix"},
    "soft prompt of 20": {"method": "soft-prompt"},
}
LORA = "LoRA, rank 8"


@dataclass(frozen=True)
class Outcome:
    """One method's."""

    trained: int
    share: float
    seconds: float
    loss: float  # nats a token


def main() -> None:
    """Train all, print, draw, write."""
    options = arguments(__doc__, steps=80, plot="", work="")
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare(folder)
        outcomes = {}
        for name, settings in METHODS.items():
            outcomes[name] = train(folder, settings, options.steps)
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


def train(folder: Path, adapter: dict[str, Any], steps: int) -> Outcome:
    """Fine-tune by one method, from the start, at the rate that it has with somebody else's base."""
    work = folder / "try"
    shutil.rmtree(work, ignore_errors=True)
    rate = RATES.get(adapter["method"])
    begin = time.perf_counter()
    facts = finetune(
        folder / "base",
        folder / "conversations",
        work,
        work / "out",
        settings=TrainConfig(steps=steps, **TRAINING),
        adapter=AdapterSettings(**adapter, learning_rate=rate / 10 if rate else None),
    )
    seconds = time.perf_counter() - begin
    return Outcome(facts["trained_parameters"], facts["trained_share"], seconds, facts["held_out_loss"]["en"])


def base_loss(folder: Path) -> float:
    """Held-out loss of the base itself, on the tokens that training all weights left."""
    model, shards = load_model(folder / "base"), open_shards(folder / "try" / "tokens")
    model.fuse()
    held_out = evaluate_shards(
        model,
        Chat(),
        {"en": shards["en"]},
        sequence_length=TRAINING["sequence_length"],
        batch_size=TRAINING["micro_batch_size"],
        max_tokens=TRAINING["evaluation_tokens"],
        autocast=autocast_for(torch.device("cpu"), "bf16"),
    )
    return held_out["en"].nats_per_target


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
        axes.margins(x=0.2)  # room for the names
        axes.grid(alpha=0.3)
        if label == "trained weights":
            axes.set_xscale("log")
            axes.set_ylabel("gain, % of that of all weights")
    figure.savefig(file)


if __name__ == "__main__":
    main()
