"""Training that is killed, stopped, starved of memory or disk, fed with NaN, left with damaged checkpoints."""

import contextlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import wikigpt
from wikigpt.artifacts import atomic_folder, write_atomic
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard
from wikigpt.train import CausalLM, TrainConfig, TrainingError, read_metrics, train
from wikigpt.train.checkpoint import checkpoints
from wikigpt.train.machine import measure_machine

STEPS = 40


def shard(name: str = "train", n_tokens: int = 6000, vocab_size: int = 64) -> Shard:
    """Documents of 50 tokens, in each the same run of numbers from somewhere on."""
    starts = np.random.default_rng(0).integers(vocab_size, size=n_tokens // 50)
    tokens = (starts[:, None] + np.arange(50)).reshape(-1) % vocab_size
    return Shard(name, tokens.astype(np.uint16), np.arange(0, n_tokens + 1, 50, dtype=np.uint64), None, n_tokens)


def fresh_model(seed: int = 0, vocab_size: int = 64, context_length: int = 32) -> Transformer:
    torch.manual_seed(seed)
    shape = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context_length": context_length}
    return Transformer(ModelConfig(vocab_size=vocab_size, **shape))


def config(**changes) -> TrainConfig:
    base = {"steps": STEPS, "batch_size": 8, "precision": "fp32", "compile": "off", "warmup_steps": 5}
    return TrainConfig(**{**base, "evaluate_every": 1000, **changes})


def run(folder: Path, *, seed: int = 0, progress=None, **changes):
    shards = {"train": shard(), "validation": shard("validation", 500)}
    return train(fresh_model(seed), CausalLM(), shards, config(**changes), folder, progress=progress)


def logged(folder: Path, key: str = "loss") -> dict[int, object]:
    """By step; each step is logged once."""
    entries = [(e["step"], e[key]) for e in read_metrics(folder / "metrics.jsonl") if key in e]
    if key == "loss":
        assert [step for step, _ in entries] == list(range(1, len(entries) + 1))
    return dict(entries)


def messages(folder: Path) -> str:
    return "\n".join(e["message"] for e in read_metrics(folder / "metrics.jsonl") if "message" in e)


def weights(folder: Path) -> bytes:
    """Of the newest checkpoint."""
    return (checkpoints(folder / "checkpoints")[0] / "model.safetensors").read_bytes()


def nothing_left_over(folder: Path) -> bool:
    return not list(folder.rglob("*.tmp")) and not list(folder.rglob("*.old"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run with the checkpoints of its last two steps."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, checkpoint_seconds=1e-9)
    assert [path.name for path in checkpoints(folder / "checkpoints")] == [f"step-{STEPS}", f"step-{STEPS - 1}"]
    return folder


# --- Killed and stopped at any moment ---


def drive(folder: Path, interruptions: list[list[int]], steps: int) -> None:
    """Train twice, without and with interruptions, in processes forked from this one (torch loads but once).

    Args:
        interruptions: which signals to send, one after the other, to each process but the last.
    """
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401  # each of the processes would load them anew

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # no thread pool before the fork
    torch.set_num_threads(1)
    measure_machine()
    rng = random.Random(len(interruptions))
    settings = {"steps": steps, "evaluate_every": 5, "evaluation_tokens": 500}
    assert wait_for(start(folder / "straight", **settings)) == 0
    work = folder / "interrupted"
    found = checkpoints(work / "checkpoints")
    for number, signals in enumerate(interruptions):
        # Other weights to begin with: they must not matter. Most time goes to checkpoints.
        process = start(work, seed=number if found else 0, checkpoint_seconds=1e-9, **settings)
        if number % 4:  # else any moment, that of the start, too
            deadline = time.monotonic() + 60
            while checkpoints(work / "checkpoints")[:1] == found[:1]:
                assert os.waitpid(process, os.WNOHANG) == (0, 0) and time.monotonic() < deadline
                time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.06))
        for sent in signals:
            os.kill(process, sent)
            time.sleep(0.002)
        status = wait_for(process)
        found = checkpoints(work / "checkpoints")
        assert status in (-signals[0], 130), (number, status)
        if status == 130 and len(signals) == 1 and found:
            assert found[0].name == f"step-{max(logged(work))}", "a stop loses nothing"
    assert wait_for(start(work, seed=99, **settings)) == 0


def start(folder: Path, **settings) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        run(folder, **settings)
        status = 0
    except KeyboardInterrupt:
        status = 130
    finally:
        if status == 1:
            import traceback

            traceback.print_exc()
        os._exit(status)


def wait_for(process: int) -> int:
    """Exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def script(code: str, **options) -> subprocess.CompletedProcess[str]:
    """Run code that sees this module's names in a process of its own."""
    prelude = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_reliability import *\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=500, **options
    )


def check_interrupted(folder: Path, interruptions: list[list[int]], *, steps: int) -> None:
    driven = script(f"drive(Path({str(folder)!r}), {[[*map(int, s)] for s in interruptions]}, {steps})")
    assert driven.returncode == 0, driven.stderr
    straight, interrupted = folder / "straight", folder / "interrupted"
    assert logged(interrupted) == logged(straight) and len(logged(straight)) == steps
    assert logged(interrupted, "held_out_loss") == logged(straight, "held_out_loss")
    assert weights(interrupted) == weights(straight)
    assert nothing_left_over(interrupted)


KILL, TERM, CTRL_C = [signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT]


def test_killed_or_stopped_at_random_moments_it_ends_the_same(tmp_path):
    check_interrupted(tmp_path, [*[KILL] * 5, TERM, CTRL_C, CTRL_C * 2], steps=60)


@pytest.mark.slow
def test_stopped_at_many_random_moments_it_ends_the_same(tmp_path):
    check_interrupted(tmp_path, [TERM, CTRL_C, CTRL_C * 2, TERM * 2, KILL] * 5, steps=300)


@pytest.mark.slow
def test_the_command_killed_fifty_times_ends_the_same(tmp_path):
    """As a user runs it: a new interpreter each time, everything from reading the corpus on."""
    pages = [f"Number {n} comes after number {n - 1} and before number {n + 1}, as numbers do." for n in range(200)]
    lines = [json.dumps({"id": str(i), "url": "", "title": f"N{i}", "text": text}) for i, text in enumerate(pages)]
    (tmp_path / "pages.jsonl").write_text("\n".join(lines) + "\n")
    corpus, tokenizer = tmp_path / "corpus", tmp_path / "tokenizer"
    for command in (
        ["corpus", tmp_path / "pages.jsonl", "-o", corpus, "--lang", "en", "--min-chars", 5],
        ["tokenizer", corpus, "-o", tokenizer, "--set", "tokenizer.vocab_size=300"],
    ):
        assert wikigpt(*command, "--quiet").returncode == 0

    def pretrain(output: Path, checkpoint_seconds: float) -> list[str]:
        settings = ["model.n_layers=2", "model.d_model=32", "model.n_heads=2", "model.context_length=32"]
        settings += ["pretrain.steps=1500", "pretrain.batch_size=4", "pretrain.evaluate_every=100"]
        settings += ["pretrain.samples=[]", f"pretrain.checkpoint_seconds={checkpoint_seconds}"]
        options = [option for setting in settings for option in ("--set", setting)]
        with_ = ["--tokenizer", tokenizer, "-o", output, "-r", "tiny", "--quiet", *options]
        return [*map(str, ["pretrain", corpus, *with_])]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    work = tmp_path / "killed.work"
    assert wikigpt(*pretrain(straight, 60)).returncode == 0
    rng = random.Random(0)
    for number in range(50):
        found = checkpoints(work / "checkpoints")
        process = subprocess.Popen([sys.executable, "-m", "wikigpt", *pretrain(killed, 1e-9)], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while number % 5 and checkpoints(work / "checkpoints")[:1] == found[:1]:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.002)
        # One in five at any moment from the start of the interpreter on, the others among steps and checkpoints.
        time.sleep(rng.uniform(0, 0.15 if number % 5 else 4))
        assert process.poll() is None, process.stderr.read()
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not killed.exists()
    finished = wikigpt(*pretrain(killed, 60))
    assert finished.returncode == 0, finished.stderr
    assert (killed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    assert logged(work) == logged(tmp_path / "straight.work") and len(logged(work)) == 1500
    assert nothing_left_over(work)


def holder(context: str, path: Path) -> subprocess.Popen[bytes]:
    """A process inside a context manager of `wikigpt.artifacts`, until it is killed."""
    code = f"import sys, time; from pathlib import Path; from wikigpt.artifacts import {context}\n"
    code += f"with {context}(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_dead(tmp_path):
    first = holder("only_writer", tmp_path)
    with pytest.raises(UserError, match="another wikigpt process is writing"):
        run(tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    first.kill()
    first.wait()
    assert run(tmp_path, steps=5).state.step == 5


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    for path in tmp_path / "tokens", tmp_path / "tokens.json":
        killed, alive = holder("atomic_folder", path), holder("atomic_folder", path)
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".tokens*.tmp"))) == 2
        if path.suffix:
            write_atomic(path, "x")
        else:
            with atomic_folder(path):
                pass
        assert len(list(tmp_path.glob(".tokens*.tmp"))) == 1, "that of the living stays"
        alive.kill()
        alive.wait()
        shutil.rmtree(next(tmp_path.glob(".tokens*.tmp")))


# --- Numbers that are not finite ---


class Poison:
    """Breaks a weight in memory after some step, as a faulty chip would: once, or each time."""

    def __init__(self, model: Transformer, step: int, *, again: bool = False):
        self.model, self.step, self.again, self.stop_at = model, step, again, -1

    def __call__(self, done: int, total: int, message: str) -> None:
        if done == self.step:
            with torch.no_grad():
                self.model.model.norm.weight[0] = math.nan
            if not self.again:
                self.step = -1
        elif done == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def run_poisoned(folder: Path, *, again: bool = False, stop_at: int = -1):
    model = fresh_model()
    poison = Poison(model, 20, again=again)
    poison.stop_at = stop_at
    return train(model, CausalLM(), {"train": shard()}, config(checkpoint_seconds=1e-9), folder, progress=poison)


def test_a_run_that_breaks_goes_back_and_on_at_half_the_rates(tmp_path):
    result = run_poisoned(tmp_path / "straight")
    # The checkpoint of step 20 holds the broken weight already.
    assert "not finite 5 steps in a row, from step 21 on: back to step 19" in messages(tmp_path / "straight")
    assert (result.state.step, result.state.rollbacks, result.state.skipped_steps) == (STEPS, 1, 5)
    losses = logged(tmp_path / "straight")
    assert len(losses) == STEPS and all(map(math.isfinite, losses.values()))
    run(tmp_path / "sound")
    rates, sound = logged(tmp_path / "straight", "learning_rate"), logged(tmp_path / "sound", "learning_rate")
    assert [rates[step] for step in (19, 20, STEPS)] == [sound[19], sound[20] / 2, sound[STEPS] / 2]
    # What was decided holds after a stop, too.
    with pytest.raises(KeyboardInterrupt):
        run_poisoned(tmp_path / "stopped", stop_at=25)
    shards = {"train": shard()}
    train(fresh_model(9), CausalLM(), shards, config(), tmp_path / "stopped")
    assert logged(tmp_path / "stopped") == losses
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_a_run_that_breaks_again_and_again_stops_with_a_clear_word(tmp_path):
    with pytest.raises(TrainingError, match=r"after 3 returns to an earlier checkpoint\); lower learning_rate"):
        run_poisoned(tmp_path, again=True)
    newest = checkpoints(tmp_path / "checkpoints")[0]
    assert json.loads((newest / "state.json").read_text())["state"]["rollbacks"] == 3


# --- Memory ---

STARVED = """
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
torch.set_num_threads(1)
for name, operators, spare, length in (
    ("ample", "plain", 10**12, 128),
    ("scarce", "plain", 150 * 10**6, 128),
    ("none", "plain", 10**6, 4096),
):
    model = fresh_model(vocab_size=4096, context_length=length)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    shards = {{"train": shard(n_tokens=20_000, vocab_size=4096)}}
    try:
        settings = config(steps=2, batch_size=32, operators=operators)
        result = train(model, CausalLM(), shards, settings, Path({folder!r}) / name)
        print(result.state.micro_batch)
    except TrainingError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_out_of_memory_halves_the_micro_batch_and_not_the_batch(tmp_path):
    """The logits of 32 rows, 32 x 128 x 4096, take 67 MB, and some times that with their gradients."""
    starved = script(STARVED.format(folder=str(tmp_path)))
    assert starved.returncode == 0, starved.stderr
    ample, scarce, none = starved.stdout.splitlines()
    assert ample == "None" and int(scarce) in (4, 8, 16)
    assert "out of memory: 16 rows at a time" in messages(tmp_path / "scarce")
    losses = [list(logged(tmp_path / name).values()) for name in ("ample", "scarce")]
    assert len(losses[1]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert none.startswith("out of memory; free some, or lower model.context_length")


# --- Disk ---


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: as on a full disk, writing fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_disk_full_at_a_checkpoint_keeps_the_one_before(finished, tmp_path, file):
    size = (checkpoints(finished / "checkpoints")[0] / file).stat().st_size - 100

    def stop_at_12(done: int, total: int, message: str) -> None:
        if done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(folder, progress=stop_at_12)
    with largest_file(size), pytest.raises(TrainingError, match=r"nothing more can be written to \S+run \(.*too large"):
        run(folder, seed=9)
    assert [path.name for path in checkpoints(folder / "checkpoints")] == ["step-12"] and nothing_left_over(folder)
    run(folder, seed=9)
    assert logged(folder) == logged(finished) and weights(folder) == weights(finished)


def test_a_disk_full_while_metrics_are_written(tmp_path):
    filled = json.dumps({"step": 0, "message": "x" * 100_000}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(filled)
    with largest_file(len(filled) + 2000), pytest.raises(TrainingError, match="make room there, then run the same"):
        run(tmp_path)
    run(tmp_path)
    assert len(logged(tmp_path)) == STEPS


# --- Damaged and foreign checkpoints ---

DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "bit-flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}


def flipped(data: bytes) -> bytes:
    """One bit changed, near the middle, in a digit if there is one: what parses is still damaged."""
    changed = bytearray(data)
    changed[next((i for i in range(len(data) // 2, len(data)) if data[i : i + 1].isdigit()), -1)] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(finished, tmp_path, damage, file):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    newest = checkpoints(folder / "checkpoints")[0]
    DAMAGE[damage](newest / file)
    run(folder, seed=9)
    assert f"checkpoint passed over: step-{STEPS}: " in messages(folder) and file in messages(folder)
    assert logged(folder) == logged(finished) and weights(folder) == weights(finished)


def test_where_all_checkpoints_are_damaged_nothing_begins_anew(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for number, path in enumerate(checkpoints(folder / "checkpoints")):
        DAMAGE["truncated"](path / ("state.json" if number else "model.safetensors"))
    before = logged(folder)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be used \(step-40: .*; step-39: .*delete that"):
        run(folder)
    assert logged(folder) == before and len(checkpoints(folder / "checkpoints")) == 2


def test_a_checkpoint_of_another_version_is_not_taken_for_ours(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in checkpoints(folder / "checkpoints"):
        manifest = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(UserError, match=r"another version of WikiGPT \(format 2, here 1\)"):
        run(folder)


def test_changing_a_setting_and_back_loses_nothing(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    changed = {"learning_rate": 0.01, "steps": 10}
    run(folder, **changed)
    assert len(logged(folder)) == 10
    assert "moved to" in messages(folder) and "delete it to free space" in messages(folder)
    other = weights(folder)
    again = run(folder, seed=9)
    assert again.state.step == STEPS and "which these settings had led to" in messages(folder)
    assert logged(folder) == logged(finished) and weights(folder) == weights(finished)
    run(folder, seed=9, **changed)
    assert weights(folder) == other and len(logged(folder)) == 10
    # Not a setting that decides anything: a run that ran out of memory goes on with smaller pieces.
    assert run(folder, seed=9, micro_batch_size=2, **changed).state.step == 10
    assert weights(folder) == other


def test_who_may_read_a_saved_model_is_for_the_umask_to_say(run):
    modes = {path.name: path.stat().st_mode for path in (run / "model").iterdir()}
    assert set(modes.values()) == {modes["config.json"]}
