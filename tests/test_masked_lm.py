"""Masked language models: what is hidden, what is learned from it, and filling masks."""

import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import wikigpt
from wikigpt.chat.engine import Engine
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.model.fill_mask import fill_mask
from wikigpt.recipe import load_recipe
from wikigpt.tokens import Shard, load_tokenizer, open_shards, save_tokenizer, train_tokenizer, write_text_tokens
from wikigpt.tokens.tokenizer import MASK, SPECIAL_TOKENS
from wikigpt.train import CausalLM, MaskedLM, TrainConfig, read_metrics, train
from wikigpt.train.batches import IGNORE
from wikigpt.train.masking import Masking, Words, most_masked

CITIES = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Poland": "Warsaw", "Norway": "Oslo"}
TEXTS = [f"{city} is the capital of {land}." for land, city in CITIES.items()] * 60
CHINESE = ["巴黎是法国的首都。", "罗马是意大利的首都。"] * 30
N_SPECIAL = len(SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a tokenizer and text tokens."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "tokenizer").mkdir()
    save_tokenizer(train_tokenizer(TEXTS + CHINESE, vocab_size=400), folder / "tokenizer")
    documents = [("en" if i % 10 == 0 else "train", text) for i, text in enumerate(TEXTS)]
    write_text_tokens(folder / "tokens", documents, load_tokenizer(folder / "tokenizer"), "x")
    return folder


@pytest.fixture(scope="module")
def tokenizer(data):
    return load_tokenizer(data / "tokenizer")


def fresh_model(tokenizer, seed=0) -> Transformer:
    torch.manual_seed(seed)
    shape = {"n_layers": 2, "d_model": 48, "n_heads": 2, "context_length": 64}
    return Transformer(ModelConfig(family="bert", vocab_size=tokenizer.get_vocab_size(), **shape))


def config(**changes) -> TrainConfig:
    base = {"steps": 12, "batch_size": 8, "precision": "fp32", "compile": "off", "warmup_steps": 5}
    return TrainConfig(**{**base, "evaluate_every": 1000, "evaluation_tokens": 2000, **changes})


def losses(folder) -> list[float]:
    return [entry["loss"] for entry in read_metrics(folder / "metrics.jsonl") if "loss" in entry]


def test_15_percent_are_hidden_80_10_10_and_never_special_tokens_or_padding(tokenizer):
    masking, rng = Masking(tokenizer, whole_words=False), np.random.default_rng(0)
    ids = rng.integers(0, tokenizer.get_vocab_size(), (500, 200))
    real = np.arange(200) < 160
    ordinary = (ids >= N_SPECIAL) & real
    rows = [masking.row(row, real, rng) for row in ids]
    inputs, targets = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    hidden = targets != IGNORE
    assert (ordinary | ~hidden).all()
    assert (targets[hidden] == ids[hidden]).all() and (inputs[~hidden] == ids[~hidden]).all()
    assert (hidden.sum(1) == np.round(0.15 * ordinary.sum(1))).all()
    as_mask, same = inputs[hidden] == tokenizer.token_to_id(MASK), inputs[hidden] == ids[hidden]
    assert as_mask.mean() == pytest.approx(0.8, abs=0.015) and same.mean() == pytest.approx(0.1, abs=0.015)
    replaced = inputs[hidden][~as_mask & ~same]
    assert replaced.min() == N_SPECIAL and len(np.unique(replaced)) > 250


def test_masks_are_a_function_of_seed_and_row_number_alone(data, tokenizer):
    shard = open_shards(data / "tokens")["train"]
    packer = MaskedLM.of(tokenizer).packer(shard, 32, seed=3)
    n = packer.rows_per_epoch
    together = packer.rows(n - 3, 6)
    other = MaskedLM.of(tokenizer).packer(shard, 32, seed=3)
    alone = [other.rows(n - 3 + i, 1) for i in reversed(range(6))][::-1]
    for name in ("input_ids", "targets", "document_ids"):
        assert torch.equal(getattr(together, name), torch.cat([getattr(batch, name) for batch in alone]))
    short = Shard("train", shard.tokens[:32], np.array([0, 32]), None, 32)  # the same row each epoch
    masks = {tuple((MaskedLM.of(tokenizer).packer(short, 32, seed=s).rows(r, 1).targets[0] != IGNORE).tolist())
             for s in range(3) for r in range(5)}  # fmt: skip
    assert len(masks) == 15
    evaluated = [list(packer.first_epoch(4, 400)) for _ in range(2)]
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(*evaluated, strict=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Berlin was so near.", ["Berlin", " was", " so", " near", "."]),
        ("巴黎 is 北京的 city", ["巴", "黎", " is", " ", "北", "京", "的", " city"]),
        ("a naïve café, Ünïcödé", ["a", " naïve", " café", ",", " Ünïcödé"]),
        ("1998 (MMXX)x", ["1", "9", "9", "8", " ", "(", "MMXX", ")", "x"]),
    ],
)
def test_words_are_what_a_reader_calls_words_and_chinese_characters(text, words, tokenizer):
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids)
    assert len(ids) > len(words)  # the tokenizer has not seen these: it spells them in several tokens
    first = Words(tokenizer).first_tokens(ids)
    assert [tokenizer.decode(ids[first == start].tolist()) for start in np.unique(first)] == words


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*TEXTS[:5], *CHINESE[:2], "<|im_end|>", "x"]), min_size=1, max_size=9), st.integers(0, 99)
)
def test_whole_words_are_hidden_whole(tokenizer, texts, seed):
    masking = Masking(tokenizer, whole_words=True)
    ids = np.array(tokenizer.encode(" ".join(texts), add_special_tokens=False).ids)
    _, targets = masking.row(ids, np.ones(len(ids), dtype=bool), np.random.default_rng(seed))
    hidden = targets != IGNORE
    assert 1 <= hidden.sum() <= max(1, round(0.15 * len(ids)))
    words = masking.words.first_tokens(ids)
    share = [hidden[words == word].mean() for word in np.unique(words[hidden])]
    assert share == [1.0] * len(share) or len(share) == 1  # one word longer than 15 % is hidden in part


def test_the_loss_is_cross_entropy_at_the_masked_tokens(data, tokenizer):
    model, objective = fresh_model(tokenizer), MaskedLM.of(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = next(objective.packer(open_shards(data / "tokens")["en"], 64, 0).first_epoch(99, 10**6))
    assert (batch.document_ids == -1).any() and batch.n_targets < batch.targets.shape[0] * most_masked(64)
    chosen = batch.targets != IGNORE
    logits = model(batch.input_ids, batch.document_ids)[chosen]
    expected = torch.nn.functional.cross_entropy(logits, batch.targets[chosen], reduction="sum")
    torch.testing.assert_close(objective.loss(model, batch), expected)


def test_learns_reports_no_bits_per_byte_and_fills_masks_as_transformers_does(data, tokenizer, tmp_path):
    from transformers import pipeline

    model, shards = fresh_model(tokenizer), open_shards(data / "tokens")
    result = train(model, MaskedLM.of(tokenizer), shards, config(steps=120, learning_rate=0.02), tmp_path)
    history = losses(tmp_path)
    assert history[0] == pytest.approx(math.log(400), rel=0.05)
    held_out = result.held_out["en"]
    assert held_out.nats_per_target < 1 and held_out.perplexity == math.exp(held_out.nats_per_target)
    assert held_out.bits_per_byte is None
    assert next(m for m in read_metrics(tmp_path / "metrics.jsonl") if "held_out_loss" in m)["bits_per_byte"] == {}

    save_model(model, tmp_path / "model", tokenizer=data / "tokenizer")
    reference = pipeline("fill-mask", str(tmp_path / "model"))
    for text in (f"Paris{MASK} the capital of France.", f"{MASK} is the capital of Italy. Rome is"):
        ours = fill_mask(tmp_path / "model", text, top=4)
        theirs = reference(f"<|endoftext|>{text}", top_k=4)
        assert [c.token for c in ours] == [c["token"] for c in theirs]
        assert [c.probability for c in ours] == pytest.approx([c["score"] for c in theirs], rel=1e-3)
    two = fill_mask(tmp_path / "model", "Paris [MASK] the capital <|mask|> France.", top=3)
    assert [c.mask for c in two] == [0] * 3 + [1] * 3
    assert two[0].text == " is" and two[3].text == " of" and two[0].probability > 0.5


@pytest.mark.slow
def test_compiled_training_matches_eager(data, tokenizer, tmp_path):
    shards, objective = open_shards(data / "tokens"), MaskedLM.of(tokenizer)
    for name in ("on", "off"):
        train(fresh_model(tokenizer), objective, shards, config(precision="bf16", compile=name), tmp_path / name)
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), rel=0.02)


def test_accumulation_does_not_change_the_loss(data, tokenizer, tmp_path):
    shards = open_shards(data / "tokens")
    for name, micro in (("whole", None), ("pieces", 2)):
        objective = MaskedLM.of(tokenizer, whole_words=True)  # rows differ in their number of masked tokens
        train(fresh_model(tokenizer), objective, shards, config(steps=6, micro_batch_size=micro), tmp_path / name)
    assert losses(tmp_path / "pieces") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def test_resume_after_a_stop_continues_bit_for_bit(data, tokenizer, tmp_path):
    shards, objective = open_shards(data / "tokens"), MaskedLM.of(tokenizer)
    train(fresh_model(tokenizer), objective, shards, config(), tmp_path / "straight")

    def stop_at_5(done: int, total: int, message: str) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(tokenizer), objective, shards, config(), tmp_path / "stopped", progress=stop_at_5)
    train(fresh_model(tokenizer, seed=9), objective, shards, config(), tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")


def test_model_and_objective_must_belong_together(data, tokenizer, tmp_path):
    shards = open_shards(data / "tokens")
    with pytest.raises(UserError, match="bert model cannot be trained with the objective causal_lm"):
        train(fresh_model(tokenizer), CausalLM(), shards, config(), tmp_path)
    causal = Transformer(ModelConfig(vocab_size=400, n_layers=1, d_model=32, n_heads=2, context_length=64))
    with pytest.raises(UserError, match="qwen3 model cannot be trained with the objective masked_lm"):
        train(causal, MaskedLM.of(tokenizer), shards, config(), tmp_path)
    save_model(causal, tmp_path / "causal", tokenizer=data / "tokenizer")
    save_model(fresh_model(tokenizer), tmp_path / "masked", tokenizer=data / "tokenizer")
    with pytest.raises(UserError, match="there is no mask in the text"):
        fill_mask(tmp_path / "masked", "Paris")
    with pytest.raises(UserError, match="context holds 64"):
        fill_mask(tmp_path / "masked", MASK + " Paris" * 99)
    refused = wikigpt("fill-mask", tmp_path / "causal", "Paris is [MASK].")
    assert refused.returncode == 2 and "is a qwen3 model, which goes on with a text" in refused.stderr
    with pytest.raises(UserError, match="this is a bert model"):
        Engine.from_folder(tmp_path / "masked")


def test_pretrain_and_build_by_the_family_of_a_named_shape(run, tmp_path):
    """From the command line: a named shape, its objective, a folder for transformers, and masks filled from it."""
    from transformers import AutoModelForMaskedLM

    small = ["--set", "model.n_layers=1", "--set", "model.d_model=64", "--set", "pretrain.steps=4"]
    made = wikigpt(
        *("pretrain", run / "corpus", "--tokenizer", run / "tokenizer", "-o", tmp_path / "base", "--recipe", "tiny"),
        *("--shape", "bert-mini", *small, "--set", "pretrain.whole_words=true"),
    )
    assert made.returncode == 0, made.stderr
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["max_position_embeddings"]) == ("bert", 1, 512)
    card = (tmp_path / "base" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "**Held-out perplexity** of masked tokens: en " in card
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "base").config.num_attention_heads == 4
    filled = wikigpt("fill-mask", tmp_path / "base", "Paris is the [MASK] of France.", "--top", "3", "--json")
    assert filled.returncode == 0, filled.stderr
    probabilities = [candidate["probability"] for candidate in json.loads(filled.stdout)]
    assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
    shown = wikigpt("fill-mask", tmp_path / "base", "Paris is the <|mask|> of France.", "--top", "3")
    assert shown.stdout.count("%") == 3
    refused = wikigpt("build", "tiny", "--run", tmp_path / "run", "--set", "objective=masked_lm")
    assert refused.returncode == 2 and "build it with --until pretrain" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_the_objective_of_a_recipe_and_its_family_must_agree():
    assert load_recipe("tiny", ["objective=masked_lm"]).model.family == "bert"
    assert load_recipe("tiny", ["model.family=bert"]).objective is None
    assert load_recipe("tiny", ["model.shape=gpt2-mini", "model.n_layers=3"]).model == ModelConfig(
        family="gpt2", n_layers=3, d_model=256, n_heads=4, context_length=512
    )
    for overrides, message in (
        (["objective=masked_lm", "model.family=gpt2"], "masked_lm does not fit the gpt2 family, only causal_lm"),
        (["objective=causal_lm", "model.shape=bert-mini"], "causal_lm does not fit the bert family"),
        (["model.shape=gpt5"], "there is no shape 'gpt5'; the shapes are"),
    ):
        with pytest.raises(UserError, match=message):
            load_recipe("tiny", overrides)
