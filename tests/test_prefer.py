"""Preference tuning: pairs in rows, its losses and gradients, resuming, and that the better answers win."""

import copy
import itertools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from wikigpt import tune
from wikigpt.chat.engine import Engine
from wikigpt.cli import app
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.recipe import CONTINUED, dump_recipe, load_recipe
from wikigpt.tokens import Shard, open_shards
from wikigpt.tokens.pairs import Pair, read_pairs, write_pair_tokens
from wikigpt.tokens.tokenizer import build_tokenizer, load_tokenizer
from wikigpt.train import PairPacker, Prefer, TrainConfig, chunks, evaluate_shards, prefer, read_metrics, train
from wikigpt.train.batches import IGNORE
from wikigpt.train.checkpoint import checkpoints
from wikigpt.train.tuning import PreferConfig

VOCAB = 60


def model(seed: int) -> Transformer:
    torch.manual_seed(seed)
    made = Transformer(ModelConfig(vocab_size=VOCAB, n_layers=2, d_model=32, n_heads=2, context_length=64))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def pairs(sizes: list[tuple[int, int]], seed: int = 0, name: str = "train") -> Shard:
    """Documents of the given lengths, chosen and rejected in turn; the first third of each is its question."""
    random, lengths = np.random.default_rng(seed), [size for pair in sizes for size in pair]
    tokens = random.integers(0, VOCAB, sum(lengths)).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    mask = np.concatenate([(np.arange(size) >= max(1, size // 3)).astype(np.uint8) for size in lengths])
    return Shard(name, tokens, offsets, mask, len(tokens))


SIZES = [(6, 9), (12, 5), (3, 3), (20, 11), (8, 8), (15, 4)]


@given(
    st.lists(st.tuples(st.integers(2, 14), st.integers(2, 14)), min_size=1, max_size=40),
    st.integers(28, 60),
    st.integers(0, 3),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_each_pair_stands_whole_in_one_row_once_an_epoch(sizes, length, seed):
    shard = pairs(sizes, seed)
    packer = PairPacker(shard, length, seed=seed)
    batch = packer.rows(0, packer.rows_per_epoch)
    assert Prefer().count(batch) == len(sizes)
    found = []
    for ids, targets, documents in zip(batch.input_ids, batch.targets, batch.document_ids, strict=True):
        for k in range((int(documents.max()) + 1) // 2):
            pair = []
            for number in (2 * k, 2 * k + 1):
                where = documents == number
                learned = targets[where]
                pair.append((tuple(ids[where].tolist()), tuple(learned[learned != IGNORE].tolist())))
            found.append(tuple(pair))
    expected = []
    for i in range(len(sizes)):
        pair = []
        for d in (2 * i, 2 * i + 1):
            begin, end = shard.offsets[d : d + 2].astype(int)
            tokens, mask = shard.tokens[begin:end], shard.mask[begin:end]
            pair.append((tuple(tokens.tolist()), tuple(tokens[mask == 1].tolist())))
        expected.append(tuple(pair))
    assert sorted(found) == sorted(expected)


def test_pairs_that_are_none_or_too_long_are_refused():
    with pytest.raises(UserError, match="cannot all be in pairs"):
        shard = pairs(SIZES)
        PairPacker(Shard("train", shard.tokens, shard.offsets[:-1], shard.mask, 1), 64, seed=0)
    with pytest.raises(UserError, match="longest pair of answers has 31 tokens"):
        PairPacker(pairs(SIZES), 30, seed=0)


def rewards(policy: Transformer, objective: Prefer, shard: Shard) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the chosen and the rejected answers: every answer in a row of its own, by whole logits."""

    def logprob(network: Transformer, document: int) -> torch.Tensor:
        begin, end = shard.offsets[document : document + 2].astype(int)
        ids = torch.from_numpy(shard.tokens[begin:end].astype(np.int64))
        said = torch.from_numpy(shard.mask[begin:end]).bool()[1:]
        logprobs = network(ids[None])[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[said, 0]
        return logprobs.mean() if objective.per_token else logprobs.sum()

    of_all = torch.stack([logprob(policy, i) for i in range(shard.n_documents)])
    if objective.reference is not None:
        of_all = of_all - torch.stack([logprob(objective.reference, i) for i in range(shard.n_documents)]).detach()
    return of_all[::2], of_all[1::2]


def by_the_book(policy: Transformer, objective: Prefer, shard: Shard) -> dict[str, torch.Tensor]:
    """Loss, accuracy and margin of all pairs by the papers' formulas."""
    chosen, rejected = rewards(policy, objective, shard)
    gain, s = objective.beta * (chosen - rejected), objective.label_smoothing
    h = gain - objective.margin
    loss = -F.logsigmoid(h) * (1 - s) - F.logsigmoid(-h) * s
    means = torch.zeros(())
    if objective.chosen_weight:
        means, _ = rewards(policy, Prefer(per_token=True), shard)
    loss = loss.sum() - objective.chosen_weight * means.sum()
    return {"loss": loss, "accuracy": (gain > 0).float().mean(), "margin": gain.mean()}


VARIANTS = {
    "dpo": {"reference": True},
    "dpo, smoothed": {"reference": True, "label_smoothing": 0.2, "beta": 0.5},
    "reference-free": {"beta": 0.3},
    "simpo": {"per_token": True, "beta": 2.0, "margin": 0.7},
    "chosen": {"reference": True, "chosen_weight": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("chunk", [64, 5])
def test_loss_and_gradients_are_those_of_whole_logits(monkeypatch, variant, chunk):
    monkeypatch.setattr(prefer, "chunk_rows", lambda head: chunk)
    monkeypatch.setattr(chunks, "CHUNK_LOGITS", 3 * VOCAB)
    policy, shard = model(0), pairs(SIZES)
    objective = Prefer(**{**variant, "reference": model(1) if variant.get("reference") else None})
    packer = objective.packer(shard, 40, 0)
    batch = packer.rows(0, packer.rows_per_epoch)
    assert objective.count(batch) == len(SIZES) and len(batch.targets) > 1
    expected = by_the_book(policy, objective, shard)
    outcomes = []
    for loss in (objective.loss(policy, batch), expected["loss"]):
        policy.zero_grad()
        loss.backward()
        outcomes.append((loss.item(), [parameter.grad.clone() for parameter in policy.parameters()]))
    (ours, our_gradients), (theirs, their_gradients) = outcomes
    assert ours == pytest.approx(theirs, rel=1e-5)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(0.1, float(b.abs().max())))
    held_out = evaluate_shards(
        policy, objective, {"en": shard}, sequence_length=40, batch_size=2, max_tokens=10**6
    )["en"]  # fmt: skip
    compared = by_the_book(policy, objective.held_out(shard), shard)["loss"].item()
    assert held_out.nats_per_target == pytest.approx(compared / len(SIZES), rel=1e-5)
    assert held_out.bits_per_byte is None
    for name in ("accuracy", "margin"):
        assert held_out.measures[name] == pytest.approx(expected[name].item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_loss_is_that_of_trl(monkeypatch, variant):
    """Its function for CPO and SimPO is DPO's where it is given log-ratios to a reference."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = pytest.importorskip("trl.experimental.cpo").CPOTrainer
    policy, shard = model(0), pairs(SIZES)
    objective = Prefer(**{**variant, "reference": model(1) if variant.get("reference") else None})
    theirs = SimpleNamespace(
        alpha=0.0,
        accelerator=SimpleNamespace(device="cpu"),
        loss_type="simpo" if objective.margin else "sigmoid",
        simpo_gamma=objective.margin,
        beta=objective.beta,
        label_smoothing=objective.label_smoothing,
    )
    losses, chosen, rejected = trainer.cpo_loss(theirs, *rewards(policy, objective, shard))
    packer = objective.packer(shard, 64, 0)
    got = objective.held_out(shard).loss(policy, packer.rows(0, packer.rows_per_epoch)).tolist()
    wanted = [losses.sum(), (chosen > rejected).sum(), (chosen - rejected).sum()]
    assert got == pytest.approx([value.item() for value in wanted], rel=1e-5)


# --- In the training loop ---


def settings(**changes) -> TrainConfig:
    fixed = {"batch_size": 4, "precision": "fp32", "compile": "off", "operators": "plain", "warmup_steps": 2}
    gentle = {"learning_rate": 2e-3, "embedding_learning_rate": 2e-4, "evaluate_every": 5, "samples": []}
    return TrainConfig(**{**fixed, **gentle, **changes})


def losses(folder) -> list[float]:
    return [e["loss"] for e in read_metrics(folder / "metrics.jsonl") if "loss" in e]


def polite(n: int, seed: int, name: str = "train") -> Shard:
    """Pairs of which the chosen answer repeats the question's token and the rejected one another's."""
    random = np.random.default_rng(seed)
    asked, other = random.integers(4, VOCAB, (2, n))
    documents = np.stack([asked, np.full(n, 1), asked, asked, np.full(n, 2)], 1)
    wrong = np.stack([asked, np.full(n, 1), other, other, np.full(n, 2)], 1)
    tokens = np.stack([documents, wrong], 1).astype(np.uint16).ravel()
    mask = np.tile(np.array([0, 0, 1, 1, 1], np.uint8), 2 * n)
    return Shard(name, tokens, np.arange(0, len(tokens) + 1, 5).astype(np.uint64), mask, len(tokens))


def test_better_answers_win_and_the_log_says_so(tmp_path):
    policy, shards = model(0), {"train": polite(300, 0), "en": polite(60, 1, "en")}
    reference = copy.deepcopy(policy)
    result = train(policy, Prefer(reference=reference), shards, settings(steps=40), tmp_path)
    assert losses(tmp_path)[0] == pytest.approx(math.log(2), abs=1e-6)  # nothing gained yet
    entries = [e for e in read_metrics(tmp_path / "metrics.jsonl") if "measures" in e]
    assert entries[0]["step"] == 5 and entries[-1]["measures"]["en"]["accuracy"] > 0.8
    assert entries[-1]["measures"]["en"]["margin"] > entries[0]["measures"]["en"]["margin"]
    assert result.held_out["en"].nats_per_target < 0.65
    assert result.held_out["en"].measures == entries[-1]["measures"]["en"]
    assert any(not torch.equal(a, b) for a, b in zip(policy.parameters(), reference.parameters(), strict=True))
    page = (tmp_path / "report.html").read_text()
    assert "Chosen above rejected" in page and "masked" not in page


def test_cut_into_pieces_or_interrupted_a_run_is_the_same(tmp_path):
    shards = {"train": polite(60, 0)}
    for name, changes in {"whole": {}, "pieces": {"micro_batch_size": 1}}.items():
        policy = model(0)
        train(policy, Prefer(reference=copy.deepcopy(policy)), shards, settings(steps=6, **changes), tmp_path / name)
    assert losses(tmp_path / "pieces") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    for again in (False, True):
        policy, reference = model(0), model(0)
        train(
            policy,
            Prefer(reference=reference),
            shards,
            settings(steps=6, checkpoint_seconds=1e-9),
            tmp_path / "cut",
        )
        if not again:
            newest, older = checkpoints(tmp_path / "cut" / "checkpoints")
            shutil.rmtree(newest)
            assert older.name == "step-5"
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


# --- Pairs on disk, the stage and the command ---


def row(i: int, **changes) -> dict:
    turns = [{"role": "user", "content": f"What comes after {i}?"}]
    if i % 4 == 0:
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, *turns]
    return {"messages": turns, "chosen": f"It is {i + 1}.", "rejected": "No idea.", **changes}


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def test_a_fiftieth_is_held_out_unless_there_is_a_file_of_its_own(tmp_path):
    file = write(tmp_path / "mine.jsonl", [row(i % 1000, lang="zh" if i % 2 else None) for i in range(2000)])
    read = list(read_pairs(file))
    held_out = [pair for pair in read if pair.split != "train"]
    assert 20 <= len(held_out) <= 70 and {pair.split for pair in held_out} == {"zh", "validation"}
    assert list(read_pairs(file)) == read
    # Both pairs of a question lie on the same side.
    questions = {pair.messages[-1]["content"] for pair in held_out}
    assert sum(pair.messages[-1]["content"] in questions for pair in read) == len(held_out) == 2 * len(questions)
    write(tmp_path / "folder" / "pairs.jsonl", [row(i) for i in range(300)])
    write(tmp_path / "folder" / "pairs-validation.jsonl", [row(1, lang="en")])
    assert [pair.split for pair in read_pairs(tmp_path / "folder")] == ["train"] * 300 + ["en"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"messages": [', "not a preference pair"),
        ("[]", "not a preference pair"),
        (json.dumps({**row(1), "chosen": 3}), "are text"),
        (json.dumps({**row(1), "messages": []}), "end with the user's"),
        (json.dumps({**row(1), "messages": [{"role": "assistant", "content": "Hi"}]}), "end with the user's"),
        (json.dumps({**row(1), "messages": [{"role": "tool", "content": "Hi"}]}), "role 'tool'"),
        (json.dumps({"messages": row(1)["messages"], "chosen": "yes"}), "'rejected'"),
        ('{"messages": [{"role": "user", "content": "\ud83d"}]}'.encode("utf-8", "surrogatepass"), "not a preference"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, word):
    file = write(tmp_path / "mine.jsonl", [row(1), row(2)])
    with file.open("ab") as opened:
        opened.write(line if isinstance(line, bytes) else line.encode())
    with pytest.raises(UserError, match=f"mine.jsonl, line 3.*{word}"):
        list(read_pairs(file))
    with pytest.raises(UserError, match="is missing"):
        list(read_pairs(tmp_path / "nowhere.jsonl"))


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory) -> Path:
    """A model folder."""
    folder = tmp_path_factory.mktemp("chat")
    texts = [f"{m['content']} {r['chosen']} {r['rejected']}" for r in map(row, range(50)) for m in r["messages"]]
    build_tokenizer(texts, folder / "tokenizer", vocab_size=300, split_cjk=True, max_token_length=16)
    size = load_tokenizer(folder / "tokenizer").get_vocab_size()
    torch.manual_seed(0)
    network = Transformer(ModelConfig(vocab_size=size, n_layers=2, d_model=32, n_heads=2, context_length=128))
    save_model(network, folder / "model", tokenizer=folder / "tokenizer")
    return folder / "model"


def test_the_mask_is_on_the_two_answers_alone(chat_model, tmp_path):
    tokenizer = load_tokenizer(chat_model)
    given = [Pair("train", row(4)["messages"], "It is 5.", "No, 6 it is."), Pair("train", row(1)["messages"], "a", "a")]
    given += [Pair("train", row(1)["messages"], " ", "a"), Pair("train", row(1)["messages"], "a" * 400, "b")]
    facts = write_pair_tokens(tmp_path / "tokens", given, tokenizer, "", max_length=300)
    assert facts["dropped"] == {"same": 1, "empty": 1, "too_long": 1}
    shard = open_shards(tmp_path / "tokens")["train"]
    texts = [
        (tokenizer.decode(t, skip_special_tokens=False), tokenizer.decode(t[m == 1], skip_special_tokens=False))
        for t, m in (
            (shard.tokens[a:b], shard.mask[a:b]) for a, b in itertools.pairwise(shard.offsets.astype(int).tolist())
        )
    ]
    asked = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n"
    asked += "What comes after 4?<|im_end|>\n<|im_start|>assistant\n"
    assert texts == [(f"{asked}{answer}<|im_end|>\n", f"{answer}<|im_end|>") for answer in ("It is 5.", "No, 6 it is.")]


def test_the_command_tunes_a_model_and_goes_on_where_it_stopped(chat_model, tmp_path):
    write(tmp_path / "pairs" / "pairs.jsonl", [row(i) for i in range(60)])
    write(tmp_path / "pairs" / "pairs-validation.jsonl", [row(i, lang="en") for i in range(60, 80)])
    command = ["prefer", chat_model, tmp_path / "pairs", "-o", tmp_path / "better", "--beta", "0.3"]
    command += ["--set", "prefer.steps=25", "--set", "prefer.compile=off"]
    done = CliRunner().invoke(app, [*map(str, command)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "chosen answer gained more: en 100%" in " ".join(done.output.split())
    assert Engine.from_folder(tmp_path / "better").generate([row(1)["messages"]], max_new_tokens=3)[0].prompt_tokens
    assert "gained on the worse one: en 100% (margin " in (tmp_path / "better" / "README.md").read_text()
    log = (tmp_path / "better.work" / "metrics.jsonl").read_text()
    about = next(e["run"] for e in map(json.loads, log.splitlines()) if "run" in e)
    assert about["objective"] == "prefer" and about["settings"]["steps"] == 25
    # Another beta is another run; the same one is finished.
    weights = (tmp_path / "better" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds no preference pairs that can be used"):
        same = write(tmp_path / "same.jsonl", [row(1, rejected="It is 2.")])
        tune.prefer(
            chat_model, same, tmp_path / "w", tmp_path / "o", settings=PreferConfig(steps=2)
        )  # fmt: skip
    shutil.rmtree(tmp_path / "better")
    assert CliRunner().invoke(app, [*map(str, command)]).exit_code == 0
    assert (tmp_path / "better" / "model.safetensors").read_bytes() == weights
    again = [e["loss"] for e in read_metrics(tmp_path / "better.work" / "metrics.jsonl") if "loss" in e]
    assert len(again) == 25


def test_an_adapter_learns_what_is_better_and_the_base_is_the_reference(chat_model, tmp_path):
    pairs_of_rows = write(tmp_path / "pairs.jsonl", [row(i) for i in range(60)])
    command = ["prefer", chat_model, pairs_of_rows, "-o", tmp_path / "better", "--method", "lora"]
    command += [
        "--set",
        "prefer.steps=25",
        "--set",
        "prefer.compile=off",
        "--set",
        "prefer.embedding_learning_rate=0.01",
    ]
    done = CliRunner().invoke(app, [*map(str, command)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    losses = [e["loss"] for e in read_metrics(tmp_path / "better.work" / "metrics.jsonl") if "loss" in e]
    assert losses[-1] < losses[0] - 0.1
    assert (tmp_path / "better" / "adapter_config.json").is_file()
    assert Engine.from_folder(tmp_path / "better").generate([row(1)["messages"]], max_new_tokens=3)[0].prompt_tokens


def test_a_recipe_may_leave_the_sections_out(tmp_path):
    plain, set_ = load_recipe("small"), load_recipe("small", ["prefer.beta=0.5", "distill.hidden_layers=[[0, 1]]"])
    assert (set_.prefer.beta, set_.prefer.minutes, set_.distill.minutes) == (0.5, plain.prefer.minutes, 8)
    assert load_recipe("small", ["distill.steps=5"]).distill.minutes is None
    (tmp_path / "mine.toml").write_text(dump_recipe(set_), encoding="utf-8")
    assert load_recipe(str(tmp_path / "mine.toml")) == set_
    # With a model of others gentle rates; those of preferences always are.
    based = load_recipe("small", ['base="x.gguf"'])
    assert based.distill.learning_rate == CONTINUED["learning_rate"] < plain.distill.learning_rate
    assert based.prefer.learning_rate == plain.prefer.learning_rate
