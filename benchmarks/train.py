"""Training throughput against a faithful GPT-2 loop in plain PyTorch and Hugging Face's Trainer.

All train the same shape with the same batch; ours is the standard `qwen3` family (SwiGLU, QK-norm) in the real loop,
`wikigpt.train.train`, with its defaults: Muon, packing with document masking and logging included. The peers
(`peers.py`) train GPT-2 with AdamW: the plain loop in fp32, Trainer in fp32 and bf16, each eager and compiled. Rounds
alternate, so that a busy machine slows all; the first one tries every variant of the peers, the others the best one
of each. Rates are medians over the steps, the first two left out. With a GPU it is GPT-2's own shape with 124 M
weights, and the peer is nanoGPT's way there: compiled, bf16 autocast, fused AdamW.

Beside the peers stand two figures of our own: FLOP/s of the model (6 a weight and token, and attention; recomputing
would not count) as a share of the matrix peak that `wikigpt.train.machine` measures, and the optimizers' share of a
step.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from common import arguments, in_fresh_process, report, result
from peers import GPT2, huggingface_trainer, train_gpt2
from wikigpt.model import ModelConfig, Transformer, cpu
from wikigpt.tokens import Shard
from wikigpt.train import CausalLM, TrainConfig, read_metrics, train
from wikigpt.train.machine import matmul_gflops, physical_cores, pick_device

ON_CPU = ModelConfig(n_layers=6, d_model=256, n_heads=4, context_length=512, vocab_size=8192), 8
# GPT-2's 50,257 tokens, rounded up to a multiple of 64 as in nanoGPT: for both sides, odd matrices being slow.
ON_GPU = ModelConfig(n_layers=12, d_model=768, n_heads=12, context_length=1024, vocab_size=50304), 32


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, rounds=3, steps=6)
    torch.set_num_threads(physical_cores())
    device = pick_device()
    config, batch = ON_GPU if device.type == "cuda" else ON_CPU
    rng = np.random.default_rng(0)
    tokens = rng.zipf(1.3, 100 * batch * config.context_length).clip(1, config.vocab_size - 1).astype(np.uint16)
    plain = plain_loop(config, batch, options.steps, tokens, device)
    peers = [plain] if device.type == "cuda" else [plain, trainer(config, batch, options.steps, tokens)]
    ours: list[Round] = []
    peaks: list[float] = []
    rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds):
            peaks.append(matmul_gflops(device, torch.bfloat16))
            ours.append(our_round(config, batch, options.steps, tokens, Path(folder) / str(i)))
            print(f"round {i + 1}: bf16 peak {peaks[-1]:,.0f} GFLOP/s; ours {ours[-1].rate:,.0f} tokens/s", flush=True)
            for peer in peers:
                rates[peer.name].append(peer.round())
    report(results(config, batch, ours, peaks, rates), options.json)


@dataclass(frozen=True)
class Round:
    """What one round of ours came to."""

    rate: float  # tokens a second
    step_seconds: float
    optimizer_seconds: float  # of a step


def our_round(config: ModelConfig, batch: int, steps: int, tokens: np.ndarray, folder: Path) -> Round:
    """Train by our loop for `steps` steps after two that do not count."""
    offsets = np.arange(0, len(tokens) + 1, 250).astype(np.uint64)
    shard = Shard("train", tokens, offsets, None, len(tokens) * 3)
    # What a longer run would choose: so few steps are not worth compiling, and what is made of operators never is.
    compile_: Literal["auto", "on"] = "auto" if cpu.available() and not torch.cuda.is_available() else "on"
    settings = TrainConfig(steps=steps + 2, batch_size=batch, compile=compile_, checkpoint_seconds=1e6)
    clock: list[float] = []  # beginnings and ends of optimizer steps, by turns

    def note_time(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        clock.append(time.perf_counter())

    hooks = [register_optimizer_step_pre_hook(note_time), register_optimizer_step_post_hook(note_time)]
    try:
        train(Transformer(config), CausalLM(), {"train": shard}, settings, folder)
    finally:
        for hook in hooks:
            hook.remove()
    rates = [m["tokens_per_second"] for m in read_metrics(folder / "metrics.jsonl") if "loss" in m]
    in_steps = np.diff(clock)[::2].reshape(steps + 2, -1).sum(1)
    rate = statistics.median(rates[2:])
    return Round(rate, batch * config.context_length / rate, statistics.median(in_steps[2:].tolist()))


@dataclass
class Peer:
    """Ways to train the same; each gives tokens per second."""

    name: str
    variants: dict[str, Callable[[], float]]

    def round(self) -> float:
        """Measure all that are left; the best one is left over. One that fails is named and left out."""
        rates = {}
        for name, measure in self.variants.items():
            try:
                rates[name] = measure()
                print(f"  {self.name}, {name}: {rates[name]:,.0f} tokens/s", flush=True)
            except Exception as error:
                print(f"  {self.name}, {name}, left out: {type(error).__name__}: {error}", flush=True)
        if not rates:
            raise SystemExit(f"{self.name} cannot be run here (see above).")
        best = max(rates, key=lambda name: rates[name])
        self.variants = {best: self.variants[best]}
        return rates[best]


def plain_loop(config: ModelConfig, batch: int, steps: int, tokens: np.ndarray, device: torch.device) -> Peer:
    """nanoGPT's loop, which autocasts on GPUs only."""
    model = GPT2(config).to(device)
    bf16 = device.type == "cuda"

    def rate(forward: Callable[..., torch.Tensor]) -> float:
        seconds = train_gpt2(
            model,
            tokens,
            batch_size=batch,
            learning_rate=1e-3,
            done=lambda step: step / (steps + 2),
            forward=forward,
            bf16=bf16,
        )
        return batch * config.context_length / statistics.median(seconds[2:])

    compiled = partial(rate, torch.compile(model))
    if bf16:
        return Peer("GPT-2 loop, bf16 PyTorch, compiled", {"compiled": compiled})
    return Peer(
        "GPT-2 loop, fp32 PyTorch, best of eager/compiled", {"eager": partial(rate, model), "compiled": compiled}
    )


def trainer(config: ModelConfig, batch: int, steps: int, tokens: np.ndarray) -> Peer:
    """transformers.Trainer, each time in a process of its own."""

    def rate(bf16: bool, compiled: bool) -> float:
        seconds = in_fresh_process(huggingface_trainer, config, tokens, batch, steps + 2, bf16, compiled)
        return batch * config.context_length / statistics.median(seconds[1:])

    return Peer(
        "HF Trainer, GPT2Config, best of fp32/bf16, eager/compiled",
        {
            f"{'bf16' if bf16 else 'fp32'} {'compiled' if compiled else 'eager'}": partial(rate, bf16, compiled)
            for bf16 in (False, True)
            for compiled in (False, True)
        },
    )


def results(
    config: ModelConfig, batch: int, ours: list[Round], peaks: list[float], rates: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """A row for each peer, then the shares of the peak and of the optimizers."""
    shape = (
        f"{config.n_layers}x{config.d_model}, {config.n_heads} heads, context {config.context_length}, "
        f"vocab {config.vocab_size}, batch {batch}"
    )
    shape += f", {limit} at most" if (limit := os.environ.get("ONEDNN_MAX_CPU_ISA")) else ""
    on_gpu = torch.cuda.is_available()
    targets = [1.3] if on_gpu else [4, 5]
    rows = [
        result(f"training, {shape} (target: {target} x)", [r.rate for r in ours], peer, peer_name=name, unit="tokens/s")
        for target, (name, peer) in zip(targets, rates.items(), strict=True)
    ]
    flops = config.flops_per_token(config.context_length)
    name = f"training, {shape}: model FLOP/s (target: {'0.5' if on_gpu else '0.55'})"
    product = "8192x4096x4096" if on_gpu else "4096x256x1024"
    rows.append(
        result(name, [r.rate * flops / 1e9 for r in ours], peaks, peer_name=f"bf16 peak, {product}", unit="GFLOP/s")
    )
    name = f"training, {shape}: optimizers (target: at most 0.1)"
    in_optimizers, in_steps = [1000 * r.optimizer_seconds for r in ours], [1000 * r.step_seconds for r in ours]
    rows.append(result(name, in_optimizers, in_steps, peer_name="the whole step", unit="ms"))
    return rows


if __name__ == "__main__":
    main()
