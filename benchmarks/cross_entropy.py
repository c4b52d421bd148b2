"""Memory and time of a training step with GPT-2's vocabulary, by how the cross-entropy is computed.

All are `wikigpt.train.train`, each in a process of its own, with 50,257 tokens, 6x256 and 8 rows of 512. Plain, the
logits of all positions stand in memory at once, as do their gradients: 0.8 GB each in fp32. Against that stand what
training takes of its own accord ("auto": on CPUs a fused operator) and "chunked". Memory is the process's peak
(`ru_maxrss`) above what it held before training began, so gradients and optimizer states are in it. Compiled as well
as not; what the compiler itself takes is in the figures of all.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch

from common import arguments, in_fresh_process, report, result
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard
from wikigpt.train import CausalLM, TrainConfig, read_metrics, train

CONFIG = ModelConfig(n_layers=6, d_model=256, n_heads=4, context_length=512, vocab_size=50_257)
BATCH = 8
SHAPE = "vocab 50,257, 6x256, batch 8 x 512"
KINDS = "auto", "chunked", "plain"


def main() -> None:
    """Measure by turns, print, write."""
    options = arguments(__doc__, rounds=2, steps=5)
    rows = []
    for compile_ in ("off", "on"):
        measured: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind, rounds in measured.items():
                rounds.append(in_fresh_process(steps_of, kind, compile_, options.steps))
        for kind in KINDS[:-1]:
            for i, (what, unit, target) in enumerate((("memory", "MB", 0.4), ("time", "s", 1.0))):
                name = f"step with {kind} cross-entropy, {SHAPE}, compile {compile_}: {what} (target: at most {target})"
                ours, plain = ([figures[i] for figures in measured[k]] for k in (kind, KINDS[-1]))
                rows.append(result(name, ours, plain, peer_name="plain cross-entropy", unit=unit))
    report(rows, options.json)


def steps_of(kind: str, compile_: str, steps: int) -> tuple[float, float]:
    """Peak memory in MB above that at the start, and median seconds of a step, the first two left out."""
    import resource  # not on Windows

    tokens = np.random.default_rng(0).integers(1, CONFIG.vocab_size, 200_000).astype(np.uint16)
    offsets = np.arange(0, len(tokens) + 1, 250).astype(np.uint64)
    shard = Shard("train", tokens, offsets, None, len(tokens) * 3)
    settings = TrainConfig(
        steps=steps + 2, batch_size=BATCH, compile=compile_, cross_entropy=kind, checkpoint_seconds=1e6
    )
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        before = psutil.Process().memory_info().rss
        train(model, CausalLM(), {"train": shard}, settings, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        rates = [m["tokens_per_second"] for m in read_metrics(Path(folder) / "metrics.jsonl") if "loss" in m]
    seconds = BATCH * CONFIG.context_length / statistics.median(rates[2:])
    print(f"{kind}, compile {compile_}: {(peak - before) / 1e6:,.0f} MB, {seconds:.2f} s", flush=True)
    return (peak - before) / 1e6, seconds


if __name__ == "__main__":
    main()
