"""What our training is compared with: a GPT-2 trained as nanoGPT does it, and Hugging Face's Trainer.

The first is what a user writes after reading a tutorial (karpathy/nanoGPT's `model.py` and `train.py`): learned
positions, LayerNorm, GELU, biases, fused QKV, SDPA, tied head; AdamW, clipping, warm-up and cosine; rows cropped
at random from one long stream of tokens.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model import ModelConfig

WARMUP = 0.05  # share of the run
LOWEST_RATE = 0.1  # of the highest


class GPT2Block(nn.Module):
    """A block of Radford et al. 2019."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.n_heads = config.d_model, config.n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(self.ln_1(x)).view(batch, tokens, 3, self.n_heads, width // self.n_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """GPT-2 with a tied head, in the shape of `config` whatever its family, initialised as in nanoGPT.

    `forward` returns the mean loss in nats over the targets (int64 `[batch, tokens]`; -100: none).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.context = config.context_length
        self.wte = nn.Embedding(config.vocab_size, config.d_model)
        self.wpe = nn.Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.d_model)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * config.n_layers) if residual else 1))

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train_gpt2(
    model: GPT2,
    tokens: np.ndarray,
    *,
    batch_size: int,
    learning_rate: float,
    done: Callable[[int], float],
    forward: Callable[[Tensor, Tensor], Tensor] | None = None,
    bf16: bool = False,
) -> list[float]:
    """nanoGPT's loop: train `model` in place on crops of `tokens`; returns each step's seconds.

    Args:
        done: which share of the run is over after so many steps; it decides the learning rate and, at 1, the end.
        forward: the compiled model, where it is.
        bf16: under autocast, else all in fp32 (which is what nanoGPT does on CPUs).
    """
    forward = model if forward is None else forward
    device = model.wte.weight.device
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.95),
        fused=device.type == "cuda",
    )
    rng = np.random.default_rng(0)
    seconds: list[float] = []
    while (share := done(len(seconds))) < 1:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate_factor(share)
        starts = rng.integers(0, len(tokens) - model.context - 1, batch_size)
        rows = np.stack([tokens[i : i + model.context + 1] for i in starts]).astype(np.int64)
        ids = torch.from_numpy(rows).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = forward(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - begin)
    return seconds


def rate_factor(share: float) -> float:
    """Linear warm-up from a tenth, then a cosine down to a tenth."""
    if share < WARMUP:
        return LOWEST_RATE + (1 - LOWEST_RATE) * share / WARMUP
    falling = (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP))) / 2
    return LOWEST_RATE + (1 - LOWEST_RATE) * falling


def huggingface_trainer(
    config: ModelConfig, tokens: np.ndarray, batch_size: int, steps: int, bf16: bool, compiled: bool
) -> list[float]:
    """Seconds of each step but the first of `transformers.Trainer` with GPT-2 in that shape, rows held in memory.

    To be called in a fresh process: it keeps settings in environment variables and global state.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()  # of token ids of GPT-2's own vocabulary

    class Clock(TrainerCallback):
        ends: list[float] = []  # noqa: RUF012 (one instance)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    rows = torch.from_numpy(tokens[: len(tokens) // config.context_length * config.context_length].astype(np.int64))
    data = [{"input_ids": row, "labels": row} for row in rows.view(-1, config.context_length)]
    # Without its dropout: none of the others has any, and it costs time.
    network = GPT2LMHeadModel(
        GPT2Config(
            n_layer=config.n_layers,
            n_embd=config.d_model,
            n_head=config.n_heads,
            n_positions=config.context_length,
            vocab_size=config.vocab_size,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    settings = TrainingArguments(
        use_cpu=True,
        bf16=bf16,
        torch_compile=compiled,
        per_device_train_batch_size=batch_size,
        max_steps=steps,
        learning_rate=1e-3,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(network, settings, train_dataset=data, callbacks=[Clock()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return np.diff(Clock.ends).tolist()
