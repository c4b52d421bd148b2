"""The one training loop."""

import contextlib
import dataclasses
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from wikigpt.artifacts import fingerprint, only_writer, write_atomic
from wikigpt.errors import UserError
from wikigpt.model import FAMILIES, Transformer, cpu_attention
from wikigpt.tokens import Shard
from wikigpt.train.checkpoint import TrainState, restore_newest, save_checkpoint
from wikigpt.train.config import TrainConfig
from wikigpt.train.evaluation import HeldOut, autocast_for, evaluate_shards
from wikigpt.train.machine import Machine, measure_machine, physical_cores
from wikigpt.train.metrics import read_metrics
from wikigpt.train.objectives import Objective
from wikigpt.train.optimizers import learning_rate_factor, make_optimizers, set_learning_rate

Progress = Callable[[int, int, str], None]
MAX_SKIPPED_IN_A_ROW = 5
COMPILE_PAYS_AFTER_SECONDS = 100  # compiling a block and the loss takes about 30 s on two cores


class TrainingError(RuntimeError):
    """Training cannot go on, through no mistake of the user's input."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    state: TrainState
    held_out: dict[str, HeldOut]  # by split
    tokens_per_second: float
    mfu: float  # share of the machine's measured matrix peak


def train(
    model: Transformer,
    objective: Objective,
    shards: Mapping[str, Shard],
    config: TrainConfig,
    folder: Path,
    *,
    seed: int = 0,
    origin: str = "",
    progress: Progress | None = None,
) -> TrainResult:
    """Train `model` in place on the shard named "train"; the others are evaluated on.

    Writes `folder/checkpoints/step-N` and `folder/metrics.jsonl`. Called again after an interruption, it
    goes on from the newest valid checkpoint, bit for bit as if nothing had happened. On SIGTERM and
    Ctrl-C a checkpoint is written before `KeyboardInterrupt` is raised.

    Args:
        origin: what the data and the first weights are, such as their checksums. A checkpoint that other
            settings, another seed or another origin led to is not resumed from.

    Raises:
        UserError: too little data, or impossible settings.
        TrainingError: the loss stays NaN or infinite.
    """
    if "train" not in shards:
        raise UserError("there is nothing to train on: the token folder has no 'train' split.")
    with only_writer(folder):
        return _Run(model, objective, shards, config, folder, seed, origin, progress).run()


class _Run:
    """State of one call of `train`, so that its steps can be methods that read one after the other."""

    def __init__(
        self,
        model: Transformer,
        objective: Objective,
        shards: Mapping[str, Shard],
        config: TrainConfig,
        folder: Path,
        seed: int,
        origin: str,
        progress: Progress | None,
    ):
        self.config, self.folder, self.progress = config, folder, progress
        self.machine: Machine = measure_machine()
        self.device = torch.device(self.machine.device)
        if self.device.type == "cpu":
            torch.set_num_threads(physical_cores())
        self.model = model.to(self.device).train()
        self.objective = objective
        if FAMILIES[model.config.family].causal != objective.is_likelihood:
            raise UserError(f"a {model.config.family} model cannot be trained with the objective {objective.name}.")
        self.sequence_length = config.sequence_length or model.config.context_length
        if self.sequence_length > model.config.context_length:
            raise UserError(
                f"sequence_length={self.sequence_length} is longer than the model's context "
                f"({model.config.context_length})."
            )
        self._check_data(shards)
        self.packer = objective.packer(shards["train"], self.sequence_length, seed)
        self.held_out = {name: shard for name, shard in shards.items() if name != "train"}
        self.optimizers = make_optimizers(model, config)
        # What decides the losses; how often to look and what to keep do not.
        settings = config.model_dump(
            exclude={
                "evaluate_every",
                "evaluation_tokens",
                "checkpoint_seconds",
                "keep_checkpoints",
                "compile",
            }
        )
        data = [(name, len(shard.tokens), shard.n_documents) for name, shard in sorted(shards.items())]
        self.run_id = fingerprint(model.config.model_dump(), objective.name, settings, data, seed, origin)
        self.state = TrainState()
        self.stop_requested = False
        self.step_seconds: list[float] = []
        self.evaluated: tuple[int, dict[str, HeldOut]] | None = None  # at which step, with what outcome

    def _check_data(self, shards: Mapping[str, Shard]) -> None:
        vocab_size = self.model.config.vocab_size
        for name, shard in shards.items():
            highest = max(int(shard.tokens[i : i + 10**6].max()) for i in range(0, len(shard.tokens), 10**6))
            if highest >= vocab_size:
                raise UserError(
                    f"split {name!r} holds token {highest}, but the model knows only {vocab_size} tokens; "
                    "encode the text with this model's tokenizer."
                )
        n_tokens = len(shards["train"].tokens)
        if n_tokens < 2 * self.sequence_length:
            raise UserError(
                f"there are only {n_tokens} tokens to train on, fewer than two sequences of "
                f"{self.sequence_length}; give more text or a smaller model.context_length."
            )

    def run(self) -> TrainResult:
        restored, problems = restore_newest(self.folder / "checkpoints", self.model, self.optimizers, run=self.run_id)
        for problem in problems:
            self._say(f"checkpoint passed over: {problem}")
        if restored:
            self.state = restored
        if self.state.precision is None:
            chosen = self.machine.precision if self.config.precision == "auto" else self.config.precision
            self.state.precision = chosen
        self._trim_metrics()
        if self.config.steps is not None:
            self.state.total_steps = self.config.steps
            self.state.decay_start = round(self.config.steps * (1 - self.config.decay_fraction))
        with self._signals():
            self._loop()
        held_out = self._evaluate()
        # A run that was complete already took no step now: then the average over all its time has to do.
        seconds = statistics.median(self.step_seconds or [self.state.seconds / max(1, self.state.step)])
        rate = self.config.batch_size * self.sequence_length / seconds
        return TrainResult(
            self.state,
            held_out,
            rate,
            rate * self._flops_per_token / self._peak,
        )

    def _loop(self) -> None:
        started = time.perf_counter() - self.state.seconds
        self._choose_speed()
        last_checkpoint = time.perf_counter()
        skipped_in_a_row = 0
        while self.state.total_steps is None or self.state.step < self.state.total_steps:
            begin = time.perf_counter()
            loss, grad_norm = self._step()
            if math.isfinite(loss) and math.isfinite(grad_norm):
                skipped_in_a_row = 0
            else:
                skipped_in_a_row += 1
                self.state.skipped_steps += 1
                if skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                    raise TrainingError(
                        f"the loss was not finite {MAX_SKIPPED_IN_A_ROW} steps in a row (step "
                        f'{self.state.step}); lower the learning rates or set precision = "fp32".'
                    )
            self.state.step += 1
            self.state.tokens += self.config.batch_size * self.sequence_length
            now = time.perf_counter()
            self.step_seconds.append(now - begin)
            self.state.seconds = now - started
            self._plan_end()
            self._report(loss, grad_norm)
            if self.state.step % self.config.evaluate_every == 0:
                self._evaluate()
            if self.stop_requested or now - last_checkpoint > self.config.checkpoint_seconds:
                self._checkpoint()
                last_checkpoint = time.perf_counter()
            if self.stop_requested:
                raise KeyboardInterrupt
        if self.step_seconds:
            self._checkpoint()

    def _step(self) -> tuple[float, float]:
        """One optimizer step; returns mean loss in nats per target and the gradient's norm."""
        config, step = self.config, self.state.step
        factor = learning_rate_factor(step, config.warmup_steps, self.state.decay_start, self.state.total_steps)
        set_learning_rate(self.optimizers, factor)
        batch = self.packer.rows(step * config.batch_size, config.batch_size)
        n_targets = max(1, batch.n_targets)
        total = torch.zeros((), device=self.device)
        for part in batch.split(config.micro_batch):
            with self._autocast():
                loss = self.objective.loss(self.model, part.to(self.device)) / n_targets
            loss.backward()
            total += loss.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        loss_value, norm_value = total.item(), grad_norm.item()
        for optimizer in self.optimizers:
            if math.isfinite(loss_value) and math.isfinite(norm_value):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss_value, norm_value

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return autocast_for(self.device, self.state.precision)

    def _choose_speed(self) -> None:
        """Compile where asked for, or where a few timed steps without and with it say that it pays.

        The timed passes do not touch weights or data position, so a run's losses do not depend on them.
        """
        if self.state.fused_attention is None:
            self.state.fused_attention = self.config.attention == "auto" and self._can_fuse()
        elif self.state.fused_attention and not self._can_fuse():
            self._say(f"{cpu_attention.unavailable_because()}: the losses will differ in their last digits")
            self.state.fused_attention = False
        self.model.fuse_attention(self.state.fused_attention)
        if self.state.compiled is None:
            self.state.compiled = self._compile_pays()
        elif self.state.compiled:
            self.objective = self.objective.compiled(self.model)

    def _can_fuse(self) -> bool:
        causal = FAMILIES[self.model.config.family].causal
        return causal and self.device.type == "cpu" and cpu_attention.available()

    def _compile_pays(self) -> bool:
        setting = self.config.compile
        if setting == "off" or not self.machine.can_compile:
            return False
        if setting == "auto" and self._seconds_left() < COMPILE_PAYS_AFTER_SECONDS:
            return False
        plain = self._time_passes() if setting == "auto" else float("inf")
        self._say("compiling the model (once, about half a minute)")
        objective = self.objective
        pays = False
        try:
            self.objective = objective.compiled(self.model)
            pays = self._time_passes() < plain
        except Exception as error:
            if setting == "on":
                raise TrainingError(f"torch.compile failed: {error}") from error
            self._say("torch.compile does not work here; going on without it")
        if not pays:
            self.objective = objective.plain(self.model)
        return pays

    def _seconds_left(self) -> float:
        if self.config.minutes is not None:
            return self.config.minutes * 60 - self.state.seconds
        steps = (self.config.steps or 0) - self.state.step
        return steps * self._time_passes(1)

    def _time_passes(self, repetitions: int = 3) -> float:
        """Seconds of the fastest forward and backward pass of a micro-batch, after one to warm up."""
        batch = self.packer.rows(0, self.config.micro_batch).to(self.device)
        best = float("inf")
        for _ in range(repetitions + 1):
            begin = time.perf_counter()
            with self._autocast():
                loss = self.objective.loss(self.model, batch)
            loss.backward()
            loss.item()
            best = min(best, time.perf_counter() - begin)
        self.model.zero_grad(set_to_none=True)
        return best * self.config.batch_size / self.config.micro_batch

    def _plan_end(self) -> None:
        """In a run limited by time: fix the last step when the stable phase's time is over.

        Should the machine then slow down, the end comes nearer, so that the limit holds all the same.
        """
        if self.config.minutes is None:
            return
        state, budget = self.state, self.config.minutes * 60
        left = budget - state.seconds
        if state.total_steps is None and left > budget * self.config.decay_fraction:
            return
        recent = self.step_seconds[-20:]
        end = state.step + max(0, round(left / (sum(recent) / len(recent))))
        if state.total_steps is None:
            state.decay_start, state.total_steps = state.step, max(end, state.step + 1)
        else:
            state.total_steps = min(state.total_steps, max(end, state.step))

    def _evaluate(self) -> dict[str, HeldOut]:
        if self.evaluated and self.evaluated[0] == self.state.step:
            return self.evaluated[1]
        held_out = evaluate_shards(
            self.model,
            self.objective,
            self.held_out,
            sequence_length=self.sequence_length,
            batch_size=self.config.micro_batch,
            max_tokens=self.config.evaluation_tokens,
            autocast=self._autocast(),
        )
        if held_out:
            self._log(
                {
                    "step": self.state.step,
                    "held_out_loss": {name: h.nats_per_target for name, h in held_out.items()},
                    "bits_per_byte": {n: h.bits_per_byte for n, h in held_out.items() if h.bits_per_byte is not None},
                }
            )
        self.evaluated = (self.state.step, held_out)
        return held_out

    def _report(self, loss: float, grad_norm: float) -> None:
        state = self.state
        rate = self.config.batch_size * self.sequence_length / self.step_seconds[-1]
        self._log(
            {
                "step": state.step,
                "loss": loss,
                "grad_norm": grad_norm,
                "learning_rate": self.optimizers[0].param_groups[0]["lr"],
                "tokens": state.tokens,
                "tokens_per_second": rate,
                "seconds": state.seconds,
            }
        )
        if self.progress:
            if state.total_steps is not None:
                done, total = state.step, state.total_steps
            else:
                assert self.config.minutes is not None
                done, total = int(state.seconds), int(self.config.minutes * 60)
            mfu = rate * self._flops_per_token / self._peak
            self.progress(done, total, f"step {state.step}  loss {loss:.3f}  {rate:,.0f} tokens/s  MFU {mfu:.0%}")

    @property
    def _flops_per_token(self) -> int:
        return self.model.config.flops_per_token(self.sequence_length, self.objective.predicted)

    @property
    def _peak(self) -> float:
        return self.machine.peak(self.state.precision or "fp32")

    def _say(self, message: str) -> None:
        self._log({"step": self.state.step, "message": message})
        if self.progress:
            self.progress(0, 0, message)

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _trim_metrics(self) -> None:
        """Drop what was logged after the checkpoint that the run goes on from."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            kept = [entry for entry in read_metrics(path) if entry["step"] <= self.state.step]
            write_atomic(path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def _checkpoint(self) -> None:
        save_checkpoint(
            self.folder / "checkpoints",
            self.model,
            self.optimizers,
            dataclasses.replace(self.state),
            run=self.run_id,
            keep=self.config.keep_checkpoints,
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGTERM and the first Ctrl-C into a request to stop after this step."""

        def request_stop(number: int, frame: FrameType | None) -> None:
            if self.stop_requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop_requested = True
            self._say("stopping after this step and saving a checkpoint")

        try:
            previous = {s: signal.signal(s, request_stop) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not in the main thread: whoever runs us deals with signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
