"""Memory and time of a step of distillation and of preference tuning, against plain fine-tuning of the same student.

Each is `wikigpt.train.train` in a process of its own: a student of 6x256, teachers of the same shape and twice as
wide, 8 rows of 512 tokens of which two thirds are targets, vocabularies of 8,192 and 49,152 tokens. Memory is the
process's peak (`ru_maxrss`) above what it held before any model was made: all weights, the teacher's too, gradients
and optimizer states are in it.
"""

import copy
import statistics
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch

from common import arguments, in_fresh_process, report, result
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard
from wikigpt.train import Chat, Distill, HiddenStates, Prefer, TrainConfig, read_metrics, train
from wikigpt.train.objectives import Objective

BATCH, DOCUMENT = 8, 250
KINDS = "forward, same shape", "forward, twice as wide", "hidden, twice as wide", "prefer", "prefer, no reference"


def main() -> None:
    """Measure by turns, print, write."""
    options = arguments(__doc__, rounds=2, steps=5)
    rows = []
    for vocab in (8_192, 49_152):
        measured: dict[str, list[tuple[float, float]]] = {kind: [] for kind in (*KINDS, "plain")}
        for _ in range(options.rounds):
            for kind, rounds in measured.items():
                rounds.append(in_fresh_process(steps_of, kind, vocab, options.steps))
        for kind in KINDS:
            for i, (what, unit) in enumerate((("memory (target: at most 1.5)", "MB"), ("time", "s"))):
                name = f"step of {kind}, 6x256, vocab {vocab:,}, batch 8 x 512: {what}"
                ours, plain = ([figures[i] for figures in measured[k]] for k in (kind, "plain"))
                rows.append(result(name, ours, plain, peer_name="plain fine-tuning", unit=unit))
    report(rows, options.json)


def steps_of(kind: str, vocab: int, steps: int) -> tuple[float, float]:
    """Peak memory in MB above that at the start, and median seconds of a step, the first two left out."""
    import resource  # not on Windows

    random = np.random.default_rng(0)
    tokens = random.integers(1, vocab, 200_000).astype(np.uint16)
    offsets = np.arange(0, len(tokens) + 1, DOCUMENT).astype(np.uint64)
    mask = (np.arange(len(tokens)) % DOCUMENT > DOCUMENT // 3).astype(np.uint8)
    shard = Shard("train", tokens, offsets, mask, len(tokens) * 3)
    settings = TrainConfig(steps=steps + 2, batch_size=BATCH, compile="off", checkpoint_seconds=1e6)
    before = psutil.Process().memory_info().rss
    torch.manual_seed(0)
    student = _model(vocab, 256)
    with tempfile.TemporaryDirectory() as folder:
        train(student, _objective(kind, student, shard), {"train": shard}, settings, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        rates = [m["tokens_per_second"] for m in read_metrics(Path(folder) / "metrics.jsonl") if "loss" in m]
    seconds = BATCH * 512 / statistics.median(rates[2:])
    print(f"{kind}, vocab {vocab:,}: {(peak - before) / 1e6:,.0f} MB, {seconds:.2f} s", flush=True)
    return (peak - before) / 1e6, seconds


def _objective(kind: str, student: Transformer, shard: Shard) -> Objective:
    if kind == "plain":
        return Chat()
    if kind.startswith("prefer"):
        return Prefer(reference=None if "no reference" in kind else copy.deepcopy(student))
    teacher = _model(student.config.vocab_size, 512 if "wide" in kind else 256)
    hidden = None
    if kind.startswith("hidden"):
        hidden = HiddenStates.fitted(student, teacher, Chat().packer(shard, 512, 0).rows(0, 2))
    return Distill(teacher=teacher, temperature=2.0, hidden=hidden)


def _model(vocab: int, width: int) -> Transformer:
    return Transformer(ModelConfig(n_layers=6, d_model=width, n_heads=4, context_length=512, vocab_size=vocab))


if __name__ == "__main__":
    main()
