"""Preferences of SmolLM2 after 15 minutes of LoRA (see `smollm2.py`): DPO on pairs made from the wiki.

An answer grounded in the passages is preferred to one with another value, without or with the wrong citation, to a
needless refusal and, where the passages do not tell, to a made-up value. Measured on pairs about articles that no pair
to train on is of: the margin, how much more likely (in nats, times beta) the better answer became than the worse one;
and on the held-out open-book questions: exact match, before and after.
"""

import shutil
import tempfile
from pathlib import Path

import torch

from common import arguments, report, result
from smollm2 import prepare, read, tuned_model
from wikigpt.train.machine import physical_cores
from wikigpt.train.tuning import PreferConfig
from wikigpt.tune import prefer


def main() -> None:
    """Prepare, ask, train, ask again, write."""
    options = arguments(__doc__, steps=30, rate=2e-4, work="")
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare(folder)
        tuned = tuned_model(folder)
        before = read(tuned, folder / "conversations")
        print(f"before: {before}", flush=True)
        work = folder / "prefer"
        shutil.rmtree(work, ignore_errors=True)
        # Twice the tokens a row, since a pair holds its question twice.
        settings = PreferConfig(
            steps=options.steps,
            batch_size=8,
            micro_batch_size=4,
            sequence_length=1024,
            learning_rate=options.rate,
            embedding_learning_rate=options.rate / 10,
            evaluate_every=10,
            samples=[],
        )
        facts = prefer(tuned, folder / "conversations", work, work / "model", settings=settings)
        after = read(work / "model", folder / "conversations")
        print(f"after: {after}; {facts['preference']}; {facts['dropped']}", flush=True)
    measures = facts["preference"]["en"]
    rows = [
        result(f"DPO, {options.steps} steps: {what}", [ours], [peer], peer_name=name, unit=unit)
        for what, ours, peer, name, unit in (
            ("margin on held-out pairs (target: above 0)", measures["margin"], 1.0, "one nat", "nats"),
            ("held-out pairs whose better answer gained", measures["accuracy"], 0.5, "by chance", "share"),
            ("grounded exact match (target: at least 0.99)", after.exact_match, before.exact_match, "before", "share"),
        )
    ]
    report(rows, options.json)


if __name__ == "__main__":
    main()
