"""What a run writes about itself while it trains: metrics, TensorBoard events, the progress line, its report."""

import json
import math
import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt import __version__
from wikigpt.artifacts import write_atomic
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from wikigpt.model import ModelConfig
    from wikigpt.tokens import Shard
    from wikigpt.train.config import TrainConfig
    from wikigpt.train.evaluation import HeldOut
    from wikigpt.train.machine import Machine

Progress = Callable[[int, int, str], None]
METRICS = "metrics.jsonl"
RATE_STEPS = 20  # the tokens/s shown are the mean over so many steps
REPORT_SHARE = 0.01  # of a run's time, at most, goes into its reports while it trains
FIRST_REPORT_SECONDS = 0.7  # what the first one costs, its imports included; later ones were timed


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of a JSON-lines log; a last line cut off by a crash is passed over."""
    # Not `splitlines`: it cuts at U+2028 and the like, which JSON leaves in a text as they are.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def joined_metrics(logs: Sequence[Path]) -> list[dict[str, Any]]:
    """The entries of runs that followed each other, as those of one run: steps go on, and it is announced once."""
    joined: list[dict[str, Any]] = []
    before = 0
    for log in logs:
        entries = [{**entry, "step": entry["step"] + before} for entry in read_metrics(log)]
        joined += [entry for entry in entries if "run" not in entry or not joined]
        before = max((entry["step"] for entry in entries), default=before)
    if joined and "state" in joined[0].get("run", {}):
        joined[0]["run"]["state"]["total_steps"] = before
    return joined


def about_run(
    model: "ModelConfig",
    objective: str,
    settings: "TrainConfig",
    shards: "Mapping[str, Shard]",
    machine: "Machine",
    seed: int,
    origin: str,
) -> dict[str, Any]:
    """What a run is, where it came from and what it runs on, as JSON values."""
    splits = {
        name: {"tokens": len(shard.tokens), "documents": shard.n_documents, "bytes": shard.n_bytes}
        for name, shard in shards.items()
    }
    versions = {"python": platform.python_version(), "torch": version("torch"), "wikigpt": __version__}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "objective": objective,
        "seed": seed,
        "origin": origin,
        "model": {**model.model_dump(exclude_none=True), "parameters": model.n_parameters},
        "data": splits,
        "settings": settings.model_dump(exclude_none=True),
        "machine": {**asdict(machine), "cores": os.cpu_count(), "platform": platform.platform(), **versions},
    }


class Smoothed:
    """Exponential moving average without its bias towards the first value; what is not finite does not count."""

    def __init__(self, weight: float):
        self.weight, self._sum, self._total = weight, 0.0, 0.0

    def add(self, value: float) -> float:
        """The average with `value` in it; NaN before the first finite one."""
        if math.isfinite(value):
            self._sum = self.weight * self._sum + (1 - self.weight) * value
            self._total = self.weight * self._total + (1 - self.weight)
        return self._sum / self._total if self._total else math.nan


class RunLog:
    """Everything that a run leaves for people to look at, in its folder.

    `metrics.jsonl` holds all of it, so that plots and report can be made again: one JSON object a line, with `step`
    and `run` (a start: settings, model, data, machine), `loss` (a step), `held_out_loss` (an evaluation), `samples`
    or `message`.

    Args:
        tensorboard: write events to `folder/tensorboard`, too.
        progress: called with `(done, total, message)` after each step, and with `(0, 0, message)` for a message.
        writes: False in every process of a run but the main one: there nothing is written or shown.

    Raises:
        UserError: TensorBoard is asked for, but not installed.
    """

    def __init__(
        self, folder: Path, *, tensorboard: bool = False, progress: Progress | None = None, writes: bool = True
    ):
        self.folder, self.writes = folder, writes
        self.progress = progress if writes else None
        self.evaluated_at = self.sampled_at = -1  # step of the newest entry of the kind
        self._summary_writer = _summary_writer() if tensorboard and writes else None
        self._events: SummaryWriter | None = None
        self._bits: Mapping[str, float] = {}
        self._loss = Smoothed(0.9)
        self._rates: deque[float] = deque(maxlen=RATE_STEPS)
        self._report_seconds, self._last_report = 0.0, FIRST_REPORT_SECONDS

    def begin(self, step: int) -> None:
        """Go on at `step` (0: start): what was logged beyond it, before a crash, is dropped."""
        if not self.writes:
            return
        self.evaluated_at = self.sampled_at = -1  # the run may have gone back
        path = self.folder / METRICS
        if path.is_file():
            kept = [entry for entry in read_metrics(path) if entry["step"] <= step]
            write_atomic(path, "".join(map(_line, kept)))
            for entry in kept:
                if "held_out_loss" in entry:
                    self.evaluated_at, self._bits = entry["step"], entry["bits_per_byte"]
                elif "samples" in entry:
                    self.sampled_at = entry["step"]
        if self._summary_writer is not None:
            if self._events is not None:
                self._events.close()
            # TensorBoard leaves out what earlier files hold of the steps from `purge_step` on.
            self._events = self._summary_writer(str(self.folder / "tensorboard"), purge_step=step + 1)

    def about(self, step: int, facts: Mapping[str, Any]) -> None:
        """Log with what settings, model, data and machine the run goes on from `step`."""
        self._write({"step": step, "run": facts})

    def train_step(self, entry: Mapping[str, float], done: int, total: int) -> None:
        """Log a step and show how far the run is: `done` of `total`, in whatever unit.

        Args:
            entry: `step`, `loss` (nats per target), `grad_norm`, `learning_rate`, `tokens` and `seconds` so far,
                `tokens_per_second` and `mfu` of this step.
        """
        self._write(entry)
        for name in ("loss", "grad_norm", "learning_rate", "tokens_per_second", "mfu"):
            self._scalar(f"train/{name}", entry[name], int(entry["step"]))
        loss = self._loss.add(entry["loss"])
        self._rates.append(entry["tokens_per_second"])
        rate = statistics.harmonic_mean(self._rates)  # all steps have equally many tokens
        if self.progress:
            bits = "".join(f" {name} {value:.3f}" for name, value in self._bits.items())
            mfu = entry["mfu"] * rate / entry["tokens_per_second"]
            self.progress(
                done,
                total,
                f"step {entry['step']:,}  loss {loss:.3f}{'  bits/byte' + bits if bits else ''}  "
                f"{rate:,.0f} tokens/s  MFU {mfu:.0%}",
            )

    def held_out(self, step: int, results: "Mapping[str, HeldOut]") -> None:
        """Log an evaluation, by split; a second one of the same step is that of a finished run called again."""
        if not results or step == self.evaluated_at:
            return
        bits = {name: result.bits_per_byte for name, result in results.items() if result.bits_per_byte is not None}
        losses = {name: result.nats_per_target for name, result in results.items()}
        measures = {name: dict(result.measures) for name, result in results.items() if result.measures}
        more = {"measures": measures} if measures else {}
        self._write({"step": step, "held_out_loss": losses, "bits_per_byte": bits, **more})
        for name, values in measures.items():
            for kind, value in values.items():
                self._scalar(f"held_out/{kind}/{name}", value, step)
        for kind, values in (("loss", losses), ("bits_per_byte", bits)):
            for name, value in values.items():
                self._scalar(f"held_out/{kind}/{name}", value, step)
        self.evaluated_at, self._bits = step, bits

    def samples(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        """Log what the model makes of its fixed prompts (see `Sampler`), once a step."""
        if not samples or step == self.sampled_at:
            return
        self._write({"step": step, "samples": samples})
        if self._events is not None:
            for number, sample in enumerate(samples, 1):
                shown = f"{sample['prompt']} **…** {sample['completion']}"
                self._events.add_text(f"samples/{number}", shown, step)
        self.sampled_at = step

    def say(self, step: int, message: str) -> None:
        """Log and show a message."""
        self._write({"step": step, "message": message})
        if self.progress:
            self.progress(0, 0, message)

    def report(self, seconds: float) -> None:
        """Bring `report.html` and the plots up to date, unless that would take more than 1 % of the run's `seconds`."""
        if self._events is not None:
            self._events.flush()
        too_early = self._report_seconds + self._last_report > REPORT_SHARE * seconds
        if not self.writes or too_early or not (self.folder / METRICS).is_file():
            return
        from wikigpt.train.report import write_training_report

        begin = time.perf_counter()
        try:
            write_training_report(self.folder)
        except Exception as error:  # such as a full disk: no reason to stop training, or to hide why it stopped
            if self.progress:
                self.progress(0, 0, f"the report could not be written: {error}")
        self._last_report = time.perf_counter() - begin
        self._report_seconds += self._last_report

    def close(self) -> None:
        """Write the report a last time and close the files."""
        self.report(math.inf)
        if self._events is not None:
            self._events.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self.writes:
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(_line(entry))

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self._events is not None:
            self._events.add_scalar(name, value, step)


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            'tensorboard=true needs a package that is not installed: pip install "wikigpt[tensorboard]".'
        ) from None
    return SummaryWriter
