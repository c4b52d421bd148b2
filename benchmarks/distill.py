"""A small student with and without a teacher: held-out loss and grounded exact match, of several seeds each.

The teacher is SmolLM2-135M-Instruct after 15 minutes of LoRA on conversations of a wiki (see `smollm2.py`). The student
is SmolLM2 as it was without a fifth of its blocks: those without which the loss on the conversations' text rises least,
taken out one by one. Both variants learn from the same conversations in the same order for the same number of steps.

The questions are more than the 112 of `smollm2.py`, on which one more right answer weighs a whole percent: those about
the held-out articles of a corpus four times as large, of which the first quarter is the one that is learned from.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from common import arguments, report, result
from smollm2 import ARTICLES, TRAINING, Reading, prepare, prepare_conversations, read, tuned_model
from wikigpt.model import load_model, save_model
from wikigpt.train import TrainConfig
from wikigpt.train.machine import physical_cores
from wikigpt.train.tuning import DistillConfig
from wikigpt.tune import distill, finetune

TAKEN_OUT = (3, 4, 5, 16, 17, 18)
QUESTIONS = {"grounded": 500, "unanswerable": 60}  # at most


def main() -> None:
    """Prepare, train by turns, ask, write."""
    options = arguments(__doc__, seeds=3, steps=60, work="")
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare(folder)
        prepare_conversations(folder / "more", 4 * ARTICLES, validation_conversations=10_000)
        teacher = tuned_model(folder)
        print(f"teacher: {read(teacher, folder / 'more' / 'conversations', **QUESTIONS)}", flush=True)
        student = shortened(folder / "base", folder / "student", TAKEN_OUT)
        found: dict[bool, list[tuple[float, Reading]]] = {True: [], False: []}
        for seed in range(options.seeds):
            for taught, outcomes in found.items():
                outcomes.append(learn(folder, student, teacher if taught else None, options.steps, seed))
                print(f"seed {seed}, {'with' if taught else 'without'} teacher: {outcomes[-1]}", flush=True)
    name = f"SmolLM2 without {len(TAKEN_OUT)} of its 30 blocks, {options.steps} steps"
    n = found[True][0][1].n
    rows = [
        result(
            f"{name}: {what}",
            [figure(outcome) for outcome in found[True]],
            [max(figure(outcome), 1e-3) for outcome in found[False]],
            peer_name="without the teacher",
            unit=unit,
        )
        for what, unit, figure in (
            ("held-out loss (target: below 1 in 3 of 3 seeds)", "nats", lambda outcome: outcome[0]),
            (f"grounded exact match, {n} questions (target: above 1 in 3 of 3)", "share", lambda o: o[1].exact_match),
        )
    ]
    report(rows, options.json)


def shortened(base: Path, output: Path, taken_out: Sequence[int]) -> Path:
    """Write the model without some of its blocks."""
    model = load_model(base)
    model.model.layers = torch.nn.ModuleList(b for i, b in enumerate(model.model.layers) if i not in taken_out)
    model.config = model.config.model_copy(update={"n_layers": len(model.model.layers)})
    shutil.rmtree(output, ignore_errors=True)
    save_model(model, output, tokenizer=base)
    return output


def learn(folder: Path, student: Path, teacher: Path | None, steps: int, seed: int) -> tuple[float, Reading]:
    """Train the student from where it begins; its held-out loss, and how it reads.

    What was found is kept in the folder: a measurement that was stopped goes on with the next one.
    """
    work = folder / "distill"
    kept = folder / f"distilled-{seed}-{'with' if teacher else 'without'}-{steps}.json"
    if kept.exists():
        loss, reading = json.loads(kept.read_text())
        return loss, Reading(**reading)
    shutil.rmtree(work, ignore_errors=True)
    inputs = (student, folder / "conversations", work, work / "model")
    if teacher:
        facts = distill(str(teacher), *inputs, settings=DistillConfig(steps=steps, **TRAINING), seed=seed)
    else:
        facts = finetune(*inputs, settings=TrainConfig(steps=steps, **TRAINING), seed=seed)
    outcome = facts["held_out_loss"]["en"], read(work / "model", folder / "more" / "conversations", **QUESTIONS)
    kept.write_text(json.dumps([outcome[0], asdict(outcome[1])]))
    return outcome


if __name__ == "__main__":
    main()
