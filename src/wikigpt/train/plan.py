"""The time dial: the model and the number of tokens that make the most of the time and the memory there are.

Three things are put together: how fast this machine trains (`measure_speed`: real steps, some seconds), how much
memory a step takes (`Speed.memory`), and what a model of some size comes to after some tokens (`Law`, fitted to runs of
tools/scaling_grid.py). Of all shapes on one ladder the one with the lowest expected bits per byte is taken.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from wikigpt.artifacts import read_json
from wikigpt.errors import UserError
from wikigpt.model.config import ModelConfig
from wikigpt.train.config import TrainConfig

SCALING = Path(__file__).with_name("scaling.json")

HEAD_DIM = 64
MAX_HEADS = 32
# Stages after pretraining and fine-tuning (conversations, index, evaluation) took 10 % of the demo's time, those
# before (corpus, tokenizer, tokens) 1 %; where nothing is known of the wiki, a twentieth is kept for the latter.
SHARE_BEFORE, SHARE_AFTER = 0.05, 0.1
LEAST_STEPS = 50  # below, a run is hardly more than the warm-up of 30 steps
MANY_EPOCHS = 4  # up to there repeated text is nearly as good as new text (Muennighoff et al. 2023)

MEASURE_SECONDS = 5  # on a slow or busy machine the next wider shape is not tried after these

# Compiled steps over eager ones, 3 x 64 to 6 x 256 on one core: 1.9 to 2.6. The loop tries it where this much time
# is left, and spends so much on trying.
COMPILE_GAIN, COMPILE_FROM_SECONDS, COMPILE_SECONDS = 2.1, 100, 35

# Bytes of one training step, measured (peak of the process, 3 x 64 to 10 x 512, within 15 %; fused within 25 %): what
# runs before it, each weight with gradient and optimizer state, each token of a micro-batch for a layer's width and for
# the vocabulary.
BASE_BYTES, BYTES_PER_WEIGHT, BYTES_PER_WIDTH, BYTES_PER_LOGIT = 350e6, 16, 145, 14
FUSED_BYTES_PER_WIDTH = 30  # by the operators of `model.cpu`, which keep no logits either
MICRO_BATCH_TOKENS = {"cpu": 8_192, "cuda": 65_536}  # more at once gains nothing


def ladder(heads: int, **settings: Any) -> ModelConfig:
    """The shape with so many heads of 64 and two layers more than heads: 3 x 64, 4 x 128, 6 x 256, 10 x 512, …"""
    return ModelConfig(n_layers=heads + 2, d_model=HEAD_DIM * heads, n_heads=heads, **settings)


def batch_tokens(tokens: float) -> int:
    """Tokens a step for a run over `tokens`: the power of two next to 4 sqrt(tokens), within 2,048 and 524,288.

    What a gradient gains from a larger batch grows with about the root of the tokens (Bergsma et al. 2025).
    """
    return int(2 ** max(11, min(19, round(math.log2(4 * math.sqrt(max(1.0, tokens)))))))


def block_parameters(model: ModelConfig) -> int:
    """Weights without the embeddings, whose number says little of what a model can do (Kaplan et al. 2020)."""
    return model.n_parameters - model.vocab_size * model.d_model * (1 if model.tie_embeddings else 2)


@dataclass(frozen=True)
class Speed:
    """How fast a machine trains, eagerly: floating-point operations a second of whole steps, at some widths."""

    device: str
    flops_by_width: Mapping[int, float]
    compiles: bool
    fused: bool = False  # by the operators of `model.cpu`

    def tokens(self, model: ModelConfig, seconds: float, *, sequence_length: int) -> float:
        """Tokens that `model` is trained on in so many seconds, compiled where that pays."""
        widths = sorted(self.flops_by_width)
        flops = np.interp(math.log(model.d_model), np.log(widths), [math.log(self.flops_by_width[w]) for w in widths])
        eager = math.exp(flops) / model.flops_per_token(sequence_length)
        if self.compiles and seconds > COMPILE_FROM_SECONDS:
            return max(seconds, (seconds - COMPILE_SECONDS) * COMPILE_GAIN) * eager
        return seconds * eager

    def memory(self, model: ModelConfig, tokens: int) -> int:
        """Bytes that the process takes at most while it trains `model` on micro-batches of so many tokens."""
        return _step_memory(model, tokens, self.fused)


def _step_memory(model: ModelConfig, tokens: int, fused: bool) -> int:
    logits = 0 if fused else BYTES_PER_LOGIT * model.vocab_size
    per_token = (FUSED_BYTES_PER_WIDTH if fused else BYTES_PER_WIDTH) * model.n_layers * model.d_model + logits
    return round(BASE_BYTES + BYTES_PER_WEIGHT * model.n_parameters + per_token * tokens)


def measure_speed(model: ModelConfig, settings: TrainConfig, *, memory: float = math.inf) -> Speed:
    """Train up to three shapes of the family, vocabulary and context of `model` for a few steps each.

    Wider shapes than were tried are taken to run at the rate of the widest.

    Args:
        settings: whose precision, attention and compile are used.
        memory: shapes that would take more bytes than this are not tried, except the smallest.
    """
    from wikigpt.model import Transformer, cpu
    from wikigpt.tokens import Shard
    from wikigpt.train.loop import train
    from wikigpt.train.machine import measure_machine
    from wikigpt.train.objectives import CausalLM

    machine = measure_machine()
    on_cpu = machine.device == "cpu"
    fused = (
        on_cpu
        and settings.operators == "auto"
        and cpu.available()
        and all(Transformer(shape).can_fuse() for shape in _shapes(model, (1,)))
    )
    heads, rows = ((1, 3, 6), 4) if on_cpu else ((2, 8, 16), 32)
    length = settings.sequence_length or model.context_length
    rows = max(1, rows * 512 // length)
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, 3 * rows * length).astype(np.uint32)
    documents = np.arange(0, len(tokens) + 1, max(1, length // 2)).astype(np.uint64)
    shard = Shard("train", tokens, documents, None, len(tokens))
    trial = settings.model_copy(
        update={"minutes": None, "steps": 4, "batch_size": rows, "micro_batch_size": None, "compile": "off"}
    )
    flops: dict[int, float] = {}
    begin = time.perf_counter()
    for shape in _shapes(model, heads):
        if flops and (
            _step_memory(shape, rows * length, fused) > memory or time.perf_counter() - begin > MEASURE_SECONDS
        ):
            break
        with tempfile.TemporaryDirectory() as folder:
            result = train(Transformer(shape), CausalLM(), {"train": shard}, trial, Path(folder))
        flops[shape.d_model] = result.tokens_per_second * shape.flops_per_token(length)
    return Speed(machine.device, flops, machine.can_compile and settings.compile != "off" and not fused, fused)


@dataclass(frozen=True)
class Curve:
    """`bits_per_byte = E + A / N^alpha + B / D^alpha` of one language.

    The form of Hoffmann et al. 2022 with one exponent, which is to say that weights and tokens should grow in step: so
    they found it, and two exponents foretell points left out no better (docs/experiments.md).
    """

    E: float
    A: float
    B: float
    alpha: float
    bytes_per_token: float  # at 8,192 tokens


@dataclass(frozen=True)
class Law:
    """What training comes to, by language: N weights without embeddings, D tokens."""

    error: float  # mean absolute error in bits per byte of points left out of the fit
    most_tokens: int  # of any run that it was fitted to; beyond, it is a guess
    curves: Mapping[str, Curve]

    def bits_per_byte(self, weights: float, tokens: float, *, lang: str | None, unique: float | None = None) -> float:
        """Expected on held-out Wikipedia articles after one decayed run; the mean of the languages for None.

        Args:
            unique: tokens there are; seeing them again is worth less each time (Muennighoff et al. 2023, R* = 15).
        """
        if unique and tokens > unique:
            tokens = unique * (1 + 15 * (1 - math.exp(-(tokens / unique - 1) / 15)))
        curves = self.curves.values() if lang is None else [self.curves[like(lang)]]
        bits = [c.E + c.A / weights**c.alpha + c.B / tokens**c.alpha for c in curves]
        return sum(bits) / len(bits)


@cache
def fitted_law() -> Law:
    """The law of scaling.json."""
    stored = json.loads(SCALING.read_text(encoding="utf-8"))
    curves = {name: Curve(**curve) for name, curve in stored["fit"]["curves"].items()}
    return Law(stored["fit"]["error"], max(point["tokens"] for point in stored["points"]), curves)


def like(lang: str) -> str:
    """The measured language that one is closest to in bytes a character: Chinese or English."""
    return "zh" if lang.split("-")[0].lower() in ("zh", "yue", "wuu", "gan", "lzh", "ja", "ko") else "en"


@dataclass(frozen=True)
class Plan:
    """What to train in the time, and what to expect of it."""

    minutes: float
    model: ModelConfig
    pretrain_seconds: float
    finetune_seconds: float
    batch_size: int  # rows a step
    micro_batch_size: int
    sequence_length: int
    tokens: int
    tokens_per_second: int
    bits_per_byte: float
    memory_bytes: int
    epochs: float | None  # passes over the text; None where its size is not known
    runners_up: tuple[tuple[str, float], ...]  # the next smaller and larger shape, and what is expected of them

    @property
    def steps(self) -> int:
        """Optimizer steps of pretraining that are expected."""
        return self.tokens // (self.batch_size * self.sequence_length)

    @property
    def shape(self) -> str:
        """Layers x width."""
        return _name(self.model)

    def settings(self, finetune_batch_size: int) -> dict[str, dict[str, Any]]:
        """What to set in a recipe, by section. Minutes and not steps, so that the time holds whatever happens."""
        model = {name: getattr(self.model, name) for name in ("n_layers", "d_model", "n_heads")}
        derived = dict.fromkeys(("n_kv_heads", "head_dim", "d_ff"))  # follow from the others
        micro = math.gcd(finetune_batch_size, self.micro_batch_size)
        return {
            "model": {**model, **derived},
            "pretrain": {
                "minutes": round(self.pretrain_seconds / 60, 2),
                "steps": None,
                "batch_size": self.batch_size,
                "micro_batch_size": self.micro_batch_size,
            },
            "finetune": {"minutes": round(self.finetune_seconds / 60, 2), "steps": None, "micro_batch_size": micro},
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-serialisable."""
        return {
            "minutes": self.minutes,
            "shape": self.shape,
            "parameters": self.model.n_parameters,
            "pretrain_minutes": round(self.pretrain_seconds / 60, 2),
            "finetune_minutes": round(self.finetune_seconds / 60, 2),
            "steps": self.steps,
            "batch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "sequence_length": self.sequence_length,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "bits_per_byte": round(self.bits_per_byte, 3),
            "memory_bytes": self.memory_bytes,
            "epochs": None if self.epochs is None else round(self.epochs, 2),
            "runners_up": {name: round(bits, 3) for name, bits in self.runners_up},
        }


def plan(
    minutes: float,
    speed: Speed,
    *,
    model: ModelConfig,
    pretrain: TrainConfig,
    memory: float,
    finetune_share: float = 2 / 7,
    lang: str | None = None,
    unique_tokens: int | None = None,
    spent_seconds: float | None = None,
    fixed_shape: bool = False,
) -> Plan:
    """The shape, batch and tokens with the lowest expected bits per byte.

    Args:
        minutes: for the whole build.
        model: its family (a causal one), vocabulary and context are kept.
        pretrain: its `sequence_length` is kept.
        memory: bytes that training may take.
        finetune_share: part of the training time that belongs to fine-tuning.
        unique_tokens: size of the training split, where known.
        spent_seconds: what corpus, tokenizer and tokens took; None: not known yet.
        fixed_shape: take `model` as it is.

    Raises:
        UserError: time or memory do not suffice for the smallest model.
    """
    check_minutes(minutes)
    law, length = fitted_law(), pretrain.sequence_length or model.context_length
    before = minutes * 60 * SHARE_BEFORE if spent_seconds is None else spent_seconds
    left = (minutes * 60 - before) * (1 - SHARE_AFTER)
    seconds, finetune_seconds = left * (1 - finetune_share), left * finetune_share
    candidates = [model] if fixed_shape else list(_shapes(model, range(1, MAX_HEADS + 1)))

    smallest = candidates[0]
    least_tokens = LEAST_STEPS * max(length, batch_tokens(0))
    if seconds <= 0 or speed.tokens(smallest, seconds, sequence_length=length) < least_tokens:
        rate = speed.tokens(smallest, 1, sequence_length=length)
        kept = (1 - SHARE_AFTER) * (1 - finetune_share) * (1 - SHARE_BEFORE * (spent_seconds is None))
        least = least_tokens / rate / 60 / kept + (spent_seconds or 0) / 60
        raise UserError(
            f"{minutes:g} minutes are too few: to train even {_name(smallest)} on this machine takes at least "
            f"{math.ceil(least * 10) / 10:g}{'' if spent_seconds is None else ', the corpus included'}."
        )
    if speed.memory(smallest, length) > memory:
        raise UserError(
            f"training {_name(smallest)} takes about {speed.memory(smallest, length) / 1e9:.1f} GB of memory, and "
            f"{memory / 1e9:.1f} GB are to be used; free some, or take a shorter model.context_length."
        )

    def expected(shape: ModelConfig) -> tuple[float, float]:
        tokens = speed.tokens(shape, seconds, sequence_length=length)
        return law.bits_per_byte(block_parameters(shape), tokens, lang=lang, unique=unique_tokens), tokens

    fitting = [
        shape for shape in candidates if speed.memory(shape, length) <= memory and expected(shape)[1] >= least_tokens
    ]
    bits = [expected(shape)[0] for shape in fitting]
    best = min(range(len(fitting)), key=bits.__getitem__)
    shape, tokens = fitting[best], expected(fitting[best])[1]
    rows = max(1, batch_tokens(tokens) // length)
    rows = 2 ** math.floor(math.log2(rows))
    micro = min(rows, 2 ** math.floor(math.log2(max(1, MICRO_BATCH_TOKENS.get(speed.device, 8_192) // length))))
    while micro > 1 and speed.memory(shape, micro * length) > memory:
        micro //= 2
    return Plan(
        minutes=minutes,
        model=shape,
        pretrain_seconds=seconds,
        finetune_seconds=finetune_seconds,
        batch_size=rows,
        micro_batch_size=micro,
        sequence_length=length,
        tokens=round(tokens),
        tokens_per_second=round(tokens / seconds),
        bits_per_byte=bits[best],
        memory_bytes=speed.memory(shape, micro * length),
        epochs=tokens / unique_tokens if unique_tokens else None,
        runners_up=tuple((_name(fitting[i]), bits[i]) for i in (best - 1, best + 1) if 0 <= i < len(fitting)),
    )


def check_minutes(minutes: float) -> None:
    """Refuse what is no time."""
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes {minutes:g}: give a number of minutes above 0.")


def free_memory() -> float:
    """Bytes that training may take: four fifths of what is free, on the device it runs on."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return 0.8 * torch.cuda.mem_get_info()[0]
    return 0.8 * float(psutil.virtual_memory().available)


def corpus_tokens(corpus: Path, lang: str | None) -> int:
    """About how many tokens a corpus folder will have, from its number of characters."""
    facts = read_json(corpus / "corpus.json")
    curves = fitted_law().curves
    languages = [like(lang)] if lang else [like(name) for name in facts["languages"]] or ["en"]
    per_character = [(3 if name == "zh" else 1) / curves[name].bytes_per_token for name in languages]
    return round(facts["characters"] * sum(per_character) / len(per_character))


def parse_memory(text: str) -> int:
    """Bytes of "4GB", "500 MB" or "2.5GiB".

    Raises:
        UserError: it is none of these.
    """
    try:
        return TypeAdapter(Annotated[ByteSize, Field(gt=0)]).validate_python(text.strip())
    except ValidationError as error:
        raise UserError(f"--memory {text!r}: write it as 4GB or 500MB.") from error


def _shapes(model: ModelConfig, heads: Iterator[int] | range | tuple[int, ...]) -> Iterator[ModelConfig]:
    """The ladder in the family, vocabulary and context of `model`."""
    kept = ("family", "vocab_size", "context_length", "rope_theta", "tie_embeddings")
    settings = {name: getattr(model, name) for name in kept}
    return (ladder(h, **settings) for h in heads)


def _name(model: ModelConfig) -> str:
    return f"{model.n_layers} x {model.d_model}"
