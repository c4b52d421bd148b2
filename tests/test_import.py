"""Models that others trained: imported, chatted with, trained on, as a user does it."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from conftest import wikigpt
from test_gguf import mixed_strings, random_model, smollm2, write_gguf
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, load_model
from wikigpt.model.gguf import GGUFFile, load_gguf
from wikigpt.model.importing import import_model, load_pretrained, origin_of, save_pretrained_tokenizer
from wikigpt.recipe import CONTINUED, load_recipe
from wikigpt.stages import pretrain, tokens
from wikigpt.tokens import load_tokenizer, open_shards, train_tokenizer
from wikigpt.tokens.tokenizer import CHAT_TEMPLATE, IM_END, IM_START
from wikigpt.train import CausalLM, evaluate_shards, read_metrics


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*mixed_strings(300), "Paris is a city. 巴黎是城市。"] * 3, vocab_size=600)


def test_imported_gguf_is_a_model_that_transformers_and_chat_load(tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = random_model("llama")
    template = "{% for message in messages %}<{{ message['content'] }}>{% endfor %}"
    path = write_gguf(tmp_path / "m.gguf", model, tokenizer, pre="smollm", tokenizer__chat_template=template)
    imported = wikigpt("import", path, "-o", tmp_path / "model", "--json")
    assert imported.returncode == 0, imported.stderr
    facts = json.loads(imported.stdout)
    assert facts["parameters"] == model.config.n_parameters and facts["added_tokens"] == []
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    ids = torch.randint(0, 600, (1, 60))
    with torch.no_grad():
        assert (theirs(ids).logits - model(ids)).abs().max() < 1e-4
    their_tokenizer, ours = AutoTokenizer.from_pretrained(tmp_path / "model"), load_tokenizer(tmp_path / "model")
    for text in mixed_strings(100):
        if IM_END not in text:  # of which transformers makes a control token
            assert their_tokenizer.encode(text) == ours.encode(text, add_special_tokens=False).ids
    assert their_tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<hi>"
    asked = wikigpt("chat", tmp_path / "model", "--ask", "Hello")
    assert asked.returncode == 0, asked.stderr


def test_hugging_face_folder_gets_the_tokens_it_lacks(tokenizer, tmp_path):
    """As GPT-2 has neither of ChatML's tokens: two rows more, which begin as the mean of the others."""
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=598, tie_word_embeddings=False, **shape)).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs")
    state = json.loads(tokenizer.to_str())
    tokens_by_id = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    kept = [token for token in tokens_by_id if token not in (IM_START, IM_END)]
    state["model"]["vocab"], state["added_tokens"] = {token: i for i, token in enumerate(kept)}, []
    Tokenizer.from_str(json.dumps(state)).save(str(tmp_path / "theirs" / "tokenizer.json"))
    (tmp_path / "theirs" / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.py", null]}}')

    facts = import_model(tmp_path / "theirs", tmp_path / "ours")
    assert facts["added_tokens"] == [IM_START, IM_END] and facts["vocab_size"] == 600
    model = load_model(tmp_path / "ours")
    ids = torch.randint(0, 598, (1, 50))
    with torch.no_grad():
        expected, logits = theirs.float()(ids).logits, model(ids)
    assert (logits[..., :598] - expected).abs().max() < 1e-4
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        torch.testing.assert_close(table[598:], table[:598].mean(0).expand(2, -1))
    assert load_tokenizer(tmp_path / "ours").token_to_id(IM_END) == 599
    assert "auto_map" not in (tmp_path / "ours" / "tokenizer_config.json").read_text()


def test_rates_and_rows_are_gentler_with_a_base_unless_set():
    scratch, plain = load_recipe("small"), load_recipe("small", ['base="x.gguf"'])
    assert scratch.base is None and scratch.pretrain.sequence_length is None
    for section, before in ((plain.pretrain, scratch.pretrain), (plain.finetune, scratch.finetune)):
        assert section.learning_rate < before.learning_rate / 5
        assert section.embedding_learning_rate < before.embedding_learning_rate / 5
        assert section.sequence_length == plain.model.context_length
    chosen = load_recipe("small", ['base="x.gguf"', "pretrain.learning_rate=0.02", "finetune.sequence_length=64"])
    assert chosen.pretrain.learning_rate == 0.02 and chosen.finetune.sequence_length == 64
    rates = [load_recipe("small", [*base, "adapter.method=lora"]).adapter.rate for base in ([], ['base="x.gguf"'])]
    assert rates[1] == pytest.approx(rates[0] / 10)


def held_out(model: Transformer, folder: Path) -> float:
    shards = {name: shard for name, shard in open_shards(folder).items() if name != "train"}
    found = evaluate_shards(model, CausalLM(), shards, sequence_length=256, batch_size=8, max_tokens=8000)
    return sum(result.bits_per_byte for result in found.values()) / len(found)


def test_build_goes_on_from_a_gguf_file_with_its_tokenizer(run, tmp_path):
    """The base that the tiny build made, as a file of llama.cpp's, learns on in a copy of the run's folder."""
    base, folder = load_model(run / "base"), tmp_path / "run"
    path = write_gguf(tmp_path / "base.gguf", base, load_tokenizer(run / "base"))
    shutil.copytree(run / "corpus", folder / "corpus")
    for name in ("recipe.toml", "stages.json"):
        shutil.copy(run / name, folder / name)
    command = ["build", "tiny", "--base", path, "--run", folder, "--until", "pretrain", "--set", "pretrain.steps=40"]
    built = wikigpt(*command)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "= corpus" in built.stdout and f"those of {path}" in built.stdout
    ids = [load_tokenizer(f / "base").encode("长江 is 6300 km long.").ids for f in (run, folder)]
    assert ids[0] == ids[1]
    facts = json.loads((folder / "stages.json").read_text())["pretrain"]["facts"]
    after, before = facts["bits_per_byte"], held_out(base, folder / "tokens")
    assert sum(after.values()) / len(after) < before - 0.01
    first = next(entry["loss"] for entry in read_metrics(folder / "pretrain" / "metrics.jsonl") if "loss" in entry)
    assert first < 0.8 * math.log(base.config.vocab_size)  # it did not begin from noise
    resolved = load_recipe(str(folder / "recipe.toml"))
    assert resolved.base == str(path) and resolved.pretrain.learning_rate < 0.005
    assert wikigpt(*command).stdout.count("unchanged") == 4


def test_a_gguf_file_is_fine_tuned_for_chat(tokenizer, tmp_path):
    path = write_gguf(tmp_path / "b.gguf", random_model("qwen3"), tokenizer, tokenizer__chat_template="{{ messages }}")
    messages = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "巴黎 is a city."}]
    lines = json.dumps({"messages": messages, "lang": "en"}) + "\n"
    (tmp_path / "chats").mkdir()
    for name, times in (("train", 200), ("validation", 5)):
        (tmp_path / "chats" / f"{name}.jsonl").write_text(lines * times)
    command = ["finetune", path, tmp_path / "chats", "-o", tmp_path / "chat", "-r", "tiny", "--quiet"]
    steps = ["--set", "finetune.steps=2"]
    tuned = wikigpt(*command, *steps)
    assert tuned.returncode == 0, tuned.stderr
    ids = torch.randint(0, 600, (1, 30))
    with torch.no_grad():
        moved = (load_model(tmp_path / "chat")(ids) - load_gguf(GGUFFile(path))(ids)).abs().max()
    assert 0 < moved < 2  # from there, not from noise, and gently
    assert (tmp_path / "chat" / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    # What is made of the outcome is taught as gently.
    assert origin_of(tmp_path / "chat") == {"source": "b.gguf"} and origin_of(path)
    again = wikigpt("finetune", tmp_path / "chat", tmp_path / "chats", "-o", tmp_path / "more", *command[5:], *steps)
    assert again.returncode == 0, again.stderr
    rates = [e["run"]["settings"] for e in read_metrics(tmp_path / "more.work" / "metrics.jsonl") if "run" in e]
    assert rates[0]["learning_rate"] == CONTINUED["learning_rate"]


def test_what_was_trained_here_is_nobody_elses(run, tmp_path):
    assert origin_of(run / "base") is None and origin_of(run / "model") is None
    shutil.copytree(run / "base", tmp_path / "theirs")
    (tmp_path / "theirs" / "chat_template.jinja").write_text("{{ messages }}")
    assert origin_of(tmp_path / "theirs") == {"source": "theirs"}


def test_what_is_no_model_is_refused_before_anything_is_written(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03")
    shutil.copytree(run / "base", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    for name, words in (
        ("HuggingFaceTB/SmolLM2-135M", "--download"),  # never fetched without being asked to
        ("empty", r"holds no config\.json"),
        ("bad.gguf", "is damaged"),
        ("pickled", "pickle"),
    ):
        with pytest.raises(UserError, match=words):
            import_model(tmp_path / name, tmp_path / "o")
    for command in (
        ["build", "tiny", "--base", tmp_path / "bad.gguf", "--run", tmp_path / "o"],
        ["pretrain", run / "corpus", "--base", tmp_path / "bad.gguf", "-o", tmp_path / "o"],
    ):
        refused = wikigpt(*command)
        assert refused.returncode == 2 and "is damaged" in refused.stderr, refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
    offline = wikigpt("import", "a/b", "--download", "-o", tmp_path / "o", env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 2 and "a/b cannot be downloaded" in offline.stderr
    both = wikigpt("pretrain", tmp_path, "--base", "x.gguf", "--tokenizer", tmp_path, "-o", tmp_path / "o")
    assert both.returncode == 2 and "either --tokenizer" in both.stderr


@pytest.mark.slow
def test_smollm2_learns_a_wiki(run, tmp_path):
    """Twelve steps of 2,048 tokens on the sample wiki, by the rates of a recipe with a base."""
    path = smollm2()
    (tmp_path / "tokenizer").mkdir()
    save_pretrained_tokenizer(path, tmp_path / "tokenizer")
    tokens(run / "corpus", tmp_path / "tokenizer", tmp_path / "tokens")
    before = held_out(load_pretrained(path, load_tokenizer(tmp_path / "tokenizer")), tmp_path / "tokens")
    settings = load_recipe("tiny", [f'base="{path}"', "pretrain.steps=12", "pretrain.warmup_steps=3"]).pretrain
    pretrain(
        tmp_path / "tokens",
        tmp_path / "tokenizer",
        tmp_path / "work",
        tmp_path / "base",
        model=ModelConfig(),
        settings=settings,
        base=path,
    )
    after = held_out(load_model(tmp_path / "base"), tmp_path / "tokens")
    assert after < before - 0.1, (before, after)
