"""Input that cannot be trained on: refused with status 2 and one sentence before anything is lost."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from test_reliability import config, fresh_model, largest_file, shard
from wikigpt import cli, stages
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard, open_shards, tokenizer_sha256
from wikigpt.train import CausalLM, TrainConfig, train

PAGES = [f"Number {n} comes after number {n - 1} and before number {n + 1}, as numbers do." for n in range(200)]
SMALL = ["model.n_layers=1", "model.d_model=32", "model.n_heads=2", "model.context_length=64"]
SHORT = [f"{stage}.{key}" for stage in ("pretrain", "finetune") for key in ("steps=3", "batch_size=4")]
SET = [option for value in (*SMALL, *SHORT) for option in ("--set", value)]


def wikigpt(*arguments: object) -> tuple[int, str]:
    """Run the command line in this process (torch takes seconds to load); exit status and standard error."""
    errors, before = io.StringIO(), sys.argv
    sys.argv = ["wikigpt", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = before
    return status, errors.getvalue()


def refused(result: tuple[int, str], *words: str, status: int = 2) -> None:
    assert result[0] == status, result
    assert len(result[1].strip().splitlines()) == 1, result[1]
    for word in words:
        assert word in result[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with corpus, tokenizer, tokens, and a base model."""
    folder = tmp_path_factory.mktemp("made")
    lines = [json.dumps({"id": str(i), "url": "", "title": f"N{i}", "text": text}) for i, text in enumerate(PAGES)]
    (folder / "pages.jsonl").write_text("\n".join(lines) + "\n")
    done = [
        [
            "corpus",
            folder / "pages.jsonl",
            "-o",
            folder / "corpus",
            "--lang",
            "en",
            "--workers",
            1,
            *["--min-chars", 5],
        ],
        ["tokenizer", folder / "corpus", "-o", folder / "tokenizer", "--set", "tokenizer.vocab_size=300"],
        ["pretrain", folder / "corpus", "--tokenizer", folder / "tokenizer", "-o", folder / "base", "-r", "tiny", *SET],
    ]
    for command in done:
        assert wikigpt(*command, "--quiet") == (0, "")
    shutil.copytree(folder / "base.work" / "tokens", folder / "tokens")
    return folder


def pretrain(made: Path, output: Path, *settings: str) -> tuple[int, str]:
    options = [option for value in settings for option in ("--set", value)]
    with_ = ["--tokenizer", made / "tokenizer", "-o", output, "-r", "tiny", "--quiet"]
    return wikigpt("pretrain", made / "corpus", *with_, *SET, *options)


# --- Where nothing can be written ---


@pytest.mark.parametrize("folder", ["/sys/wikigpt", "/proc/wikigpt", "FILE/base"])
def test_a_folder_that_cannot_be_written_is_refused_before_training(made, tmp_path, folder):
    (tmp_path / "FILE").write_text("x")
    refused(pretrain(made, tmp_path / folder), "nothing can be written to", "choose another folder")
    with pytest.raises(UserError, match="nothing can be written to"):
        train(fresh_model(), CausalLM(), {"train": shard()}, config(), tmp_path / folder)


def test_a_full_disk_is_said_in_one_sentence_and_the_same_command_goes_on(made, tmp_path):
    with largest_file(50_000):  # enough for tokens, not for weights
        failed = pretrain(made, tmp_path / "base")
    refused(failed, f"nothing more can be written to {tmp_path}", "run the same command again", status=1)
    assert not (tmp_path / "base").exists() and not list(tmp_path.rglob("*.tmp"))
    assert pretrain(made, tmp_path / "base") == (0, "")
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == (made / "base" / "model.safetensors").read_bytes()


# --- Impossible settings ---


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.n_heads=3", ["d_model=32 is not a multiple of n_heads=3"]),
        ("model.n_kv_heads=4", ["n_heads=2 is not a multiple of n_kv_heads=4"]),
        ("model.head_dim=15", ["head_dim=15 is odd", "even width"]),
        ("model.d_model=0", ["model.d_model", "greater than or equal to 8"]),
        ("model.n_layers=half", ["model.n_layers", "'half'"]),
        ("model.dropout=0.1", ["no key model.dropout", "d_model"]),
        ("model.n_layers=100_000_000", ["weights needs", "GB", "lower model.d_model or model.n_layers"]),
        ("pretrain.sequence_length=128", ["sequence_length=128 is longer than the model's context", "64 at most"]),
        ("pretrain.micro_batch_size=3", ["batch_size=4 is not a multiple of micro_batch_size=3"]),
        ("pretrain.learning_rate=inf", ["pretrain.learning_rate", "finite"]),
        ("pretrain.minutes=5", ["set either minutes or steps"]),
    ],
)
def test_impossible_settings_are_named(made, tmp_path, setting, words):
    refused(pretrain(made, tmp_path / "base", setting), *words)
    assert not (tmp_path / "base").exists()


def test_a_family_says_what_cannot_be_chosen_in_it():
    for values, words in (
        ({"family": "gpt2", "n_kv_heads": 1}, "cannot be chosen in the gpt2 family"),
        ({"family": "bert", "mlp_bias": False}, "bert family has biases everywhere"),
        ({"family": "qwen3", "mlp_bias": True}, "qwen3 family has none"),
        ({"rope_theta": float("inf")}, "finite"),
        ({"rope_scaling": {"factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_context_length": 8}},
         "is not below high_freq_factor"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=words):
            ModelConfig(**values)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "family": st.sampled_from(["qwen3", "llama", "gpt2", "bert"]),
            "d_model": st.sampled_from([8, 12, 16]),
            "n_heads": st.integers(1, 4),
        },
        optional={
            "n_kv_heads": st.integers(1, 4),
            "head_dim": st.integers(1, 8),
            "d_ff": st.integers(7, 12),
            "attention_bias": st.booleans(),
            "mlp_bias": st.booleans(),
            "tie_embeddings": st.booleans(),
        },
    )
)
def test_what_the_validators_let_through_is_a_model(values):
    try:
        shape = ModelConfig(vocab_size=20, context_length=8, n_layers=1, **values)
    except ValidationError:
        return
    model = Transformer(shape)
    assert torch.isfinite(model(torch.zeros(1, 8, dtype=torch.int64))).all()
    assert sum(p.numel() for p in model.parameters()) == shape.n_parameters


def test_a_base_whose_context_is_shorter_than_the_rows_says_so(made, tmp_path):
    options = ["--base", made / "base", "-o", tmp_path / "more", "--quiet", "--set", "model.context_length=256"]
    refused(wikigpt("pretrain", made / "corpus", *options), "longer than the model's context", "to 64 at most")


# --- Tokens ---


def of_tokens(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "tokens", tmp_path / "tokens"))


def pretrain_on(tokens: Path, made: Path, tmp_path: Path, tokenizer: Path | None = None) -> None:
    stages.pretrain(
        tokens,
        tokenizer or made / "tokenizer",
        tmp_path / "work",
        tmp_path / "base",
        model=ModelConfig(n_layers=1, d_model=32, n_heads=2, context_length=64),
        settings=TrainConfig(steps=2, batch_size=4, compile="off", precision="fp32"),
    )


def test_tokens_of_another_tokenizer_are_refused(made, tmp_path):
    changed = tmp_path / "tokenizer"
    shutil.copytree(made / "tokenizer", changed)
    text = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(text + " ")
    with pytest.raises(UserError, match=r"tokens was written with another tokenizer; give that one, or delete"):
        pretrain_on(made / "tokens", made, tmp_path, tokenizer=changed)
    assert open_shards(made / "tokens", tokenizer_sha256=tokenizer_sha256(made / "tokenizer"))
    (changed / "tokenizer.json").write_text(text[:-50])
    with pytest.raises(UserError, match=r"tokenizer.json is damaged"):
        pretrain_on(made / "tokens", made, tmp_path, tokenizer=changed)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("train.bin", lambda data: data[:-2], r"train.bin has [\d,]+ bytes, not"),
        ("train.bin", lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], "train.bin does not match its"),
        ("train.bin", None, "train.bin is missing"),
        ("train.offsets.bin", lambda data: data[:-8], r"offsets.bin has [\d,]+ bytes"),
        ("train.offsets.bin", lambda data: data[:8] + bytes([data[8] ^ 1]) + data[9:], "does not match its checksum"),
        ("tokens.json", lambda data: data[:-10], "tokens.json is damaged"),
        ("tokens.json", lambda data: b"[]", "tokens.json is no list of token shards"),
        ("tokens.json", lambda data: data.replace(b"uint16", b"sixteen"), "tokens.json is no list of token shards"),
        ("tokens.json", None, "tokens.json is missing"),
    ],
)  # fmt: skip
def test_damaged_tokens_are_refused_before_training(made, tmp_path, file, damage, words):
    path = of_tokens(made, tmp_path) / file
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(UserError, match=words):
        pretrain_on(path.parent, made, tmp_path)
    assert not list(tmp_path.rglob("step-*"))


def test_tokens_beyond_the_vocabulary_too_few_of_them_and_none_to_learn(tmp_path):
    n = len(shard().tokens)
    everything = np.ones(n, dtype=np.uint8)
    for shards, words in (
        ({"train": shard(vocab_size=65)}, "holds token 64, but the model knows only 64 tokens"),
        ({"train": shard(), "de": shard("de", vocab_size=70)}, "split 'de' holds token 69"),
        ({"train": Shard("train", shard().tokens[:50], np.array([0, 50]), None, 50)}, "only 50 tokens to train on"),
        ({"train": Shard("train", shard().tokens[:0], np.array([0]), None, 0)}, "'train' is empty, or none"),
        ({"train": Shard("train", shard().tokens, shard().offsets, everything * 0, n)}, "none of its tokens is to be"),
        ({"de": shard("de")}, "has no 'train' split"),
    ):
        with pytest.raises(UserError, match=words):
            train(fresh_model(), CausalLM(), shards, config(), tmp_path)


# --- Conversations ---


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "train.jsonl, line 2: not a conversation"),
        (b"[1]", "train.jsonl, line 2"),
        (b'{"messages": "hello"}', "train.jsonl, line 2"),
        (b'{"messages": [{"role": "user"}]}', "line 2: not a conversation (KeyError('content'))"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "role and content of a message are text"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "role 'robot'"),
        (b'\xff\xfe{"messages": []}', "train.jsonl, line 2"),
    ],
)
def test_what_is_no_conversation_is_named_by_its_line(made, tmp_path, line, words):
    good = b'{"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "2"}], "lang": "en"}\n'
    (tmp_path / "train.jsonl").write_bytes(good + line + b"\n")
    (tmp_path / "validation.jsonl").write_bytes(good)
    refused(wikigpt("finetune", made / "base", tmp_path, "-o", tmp_path / "model", "-r", "tiny", "--quiet"), words)
    assert not (tmp_path / "model").exists()
