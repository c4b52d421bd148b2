"""Training throughput against a faithful GPT-2 loop in plain fp32 PyTorch, same shape, same batch.

The peer is what a user writes after reading a tutorial: learned positions, LayerNorm, GELU, biases, fused
QKV, SDPA, tied head, AdamW, gradient clipping; the better of eager and torch.compile. Ours is the real
loop, `wikigpt.train.train`, with its defaults, logging and packing with document masking included.
Rounds alternate, so that a busy machine slows both.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import arguments, report, result
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard
from wikigpt.train import CausalLM, TrainConfig, read_metrics, train
from wikigpt.train.machine import physical_cores

N_LAYERS, D_MODEL, N_HEADS, CONTEXT, VOCAB, BATCH = 6, 256, 4, 512, 8192, 8


class GPT2Block(nn.Module):
    """A block of Radford et al. 2019."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        self.qkv, self.out = nn.Linear(D_MODEL, 3 * D_MODEL), nn.Linear(D_MODEL, D_MODEL)
        self.up, self.down = nn.Linear(D_MODEL, 4 * D_MODEL), nn.Linear(4 * D_MODEL, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        heads = self.qkv(self.ln_1(x)).view(batch, tokens, 3, N_HEADS, D_MODEL // N_HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, D_MODEL))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """GPT-2 with a tied head; `forward` returns the mean loss."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, D_MODEL), nn.Embedding(CONTEXT, D_MODEL)
        self.blocks = nn.ModuleList(GPT2Block() for _ in range(N_LAYERS))
        self.ln_f = nn.LayerNorm(D_MODEL)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def peer_round(step: Callable[[Tensor, Tensor], Tensor], model: nn.Module, steps: int, tokens: np.ndarray) -> float:
    """Tokens per second of a nanoGPT-like loop: median over its steps, the first two left out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        starts = rng.integers(0, len(tokens) - CONTEXT - 1, BATCH)
        rows = torch.from_numpy(np.stack([tokens[i : i + CONTEXT + 1] for i in starts]).astype(np.int64))
        loss = step(rows[:, :-1], rows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - begin)
    return BATCH * CONTEXT / statistics.median(seconds[2:])


def our_round(shard: Shard, steps: int, folder: Path) -> float:
    """Tokens per second of our loop: median over its steps, the first two left out."""
    config = ModelConfig(vocab_size=VOCAB, n_layers=N_LAYERS, d_model=D_MODEL, n_heads=N_HEADS, context_length=CONTEXT)
    settings = TrainConfig(steps=steps + 2, batch_size=BATCH, compile="on", checkpoint_seconds=1e6)
    train(Transformer(config), CausalLM(), {"train": shard}, settings, folder)
    rates = [m["tokens_per_second"] for m in read_metrics(folder / "metrics.jsonl") if "loss" in m]
    return statistics.median(rates[2:])


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, rounds=3, steps=12)
    torch.set_num_threads(physical_cores())
    rng = np.random.default_rng(0)
    tokens = rng.zipf(1.3, 400_000).clip(1, VOCAB - 1).astype(np.uint16)
    offsets = np.arange(0, len(tokens) + 1, 250).astype(np.uint64)
    shard = Shard("train", tokens, offsets, None, len(tokens) * 3)
    eager, to_compile = GPT2(), GPT2()
    compiled = torch.compile(to_compile)
    peer_round(compiled, to_compile, 1, tokens)  # compiled before the clock runs
    ours, peers = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds):
            ours.append(our_round(shard, options.steps, Path(folder) / str(i)))
            plain = peer_round(eager, eager, options.steps, tokens)
            fused = peer_round(compiled, to_compile, options.steps, tokens)
            peers.append(max(plain, fused))
            print(
                f"round {i + 1}: ours {ours[-1]:,.0f}, eager {plain:,.0f}, compiled {fused:,.0f} tokens/s", flush=True
            )
    name = f"training, {N_LAYERS}x{D_MODEL}, {N_HEADS} heads, context {CONTEXT}, vocab {VOCAB}, batch {BATCH}"
    report(
        [result(name, ours, peers, peer_name="GPT-2 loop, fp32 PyTorch, best of eager/compiled", unit="tokens/s")],
        options.json,
    )


if __name__ == "__main__":
    main()
