"""When does a small model begin to copy from its context? Settings compared on exercises without any text.

    python tools/emergence.py --task copy learning_rate=0.003,0.01 layers=2,4

trains one model from noise for each combination of the values and prints after how many steps and tokens it got half
and nineteen twentieths of the copied tokens right. Two exercises, of tokens drawn at random, so nothing can be known
by heart:

| task | a row of tokens |
|---|---|
| copy | a segment of 4 to `segment` tokens, again and again |
| recall | up to `segment` / 2 pairs of key and value, then the same in another order: each key tells its value |

Copying by content is what induction heads do (Olsson et al. 2022, arXiv:2209.11895), recall is MQAR (Arora et al. 2024,
arXiv:2312.04927). Both come suddenly, and what makes them come is what makes reading come (docs/experiments.md).
"""

import argparse
import itertools
import time
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from wikigpt.model import ModelConfig, Transformer
from wikigpt.model.induction import set_induction_heads
from wikigpt.train import TrainConfig
from wikigpt.train.machine import physical_cores
from wikigpt.train.optimizers import fuse_muon, make_optimizers, set_learning_rate

DEFAULTS: dict[str, Any] = {
    "optimizer": "muon",  # or "adamw", with learning_rate for all weights
    "learning_rate": 0.003,
    "embedding_learning_rate": 0.01,
    "batch_size": 16,
    "length": 256,
    "segment": 64,
    "vocab_size": 512,
    "layers": 2,
    "width": 128,
    "heads": 2,
    "gain": 1.0,  # of QK-norm at first: the larger, the sharper attention
    "theta": 10_000.0,
    "induction": False,  # begin with the heads of `wikigpt.model.induction`
    "seed": 0,
}
REPORTED = 50  # steps whose copied tokens are counted together


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE,VALUE")
    parser.add_argument("--task", choices=("copy", "recall"), default="copy")
    parser.add_argument("--steps", type=int, default=2000, help="at most")
    parser.add_argument("--seconds", type=float, default=120, help="at most, for each model")
    options = parser.parse_args()
    torch.set_num_threads(physical_cores())
    grid = {
        name: tomllib.loads(f"v = [{values}]")["v"] for name, _, values in (s.partition("=") for s in options.settings)
    }
    if unknown := grid.keys() - DEFAULTS.keys():
        parser.error(f"no setting {unknown.pop()}; there are {', '.join(DEFAULTS)}")
    print("| " + " | ".join([*grid, "half right at", "95 % right at", "at the end", "tokens/s"]) + " |")
    print("|---" * (len(grid) + 4) + "|")
    for values in itertools.product(*grid.values()):
        settings = {**DEFAULTS, **dict(zip(grid, values, strict=True))}
        per_step = settings["batch_size"] * settings["length"]
        begin, curve = time.perf_counter(), []
        for share in learn(settings, options.task, options.steps):
            curve.append(share)
            seconds = time.perf_counter() - begin
            if share > 0.95 or seconds > options.seconds:
                break
        speed = len(curve) * REPORTED * per_step / seconds
        reached = [_reached(curve, share, per_step) for share in (0.5, 0.95)]
        cells = [*values, *reached, f"{curve[-1]:.2f}", f"{speed:,.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def learn(settings: dict[str, Any], task: str, steps: int) -> Iterator[float]:
    """Train from noise; yield the share of copied tokens got right, every `REPORTED` steps."""
    torch.manual_seed(settings["seed"])
    rng = np.random.default_rng(settings["seed"])
    shape = {"n_layers": settings["layers"], "d_model": settings["width"], "n_heads": settings["heads"]}
    model = Transformer(
        ModelConfig(
            vocab_size=settings["vocab_size"],
            context_length=settings["length"],
            rope_theta=settings["theta"],
            **shape,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(parameter, settings["gain"])
    if settings["induction"]:
        set_induction_heads(model)
    if settings["optimizer"] == "adamw":
        rate = settings["learning_rate"]
        optimizers: list[Any] = [torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)]
        optimizers[0].param_groups[0]["initial_lr"] = rate
    else:
        rates = {name: settings[name] for name in ("learning_rate", "embedding_learning_rate")}
        optimizers = make_optimizers(model, TrainConfig(steps=steps, minutes=None, **rates))
        fuse_muon(optimizers, True)
    model.fuse(model.can_fuse())
    rows = copies if task == "copy" else recalls
    right = asked = 0
    for step in range(1, steps + 1):
        ids, wanted = map(torch.from_numpy, rows(settings, rng))
        set_learning_rate(optimizers, min(1.0, step / 50))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1])
        targets, wanted = ids[:, 1:], wanted[:, 1:]
        F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        right += int(((logits.argmax(-1) == targets) & wanted).sum())
        asked += int(wanted.sum())
        if step % REPORTED == 0:
            yield right / max(1, asked)
            right = asked = 0


def copies(settings: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one segment repeated, and which of their tokens can be told from what went before."""
    ids = np.zeros((settings["batch_size"], settings["length"] + 1), np.int64)
    wanted = np.zeros_like(ids, bool)
    for row, marks in zip(ids, wanted, strict=True):
        size = int(rng.integers(4, settings["segment"] + 1))
        row[:] = np.resize(rng.integers(0, settings["vocab_size"], size), len(row))
        marks[size:] = np.arange(size, len(row)) % size > 1  # the first is a surprise, the second stands after one
    return ids, wanted


def recalls(settings: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pairs, then the same in another order, and which of their tokens are values that were told."""
    half, length = settings["vocab_size"] // 2, settings["length"] + 1
    ids = np.zeros((settings["batch_size"], length), np.int64)
    wanted = np.zeros_like(ids, bool)
    for row, marks in zip(ids, wanted, strict=True):
        at = 0
        while at < length:
            n = int(rng.integers(2, settings["segment"] // 2 + 1))
            pairs = np.stack([rng.choice(half, n, replace=False), rng.integers(half, 2 * half, n)], 1)
            said = np.concatenate([pairs, rng.permutation(pairs)]).ravel()
            fits = min(len(said), length - at)
            row[at : at + fits] = said[:fits]
            marks[at + 2 * n + 1 : at + fits : 2] = True
            at += fits
    return ids, wanted


def _reached(curve: list[float], share: float, per_step: int) -> str:
    at = next((number for number, found in enumerate(curve, 1) if found >= share), None)
    return "–" if at is None else f"{at * REPORTED} steps, {at * REPORTED * per_step / 1e6:.1f} M"


if __name__ == "__main__":
    main()
