"""Training in several processes, as torchrun starts them: the same losses as one, and nobody left waiting.

This file is also the program that torchrun runs here: see `__main__` at its end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from conftest import wikigpt
from wikigpt.model import ModelConfig, Transformer, load_model
from wikigpt.tokens import open_shards, tokenizer_sha256, write_chat_tokens, write_text_tokens
from wikigpt.tokens.tokenizer import build_tokenizer, load_tokenizer
from wikigpt.train import Chat, MaskedLM, TrainConfig, read_metrics, train
from wikigpt.train.distributed import joined

STEPS = 8
# One process, two that share each batch, and two that share the weights, too, over data where the number of
# targets differs from rank to rank.
RUNS = {
    "chat": {"objective": "chat", "micro_batch_size": 2},
    "masked": {"objective": "masked", "steps": 3},
    "sharded": {"objective": "chat", "micro_batch_size": 2, "parallel": "fsdp"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    texts = [" ".join(f"Number {i * j % 97} is not {j}. 数{j}很大。" for j in range(2 + i % 9)) for i in range(200)]
    build_tokenizer(texts, folder / "tokenizer", vocab_size=300, split_cjk=True, max_token_length=8)
    tokenizer, checksum = load_tokenizer(folder / "tokenizer"), tokenizer_sha256(folder / "tokenizer")
    documents = [("validation" if i % 10 == 0 else "train", t) for i, t in enumerate(texts)]
    write_text_tokens(folder / "masked", documents, tokenizer, checksum)
    chats = [
        (
            "validation" if n % 9 == 0 else "train",
            [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1 2 " * (1 + n % 8)}],
        )
        for n in range(90)
    ]
    write_chat_tokens(folder / "chat", chats, tokenizer, checksum, max_length=64)
    return folder


def run(data: Path, folder: Path, *, objective: str, stop_at: int | None = None, **changes) -> dict[str, float]:
    """Train a tiny model; returns its held-out losses. `stop_at` sends a signal to one process at that step."""
    settings = {"steps": STEPS, "batch_size": 8, "precision": "fp32", "compile": "off", "operators": "plain"}
    # Newton-Schulz steps blow up what differs in the last digit; small ones of Muon keep that below 1e-5 of the loss.
    settings |= {"learning_rate": 1e-3, "warmup_steps": 2, "evaluation_tokens": 2000}
    family = "bert" if objective == "masked" else "qwen3"
    tokenizer = load_tokenizer(data / "tokenizer")
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "n_layers": 2, "d_model": 32, "n_heads": 2, "context_length": 64}
    model = Transformer(ModelConfig(family=family, **shape))

    def watch(done: int, total: int, message: str) -> None:
        if done == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    result = train(
        model,
        MaskedLM.of(tokenizer) if objective == "masked" else Chat(),
        open_shards(data / objective),
        TrainConfig(**{**settings, **changes}),
        folder,
        tokenizer=tokenizer,
        progress=watch,
    )
    model(torch.zeros(1, 8, dtype=torch.long))  # whole again, whoever had a share of it
    return {name: held_out.nats_per_target for name, held_out in result.held_out.items()}


def run_all(data: Path, folder: Path, runs: dict[str, dict]) -> None:
    """Do each of some runs, in one process or several, and write down what came of it; "x resumed" goes on with "x"."""
    for name, options in runs.items():
        name = name.removesuffix(" resumed")
        (folder / name).mkdir(parents=True, exist_ok=True)
        try:
            held_out: object = run(data, folder / name, **options)
        except KeyboardInterrupt:
            held_out = "stopped"
        with joined() as world:
            if world.main:
                (folder / name / "held_out.json").write_text(json.dumps(held_out))


def torchrun(*arguments: str | Path, ranks: int = 2) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*launcher, *map(str, arguments)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": ""}


def in_ranks(data: Path, folder: Path, runs: dict[str, dict], ranks: int = 2) -> None:
    command = torchrun(__file__, data, folder, json.dumps(runs), ranks=ranks)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200, env=ENVIRONMENT)
    assert finished.returncode == 0, finished.stderr[-12000:]


def losses(folder: Path, key: str = "loss") -> list[float]:
    return [e[key] for e in read_metrics(folder / "metrics.jsonl") if "loss" in e]


def held_out(folder: Path) -> dict[str, float]:
    return json.loads((folder / "held_out.json").read_text())


def test_two_ranks_learn_what_one_does_and_go_on_from_each_others_checkpoints(data, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    run_all(data, alone, RUNS)
    there_and_back = {"objective": "chat", "micro_batch_size": 2}
    for name, kind in (("1-2-1", "ddp"), ("1-2-1 sharded", "fsdp")):
        run_all(data, both, {name: {**there_and_back, "parallel": kind, "stop_at": 3}})
        assert held_out(both / name) == "stopped" and len(losses(both / name)) == 3
    resumed = {
        "1-2-1": {**there_and_back, "stop_at": 6},
        "1-2-1 sharded": {**there_and_back, "stop_at": 6, "parallel": "fsdp"},
    }
    again = {"again": {**RUNS["chat"], "stop_at": 5}, "again resumed": RUNS["chat"]}
    in_ranks(data, both, {**RUNS, **resumed, **again})
    for name in RUNS:
        assert losses(both / name) == pytest.approx(losses(alone / name), rel=1e-5), name
        norms = losses(alone / name, "grad_norm")  # sums, not means: the optimizers would not show the difference
        assert losses(both / name, "grad_norm") == pytest.approx(norms, rel=1e-4), name
        assert held_out(both / name) == pytest.approx(held_out(alone / name), rel=1e-5), name
    for name in resumed:
        assert held_out(both / name) == "stopped" and len(losses(both / name)) == 6
    run_all(data, both, dict.fromkeys(resumed, there_and_back))  # how weights were shared changes nothing
    for name in resumed:
        assert losses(both / name) == pytest.approx(losses(alone / "chat"), rel=1e-5), name
    assert "stopping after this step" in (both / "again" / "metrics.jsonl").read_text()
    assert losses(both / "again") == losses(both / "chat"), "not bit for bit"


@pytest.mark.slow
def test_four_ranks_one_and_two_go_on_from_each_other(data, tmp_path):
    run_all(data, tmp_path, {"straight": RUNS["chat"]})
    for kind in ("ddp", "fsdp"):
        options = {**RUNS["chat"], "parallel": kind}
        in_ranks(data, tmp_path, {kind: {**options, "stop_at": 2}})
        run_all(data, tmp_path, {kind: {**options, "stop_at": 4}})
        in_ranks(data, tmp_path, {kind: {**options, "stop_at": 6}}, ranks=4)
        in_ranks(data, tmp_path, {kind: options}, ranks=4)
        assert losses(tmp_path / kind) == pytest.approx(losses(tmp_path / "straight"), rel=1e-5), kind
        in_ranks(data, tmp_path, {f"{kind} 4": options, f"{kind} again": {**options, "stop_at": 4}}, ranks=4)
        in_ranks(data, tmp_path, {f"{kind} again": options}, ranks=4)
        assert losses(tmp_path / f"{kind} again") == losses(tmp_path / f"{kind} 4"), "not bit for bit"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_compiled_blocks_learn_the_same_in_two_ranks(data, tmp_path, kind):
    options = {**RUNS["chat"], "steps": 4}
    run_all(data, tmp_path, {"eager": options})
    in_ranks(data, tmp_path, {"compiled": {**options, "compile": "on", "parallel": kind}})
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)
    said = [e["message"] for e in read_metrics(tmp_path / "compiled" / "metrics.jsonl") if "message" in e]
    assert any("compiling the model" in message for message in said)


@pytest.mark.slow
def test_the_clock_of_rank_0_ends_a_run_limited_by_time(data, tmp_path):
    in_ranks(data, tmp_path, {"timed": {"objective": "chat", "steps": None, "minutes": 0.1, "checkpoint_seconds": 1}})
    rates = losses(tmp_path / "timed", "learning_rate")
    assert rates[-1] < 0.2 * max(rates) and losses(tmp_path / "timed", "seconds")[-1] < 12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus and a tokenizer, as the commands write them."""
    folder = tmp_path_factory.mktemp("corpus")
    articles = [
        {
            "id": i,
            "title": f"Number {i}",
            "text": f"The number {i} comes before {i + 1} and after {i - 1}. " * (3 + i % 5),
        }
        for i in range(150)
    ]
    (folder / "wiki.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    options = ["--set", "corpus.near_duplicates=none", "--lang", "en", "--quiet"]
    assert wikigpt("corpus", folder / "wiki.jsonl", "-o", folder / "corpus", *options).returncode == 0
    made = wikigpt(
        "tokenizer", folder / "corpus", "-o", folder / "tokenizer", "--set", "tokenizer.vocab_size=300", "-q"
    )
    assert made.returncode == 0, made.stderr
    return folder


def pretrain(corpus: Path, output: Path, **settings) -> list[str]:
    """The command line of `wikigpt pretrain` in two processes."""
    model = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context_length": 64}
    chosen = {
        "minutes": "none",
        "batch_size": 8,
        "precision": "fp32",
        "compile": "off",
        "operators": "plain",
        **settings,
    }
    options = [f"model.{key}={value}" for key, value in model.items()]
    options += [f"pretrain.{key}={value}" for key, value in chosen.items()]
    sets = [part for option in options for part in ("--set", option)]
    inputs = [corpus / "corpus", "--tokenizer", corpus / "tokenizer"]
    return torchrun("-m", "wikigpt", "pretrain", *inputs, "-o", output, *sets)


def test_a_killed_rank_ends_the_job_with_a_word_and_the_same_command_goes_on(corpus, tmp_path):
    command = pretrain(corpus, tmp_path / "base", steps=70, checkpoint_seconds=0.3, evaluate_every=40)
    metrics = tmp_path / "base.work" / "metrics.jsonl"
    with (tmp_path / "errors").open("w+") as errors:
        job = subprocess.Popen(command, stderr=errors, stdout=subprocess.PIPE, env=ENVIRONMENT)
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count('"loss"') >= 25):
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        ranks = {p.environ()["RANK"]: p for p in psutil.Process(job.pid).children() if "RANK" in p.environ()}
        ranks["1"].kill()
        job.communicate(timeout=60)
        errors.seek(0)
        said = errors.read()
    assert job.returncode != 0
    assert said.count("wikigpt: the connection to another process of this run is lost") == 1, said
    assert "goes on from the last checkpoint" in said and "wikigpt: [rank" not in said
    assert not psutil.pid_exists(ranks["0"].pid)

    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, env=ENVIRONMENT)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("✓ pretrain") == 1  # only one of the processes shows something
    entries = [e["step"] for e in read_metrics(metrics) if "loss" in e]
    assert entries == list(range(1, 71))
    assert load_model(tmp_path / "base").config.d_model == 32


@pytest.mark.slow
def test_torchrun_starts_killed_ranks_again_and_the_run_goes_on(corpus, tmp_path):
    command = pretrain(corpus, tmp_path / "base", steps=60, checkpoint_seconds=0.3)
    command.insert(command.index("--standalone") + 1, "--max-restarts=1")
    metrics = tmp_path / "base.work" / "metrics.jsonl"
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count('"loss"') >= 20):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    next(p for p in psutil.Process(job.pid).children() if p.environ().get("RANK") == "0").kill()
    assert job.wait(timeout=120) == 0
    assert losses(metrics.parent, "step") == list(range(1, 61))


def test_a_build_is_refused_beside_others_but_not_where_a_cluster_only_sets_the_world_size():
    for rank, expected in (({"RANK": "0"}, "a build is one process"), ({}, "there is nothing to build from")):
        command = [sys.executable, "-m", "wikigpt", "build", "small"]
        built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "WORLD_SIZE": "2", **rank})
        assert built.returncode == 2 and expected in built.stderr


def test_a_mistake_is_told_once_and_nobody_waits(corpus, tmp_path):
    begin = time.monotonic()
    command = pretrain(corpus, tmp_path / "base", steps=5, batch_size=7)
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert failed.returncode != 0 and time.monotonic() - begin < 45
    assert failed.stderr.count("wikigpt: batch_size=7 sequences cannot be dealt out evenly to 2 processes") == 1
    assert not (tmp_path / "base").exists()


if __name__ == "__main__":
    with joined():
        run_all(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
