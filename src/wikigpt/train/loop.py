"""The one training loop."""

import contextlib
import dataclasses
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer

from wikigpt.artifacts import fingerprint, only_writer
from wikigpt.errors import UserError
from wikigpt.model import FAMILIES, ModelConfig, Transformer, cpu
from wikigpt.tokens import Shard
from wikigpt.tokens.shards import EXERCISES
from wikigpt.train.batches import Batch, MixedRows, Packer, Rows
from wikigpt.train.checkpoint import TrainState, make_room, restore_newest, save_checkpoint
from wikigpt.train.config import TrainConfig
from wikigpt.train.distributed import World, joined, parallel, whole
from wikigpt.train.evaluation import HeldOut, autocast_for, evaluate_shards
from wikigpt.train.machine import Machine, measure_machine, physical_cores
from wikigpt.train.metrics import Progress, RunLog, about_run
from wikigpt.train.objectives import Objective, uncompile
from wikigpt.train.optimizers import fuse_muon, learning_rate_factor, make_optimizers, set_learning_rate
from wikigpt.train.samples import Sampler
from wikigpt.train.trouble import (
    MAX_ROLLBACKS,
    MAX_SKIPPED_IN_A_ROW,
    TrainingError,
    in_plain_words,
    is_out_of_memory,
)

T = TypeVar("T")
COMPILE_PAYS_AFTER_SECONDS = 100  # compiling a block and the loss takes about 30 s on two cores


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    state: TrainState
    held_out: dict[str, HeldOut]  # by split
    tokens_per_second: float
    mfu: float  # share of the machine's measured matrix peak

    def facts(self, model: ModelConfig) -> dict[str, Any]:
        """What is worth keeping of the run, for JSON."""
        state, held_out = self.state, self.held_out
        facts = {
            "parameters": model.n_parameters,
            "steps": state.step,
            "tokens": state.tokens,
            "skipped_steps": state.skipped_steps,
            "tokens_per_second": round(self.tokens_per_second),
            "mfu": round(self.mfu, 3),
            "precision": state.precision,
            "compiled": state.compiled,
            "held_out_loss": {name: round(h.nats_per_target, 4) for name, h in held_out.items()},
            "bits_per_byte": {n: round(h.bits_per_byte, 4) for n, h in held_out.items() if h.bits_per_byte is not None},
        }
        right = {name: h.measures["answers_right"] for name, h in held_out.items() if "answers_right" in h.measures}
        if right:
            facts["answers_right"] = {name: round(share, 4) for name, share in right.items()}
        if not FAMILIES[model.family].causal:
            facts["masked_perplexity"] = {name: round(h.perplexity, 2) for name, h in held_out.items()}
        return facts


def train(
    model: Transformer,
    objective: Objective,
    shards: Mapping[str, Shard],
    config: TrainConfig,
    folder: Path,
    *,
    seed: int = 0,
    origin: str = "",
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train `model` in place on the shard named "train"; the others are evaluated on.

    But for one named "exercises": its conversations, of which only the masked-in tokens are learned, are trained on as
    well, in `config.exercise_share` of the rows.

    Writes `folder/checkpoints/step-N` and what `RunLog` says. Called again after an interruption, it
    goes on from the newest valid checkpoint, bit for bit as if nothing had happened. On SIGTERM and
    Ctrl-C a checkpoint is written before `KeyboardInterrupt` is raised.

    Args:
        origin: what the data and the first weights are, such as their checksums. A checkpoint that other
            settings, another seed or another origin led to is not resumed from.
        tokenizer: the data's; with it, the model completes some prompts whenever it is evaluated.

    Raises:
        UserError: too little data, or impossible settings.
        TrainingError: the loss stays NaN or infinite, memory or disk do not suffice.
    """
    if "train" not in shards:
        raise UserError("there is nothing to train on: the token folder has no 'train' split.")
    with joined() as world, only_writer(folder) if world.main else contextlib.nullcontext(), in_plain_words(folder):
        return _Run(world, model, objective, shards, config, folder, seed, origin, tokenizer, progress).run()


class _Run:
    """State of one call of `train`, so that its steps can be methods that read one after the other."""

    def __init__(
        self,
        world: World,
        model: Transformer,
        objective: Objective,
        shards: Mapping[str, Shard],
        config: TrainConfig,
        folder: Path,
        seed: int,
        origin: str,
        tokenizer: Tokenizer | None,
        progress: Progress | None,
    ):
        self.world, self.config, self.folder = world, config, folder
        self.log = RunLog(folder, tensorboard=config.tensorboard, progress=progress, writes=world.main)
        self.machine: Machine = measure_machine()
        self.device = torch.device(self.machine.device)
        if self.device.type == "cpu":
            torch.set_num_threads(max(1, physical_cores() // world.local_size))
        self.rows = world.share(config.batch_size)
        self.parallel = parallel(model, world, self.device, config.parallel)
        self.model = self.parallel.model.train()
        self.objective = objective
        if FAMILIES[model.config.family].causal != objective.causal:
            raise UserError(f"a {model.config.family} model cannot be trained with the objective {objective.name}.")
        self.sequence_length = config.sequence_length or model.config.context_length
        if self.sequence_length > model.config.context_length:
            raise UserError(
                f"sequence_length={self.sequence_length} is longer than the model's context; set it (or "
                f"model.context_length, which it follows for a base) to {model.config.context_length} at most."
            )
        if world.main:
            self._check_data(shards)
        self.packer: Rows = objective.packer(shards["train"], self.sequence_length, seed)
        if EXERCISES in shards:
            exercises = Packer(shards[EXERCISES], self.sequence_length, seed=seed, whole_documents=True)
            alone = config.exercise_first * config.batch_size
            self.packer = MixedRows(self.packer, exercises, config.exercise_share, config.exercise_weight, alone)
        self.held_out = {name: shard for name, shard in shards.items() if name not in ("train", EXERCISES)}
        texts = {"train": shards["train"], **self.held_out}
        self.sampler = Sampler(model, tokenizer, texts, config.samples) if tokenizer else None
        self.optimizers = self.parallel.adapted(make_optimizers(self.model, config))
        # What decides the losses; how often to look, what to keep and what fits into memory at once do not.
        settings = config.model_dump(
            exclude={
                "evaluate_every",
                "evaluation_tokens",
                "checkpoint_seconds",
                "keep_checkpoints",
                "micro_batch_size",
                "compile",
                "parallel",
                "samples",
                "tensorboard",
            }
        )
        data = [(name, len(shard.tokens), shard.n_documents) for name, shard in sorted(shards.items())]
        self.run_id = fingerprint(model.config.model_dump(), objective.name, settings, data, seed, origin)
        self.about = about_run(model.config, objective.name, config, shards, self.machine, seed, origin)
        self.state = TrainState()
        self.stop_requested = False
        self.step_seconds: list[float] = []
        self.evaluated: tuple[int, dict[str, HeldOut]] | None = None  # at which step, with what outcome

    def _check_data(self, shards: Mapping[str, Shard]) -> None:
        vocab_size = self.model.model.embed_tokens.num_embeddings  # virtual tokens included
        for name, shard in shards.items():
            highest = shard.highest_token()
            if highest < 0:
                raise UserError(f"split {name!r} is empty, or none of its tokens is to be learned; give more text.")
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
        self.world.check_same(self.run_id)
        said = make_room(self.folder / "checkpoints", run=self.run_id) if self.world.main else []
        restored, problems = self._restore()
        if restored:
            self.state = restored
        self.log.begin(self.state.step)
        for message in (*said, *(f"checkpoint passed over: {problem}" for problem in problems)):
            self._say(message)
        if self.state.precision is None:
            chosen = self.machine.precision if self.config.precision == "auto" else self.config.precision
            self.state.precision = self.world.agree(chosen)
        if self.config.steps is not None:
            self.state.total_steps = self.config.steps
            self.state.decay_start = round(self.config.steps * (1 - self.config.decay_fraction))
        try:
            with self._signals():
                self._loop()
            held_out = self._evaluate()
            self.parallel.collect()
        finally:
            self.model.fuse(False)
            self.log.close()
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
        self._within_memory(self._choose_speed)
        self.log.about(self.state.step, {**self.about, "state": dataclasses.asdict(self.state)})
        last_checkpoint = time.perf_counter()
        while self.state.total_steps is None or self.state.step < self.state.total_steps:
            begin = time.perf_counter()
            loss, grad_norm = self._step()
            finite = math.isfinite(loss) and math.isfinite(grad_norm)
            self.state.skipped_steps += not finite
            self.state.skipped_in_a_row = 0 if finite else self.state.skipped_in_a_row + 1
            if self.state.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                self._roll_back()
                continue
            self.state.step += 1
            self.state.tokens += self.config.batch_size * self.sequence_length
            now = time.perf_counter()
            self.step_seconds.append(now - begin)
            self.state.seconds = now - started
            self._plan_end()
            self._report(loss, grad_norm)
            if self.state.step % self.config.evaluate_every == 0:
                self._evaluate()
            due, stop = self._agree(now - last_checkpoint > self.config.checkpoint_seconds)
            # Skipped steps changed no weight; a checkpoint of them would only push out an older one.
            if stop or (due and finite):
                self._checkpoint()
                last_checkpoint = time.perf_counter()
            if stop:
                raise KeyboardInterrupt
        if self.step_seconds:
            self._checkpoint()

    def _step(self) -> tuple[float, float]:
        """One optimizer step; returns mean loss in nats per target and the gradient's norm."""
        config, step = self.config, self.state.step
        factor = learning_rate_factor(
            step, config.warmup_steps, self.state.decay_start, self.state.total_steps, config.schedule
        )
        set_learning_rate(self.optimizers, factor * 0.5**self.state.rollbacks)
        batch = self.packer.rows(step * config.batch_size + self.world.rank * self.rows, self.rows)
        total = self._within_memory(lambda: self._gradients(batch))
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        loss_value, norm_value = self.world.sum(total.item())[0], whole(grad_norm).item()
        if norm_value > config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), config.clip_norm, grad_norm)
        for optimizer in self.optimizers:
            if math.isfinite(loss_value) and math.isfinite(norm_value):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss_value, norm_value

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """Add up the batch's gradients, over all ranks; returns this one's part of the loss in nats per target."""
        n_targets = max(1, self.world.sum(self.objective.count(batch))[0])
        total = torch.zeros((), device=self.device)
        for first, part in zip(range(0, self.rows, self._micro_batch), batch.split(self._micro_batch), strict=True):
            with self._autocast():
                loss = self.parallel.loss(self.objective, part.to(self.device)) / n_targets
            with self.parallel.backward(last=first + self._micro_batch >= self.rows):
                loss.backward()
            total += loss.detach()
        return total

    def _within_memory(self, compute: Callable[[], T]) -> T:
        """What `compute` returns; where memory does not suffice, again with half as many rows at a time."""
        while True:
            try:
                return compute()
            except Exception as error:
                if self._micro_batch == 1 or not is_out_of_memory(error):
                    raise
                if self.world.size > 1:  # the other ranks are in the middle of a step
                    raise TrainingError(
                        f"out of memory; set micro_batch_size={self._micro_batch // 2} or lower (several processes "
                        "cannot change it on the way), then run the same command again."
                    ) from error
            # Only here, beyond `except`, does nothing hold the failed pass's tensors any more.
            self.model.train().zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state.micro_batch = self._micro_batch // 2
            self._say(f"out of memory: {self._micro_batch} rows at a time from here on; batch_size stays the same")

    def _roll_back(self) -> None:
        """Go back to weights that did work, and on from there with half the learning rates.

        A checkpoint made since the last good step holds the weights that fail now, so it must be an older one.
        From there the same rates over the same rows would lead here again.
        """
        first_bad = self.state.step + 1 - MAX_SKIPPED_IN_A_ROW
        rollbacks = self.state.rollbacks + 1
        restored, _ = self._restore(before=first_bad) if rollbacks <= MAX_ROLLBACKS else (None, [])
        what = f"the loss was not finite {MAX_SKIPPED_IN_A_ROW} steps in a row, from step {first_bad + 1} on"
        if restored is None:
            raise TrainingError(
                f"{what} (after {self.state.rollbacks} returns to an earlier checkpoint); lower learning_rate and "
                'embedding_learning_rate, or set precision = "fp32".'
            )
        self.state = dataclasses.replace(
            restored,
            rollbacks=rollbacks,
            skipped_steps=self.state.skipped_steps,
            seconds=self.state.seconds,
            micro_batch=self.state.micro_batch,
        )
        self.evaluated = None
        self.log.begin(self.state.step)
        self._say(f"{what}: back to step {self.state.step}, and on with half the learning rates")
        self._checkpoint()

    @property
    def _micro_batch(self) -> int:
        return min(self.rows, self.config.micro_batch, self.state.micro_batch or self.rows)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return autocast_for(self.device, self.state.precision)

    def _choose_speed(self) -> None:
        """Compile where asked for, or where a few timed steps without and with it say that it pays.

        The timed passes do not touch weights or data position, so a run's losses do not depend on them.
        """
        can_fuse = self.world.all(self.device.type != "cpu" or cpu.available())
        if self.state.fused is None:
            self.state.fused = self.config.operators == "auto" and can_fuse
        elif self.state.fused and not can_fuse:
            self._say(f"{cpu.unavailable_because()}: the losses will differ in their last digits")
            self.state.fused = False
        self.model.fuse(self.state.fused)
        on_cpu = self.state.fused and self.device.type == "cpu"
        n_logits = self._micro_batch * self.sequence_length * self.model.config.vocab_size
        self.objective = self.objective.with_cross_entropy(self.config.cross_entropy, fused=on_cpu, n_logits=n_logits)
        fuse_muon(self.optimizers, on_cpu and not self.parallel.sharded)
        if self.state.compiled is None:
            self.state.compiled = self._compile_pays()
        elif self.state.compiled:
            self.objective = self.objective.compiled(self.model)

    def _compile_pays(self) -> bool:
        setting = self.config.compile
        if setting == "off" or not self.world.all(self.machine.can_compile):
            return False
        made_of_operators = self.state.fused and self.device.type == "cpu" and self.model.can_fuse()
        if setting == "auto" and (made_of_operators or self._seconds_left() < COMPILE_PAYS_AFTER_SECONDS):
            return False
        plain = self.world.max(self._time_passes()) if setting == "auto" else float("inf")
        self._say("compiling the model (once, about half a minute)")
        objective = self.objective
        seconds = float("inf")
        try:
            self.objective = objective.compiled(self.model)
            seconds = self._time_passes()
        except Exception as error:
            if setting == "on":
                raise TrainingError(f"torch.compile failed: {error}") from error
            self._say("torch.compile does not work here; going on without it")
        pays = self.world.max(seconds) < plain
        if not pays:
            self.objective = objective
            uncompile(self.model)
        return pays

    def _seconds_left(self) -> float:
        if self.config.minutes is not None:
            return self.config.minutes * 60 - self.state.seconds
        steps = (self.config.steps or 0) - self.state.step
        return steps * self.world.max(self._time_passes(1))

    def _time_passes(self, repetitions: int = 3) -> float:
        """Seconds of the fastest forward and backward pass of a micro-batch, after one to warm up."""
        batch = self.packer.rows(0, self._micro_batch).to(self.device)
        best = float("inf")
        for _ in range(repetitions + 1):
            begin = time.perf_counter()
            with self._autocast():
                loss = self.parallel.loss(self.objective, batch)
            loss.backward()
            loss.item()
            best = min(best, time.perf_counter() - begin)
        self.model.zero_grad(set_to_none=True)
        return best * self.rows / self._micro_batch

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

    def _agree(self, checkpoint_due: bool) -> tuple[bool, bool]:
        """Whether to write a checkpoint and whether to stop, the same on all ranks, and so is the run's end.

        Rank 0's clock counts, and a signal to any rank.
        """
        state = self.state
        state.seconds, state.decay_start, state.total_steps, checkpoint_due = self.world.agree(
            (state.seconds, state.decay_start, state.total_steps, checkpoint_due)
        )
        return checkpoint_due, self.world.any(self.stop_requested)

    def _evaluate(self) -> dict[str, HeldOut]:
        if self.evaluated and self.evaluated[0] == self.state.step:
            return self.evaluated[1]
        held_out = self._within_memory(
            lambda: evaluate_shards(
                self.model,
                self.objective,
                self.held_out,
                sequence_length=self.sequence_length,
                batch_size=self._micro_batch,
                max_tokens=self.config.evaluation_tokens,
                autocast=self._autocast(),
                parallel=self.parallel,
            )
        )
        self.log.held_out(self.state.step, held_out)
        at_the_end = self.state.step == self.state.total_steps
        if self.sampler and self.world.agree(at_the_end or self.sampler.affordable(self.state.seconds)):
            self.parallel.collect()
            if self.world.main:
                self.log.samples(self.state.step, self.sampler.complete())
        self.evaluated = (self.state.step, held_out)
        return held_out

    def _report(self, loss: float, grad_norm: float) -> None:
        state = self.state
        rate = self.config.batch_size * self.sequence_length / self.step_seconds[-1]
        entry = {
            "step": state.step,
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": self.optimizers[0].param_groups[0]["lr"],
            "tokens": state.tokens,
            "tokens_per_second": rate,
            "mfu": rate * self._flops_per_token / self._peak,
            "seconds": state.seconds,
        }
        if self.config.minutes is None:
            self.log.train_step(entry, state.step, self.config.steps or 0)
        else:
            budget = self.config.minutes * 60
            self.log.train_step(entry, round(min(state.seconds, budget)), round(budget))

    @property
    def _flops_per_token(self) -> int:
        return self.model.config.flops_per_token(self.sequence_length, self.objective.predicted)

    @property
    def _peak(self) -> float:
        return self.machine.peak(self.state.precision or "fp32") * self.world.size

    def _say(self, message: str) -> None:
        self.log.say(self.state.step, message)

    def _restore(self, before: int | None = None) -> tuple[TrainState | None, list[str]]:
        folder = self.folder / "checkpoints"
        return restore_newest(folder, self.parallel, self.optimizers, run=self.run_id, before=before)

    def _checkpoint(self) -> None:
        save_checkpoint(
            self.folder / "checkpoints",
            self.parallel,
            self.optimizers,
            dataclasses.replace(self.state),
            run=self.run_id,
            keep=self.config.keep_checkpoints,
        )
        self.log.report(self.state.seconds)

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
        except RuntimeError:
            if self.world.size > 1:  # torchrun terminates all when one has died; let this one say so first
                previous = {}
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
