"""The training loop: learning, packing, exact resume, golden losses, faults."""

import json
import math
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, cpu
from wikigpt.model.transformer import block_causal_attention
from wikigpt.tokens import Shard, open_shards, tokenizer_sha256, write_chat_tokens, write_text_tokens
from wikigpt.tokens.tokenizer import build_tokenizer, load_tokenizer
from wikigpt.train import CausalLM, Chat, MaskedLM, TrainConfig, TrainingError, objectives, read_metrics, train
from wikigpt.train.batches import IGNORE, Packer
from wikigpt.train.checkpoint import checkpoints
from wikigpt.train.machine import Machine, has_amx
from wikigpt.train.optimizers import learning_rate_factor

SENTENCES = ["The cat {} sat on mat {}.", "城市{}的人口是{}。", "Number {} comes before {}."]


def text(i: int) -> str:
    return " ".join(SENTENCES[(i + j) % 3].format(i * 7 % 50, (i * 7 + 1) % 50) for j in range(1 + i % 9))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a tokenizer, text tokens and chat tokens."""
    folder = tmp_path_factory.mktemp("data")
    texts = [text(i) for i in range(400)]
    build_tokenizer(texts, folder / "tokenizer", vocab_size=400, split_cjk=True, max_token_length=16)
    tokenizer = load_tokenizer(folder / "tokenizer")
    checksum = tokenizer_sha256(folder / "tokenizer")
    documents = [("validation" if i % 10 == 0 else "train", t) for i, t in enumerate(texts)]
    write_text_tokens(folder / "tokens", documents, tokenizer, checksum)
    chats = [
        (
            "train",
            [
                {"role": "user", "content": f"What comes after {n}?"},
                {"role": "assistant", "content": f"**{n + 1}**"},
            ],
        )
        for n in range(60)
    ]
    write_chat_tokens(folder / "chat", chats, tokenizer, checksum, max_length=64)
    return folder


def fresh_model(seed=0, family="qwen3") -> Transformer:
    torch.manual_seed(seed)
    shape = {"vocab_size": 400, "n_layers": 2, "d_model": 32, "n_heads": 2, "context_length": 64}
    return Transformer(ModelConfig(family=family, **shape))


def config(**changes) -> TrainConfig:
    base = {"steps": 30, "batch_size": 8, "precision": "fp32", "compile": "off", "warmup_steps": 5}
    return TrainConfig(**{**base, "evaluate_every": 1000, "evaluation_tokens": 2000, **changes})


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_metrics(folder / "metrics.jsonl") if "loss" in e]


def test_learns_and_reports_bits_per_byte(data, tmp_path):
    shards = open_shards(data / "tokens")
    result = train(fresh_model(), CausalLM(), shards, config(steps=120), tmp_path)
    history = losses(tmp_path)
    assert history[0] == pytest.approx(math.log(400), rel=0.02)  # uniform at the start
    assert history[-1] < 1.6
    held_out = result.held_out["validation"]
    targets_per_byte = len(shards["validation"].tokens) / shards["validation"].n_bytes
    assert held_out.bits_per_byte == pytest.approx(held_out.nats_per_target * targets_per_byte / math.log(2))
    assert held_out.bits_per_byte < 1.2


def test_golden_losses(data, tmp_path):
    """The same seed, data and settings give these losses in fp32; a change here changes training."""
    golden = json.loads((Path(__file__).parent / "golden_losses.json").read_text())
    masked = MaskedLM.of(load_tokenizer(data / "tokenizer"))
    for name, family, objective, tokens in (
        ("causal_lm", "qwen3", CausalLM(), "tokens"),
        ("chat", "qwen3", Chat(), "chat"),
        ("causal_lm llama", "llama", CausalLM(), "tokens"),
        ("causal_lm gpt2", "gpt2", CausalLM(), "tokens"),
        ("masked_lm bert", "bert", masked, "tokens"),
    ):
        train(fresh_model(family=family), objective, open_shards(data / tokens), config(), tmp_path / name)
        got = losses(tmp_path / name)
        assert [got[i] for i in (0, 9, 19, 29)] == pytest.approx(golden[name], abs=0.02), name


def test_accumulation_does_not_change_the_loss(data, tmp_path):
    shards = open_shards(data / "chat")
    for name, micro in (("whole", None), ("pieces", 2)):
        train(fresh_model(), Chat(), shards, config(steps=6, micro_batch_size=micro), tmp_path / name)
    assert losses(tmp_path / "pieces") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def test_resume_after_a_stop_continues_bit_for_bit(data, tmp_path):
    shards = open_shards(data / "tokens")
    train(fresh_model(), CausalLM(), shards, config(), tmp_path / "straight")

    calls = 0

    def stop_at_12(done: int, total: int, message: str) -> None:
        nonlocal calls
        calls += 1
        if done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(fresh_model(), CausalLM(), shards, config(), tmp_path / "stopped", progress=stop_at_12)
    assert len(losses(tmp_path / "stopped")) < 30
    train(fresh_model(seed=9), CausalLM(), shards, config(), tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")


def test_damaged_checkpoint_is_passed_over_for_the_one_before(data, tmp_path):
    shards = open_shards(data / "tokens")
    train(fresh_model(), CausalLM(), shards, config(steps=10, checkpoint_seconds=0.001), tmp_path)
    newest, older = checkpoints(tmp_path / "checkpoints")
    damaged = bytearray((newest / "model.safetensors").read_bytes())
    damaged[-10] ^= 1  # safetensors itself does not notice
    (newest / "model.safetensors").write_bytes(damaged)
    before = losses(tmp_path)
    train(fresh_model(), CausalLM(), shards, config(steps=10), tmp_path)
    messages = [e["message"] for e in read_metrics(tmp_path / "metrics.jsonl") if "message" in e]
    assert any("step-10: model.safetensors does not match its checksum" in m for m in messages)
    assert losses(tmp_path) == before
    assert older.name == "step-9"


def test_checkpoints_of_other_settings_are_not_resumed(data, tmp_path):
    shards = open_shards(data / "tokens")
    train(fresh_model(), CausalLM(), shards, config(steps=20), tmp_path)
    changed = config(steps=8, learning_rate=0.01, checkpoint_seconds=0.001)
    train(fresh_model(), CausalLM(), shards, changed, tmp_path)
    assert len(losses(tmp_path)) == 8
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-8", "step-7"]


def test_a_finished_run_of_another_origin_is_not_taken_for_this_one(data, tmp_path):
    """Fine-tuning from a new base must not return what the old base became."""
    shards = open_shards(data / "tokens")
    old, new = fresh_model(), fresh_model(seed=9)
    train(old, CausalLM(), shards, config(), tmp_path, origin="old base")
    train(new, CausalLM(), shards, config(), tmp_path, origin="new base")
    train(expected := fresh_model(seed=9), CausalLM(), shards, config(), tmp_path / "alone")
    assert torch.equal(new.lm_head.weight, expected.lm_head.weight)
    assert not torch.equal(new.lm_head.weight, old.lm_head.weight)


def test_a_complete_run_called_again_takes_no_step_and_reports_the_same(data, tmp_path):
    shards = open_shards(data / "tokens")
    first = train(fresh_model(), CausalLM(), shards, config(), tmp_path)
    again = train(fresh_model(seed=9), CausalLM(), shards, config(), tmp_path)
    assert again.state == first.state and again.held_out == first.held_out
    assert math.isfinite(again.tokens_per_second) and again.tokens_per_second > 0


def test_time_budget_fixes_its_end_and_decays_to_it(data, tmp_path):
    begin = time.monotonic()
    result = train(fresh_model(), CausalLM(), open_shards(data / "tokens"), config(steps=None, minutes=0.05), tmp_path)
    assert 2 < time.monotonic() - begin < 9
    assert result.state.step == result.state.total_steps
    rates = [e["learning_rate"] for e in read_metrics(tmp_path / "metrics.jsonl") if "loss" in e]
    assert rates[-1] < 0.1 * max(rates)
    share = (result.state.total_steps - result.state.decay_start) / result.state.total_steps
    assert 0.2 < share < 0.6


def test_nan_is_skipped_then_stops_with_a_clear_word(data, tmp_path):
    model = fresh_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    with pytest.raises(TrainingError, match="not finite 5 steps in a row"):
        train(model, CausalLM(), open_shards(data / "tokens"), config(), tmp_path)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


def test_unusable_data_is_refused_before_training(data, tmp_path):
    shards = open_shards(data / "tokens")
    small = Transformer(ModelConfig(vocab_size=300, n_layers=1, d_model=32, n_heads=2, context_length=64))
    with pytest.raises(UserError, match="knows only 300 tokens"):
        train(small, CausalLM(), shards, config(), tmp_path)
    short = {"train": Shard("train", shards["train"].tokens[:50], np.array([0, 50]), None, 50)}
    with pytest.raises(UserError, match="only 50 tokens"):
        train(fresh_model(), CausalLM(), short, config(), tmp_path)
    with pytest.raises(UserError, match="no 'train' split"):
        train(fresh_model(), CausalLM(), {}, config(), tmp_path)
    with pytest.raises(UserError, match="another tokenizer"):
        open_shards(data / "tokens", tokenizer_sha256="0" * 64)
    with pytest.raises(ValueError, match="either minutes or steps"):
        TrainConfig()


def test_conversation_longer_than_the_context_is_left_out_and_counted(data, tmp_path):
    tokenizer = load_tokenizer(data / "tokenizer")
    chats = [("train", [{"role": "user", "content": "a" * n}, {"role": "assistant", "content": "b"}]) for n in (5, 500)]
    manifest = write_chat_tokens(tmp_path / "chat", chats, tokenizer, "x", max_length=64)
    assert manifest["dropped"] == {"too_long": 1, "nothing_to_learn": 0}
    assert manifest["splits"]["train"]["documents"] == 1


def make_shard(sizes: list[int], masked: bool) -> Shard:
    """Token n of the shard is n + 1, so that a token says where it came from."""
    total = sum(sizes)
    offsets = np.cumsum([0, *sizes]).astype(np.uint64)
    mask = (np.arange(total) % 3 == 0).astype(np.uint8) if masked else None
    return Shard("train", np.arange(1, total + 1, dtype=np.uint32), offsets, mask, total)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(8, 40), st.integers(0, 5))
def test_streaming_packer_uses_every_token_once_an_epoch(sizes, length, seed):
    packer = Packer(make_shard(sizes, masked=False), length, seed=seed, whole_documents=False)
    batch = packer.rows(0, packer.rows_per_epoch)
    used = batch.input_ids[batch.document_ids >= 0]
    assert sorted(used.tolist()) == list(range(1, sum(sizes) + 1))
    assert packer.rows_per_epoch == math.ceil(sum(sizes) / length)  # no gap anywhere
    real = batch.targets != IGNORE
    assert torch.equal(batch.targets[real], batch.input_ids[real] + 1)
    assert int(real.sum()) == sum(sizes) - 1  # all but the very last token have a next one


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 90), st.integers(0, 5))
def test_whole_document_packer_never_cuts_and_masks_targets(sizes, length, seed):
    shard = make_shard(sizes, masked=True)
    packer = Packer(shard, length, seed=seed, whole_documents=True)
    batch = packer.rows(0, packer.rows_per_epoch)
    seen = []
    for row_ids, row_docs in zip(batch.input_ids, batch.document_ids, strict=True):
        for number in row_docs.unique().tolist():
            if number >= 0:
                ids = row_ids[row_docs == number].tolist()
                start = int(np.searchsorted(shard.offsets, ids[0] - 1))
                assert ids == list(range(int(shard.offsets[start]) + 1, int(shard.offsets[start + 1]) + 1))
                seen.append(start)
    assert sorted(seen) == list(range(len(sizes)))
    real = batch.targets != IGNORE
    assert (shard.mask[batch.targets[real].numpy() - 1] == 1).all()


def test_rows_are_a_function_of_seed_and_number_alone():
    shard = make_shard([7, 30, 12, 5, 22] * 20, masked=False)
    packer = Packer(shard, 16, seed=3, whole_documents=False)
    n = packer.rows_per_epoch
    a = packer.rows(2 * n - 3, 6)
    other = Packer(shard, 16, seed=3, whole_documents=False)
    b = [other.rows(2 * n - 3 + i, 1) for i in reversed(range(6))][::-1]
    assert torch.equal(a.input_ids, torch.cat([x.input_ids for x in b]))
    assert not torch.equal(packer.rows(0, n).input_ids, packer.rows(n, n).input_ids)  # reshuffled


def test_schedule_warms_up_stays_and_falls():
    factors = [learning_rate_factor(s, 10, 60, 100) for s in range(100)]
    assert factors[0] < 0.1 and factors[10] == 1.0
    assert factors[10:60] == [1.0] * 50
    assert factors[60:] == sorted(factors[60:], reverse=True) and factors[-1] < 0.05
    assert learning_rate_factor(5000, 10, None, None) == 1.0


def test_compiled_training_matches_eager(data, tmp_path):
    shards = open_shards(data / "tokens")
    train(fresh_model(), CausalLM(), shards, config(steps=4, compile="on", precision="bf16"), tmp_path / "c")
    train(fresh_model(), CausalLM(), shards, config(steps=4, precision="bf16"), tmp_path / "e")
    assert losses(tmp_path / "c") == pytest.approx(losses(tmp_path / "e"), rel=0.02)


def test_cosine_falls_to_nothing_and_needs_to_know_where_it_ends():
    factors = [learning_rate_factor(s, 10, 60, 100, "cosine") for s in range(100)]
    assert factors[:10] == [(s + 1) / 11 for s in range(10)] and factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5) and 0 < factors[99] < 0.001
    assert all(a > b for a, b in pairwise(factors[10:]))
    with pytest.raises(ValueError, match="needs steps"):
        TrainConfig(minutes=1, schedule="cosine")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (3, 7, 5, 11), (2, 64, 32, 300)])
def test_chunked_cross_entropy_is_the_plain_one(shape, bias, monkeypatch):
    """With its gradients, whatever fits into a chunk; ignored positions have none."""
    monkeypatch.setattr(objectives, "CHUNK_LOGITS", 7 * shape[3])
    torch.manual_seed(0)
    rows, tokens, width, vocab = shape
    inputs = [torch.randn(rows, tokens, width), torch.randn(vocab, width), torch.randn(vocab) if bias else None]
    targets = torch.randint(vocab, (rows, tokens))
    targets[0, : tokens // 2] = IGNORE
    outcomes = []
    for function in (objectives.summed_cross_entropy, objectives.chunked_cross_entropy):
        leaves = [None if x is None else x.clone().requires_grad_() for x in inputs]
        loss = function(leaves[0], leaves[1], targets, leaves[2])
        (loss / 3).backward()
        outcomes.append([loss.detach(), *(x.grad for x in leaves if x is not None)])
    for plain, chunked in zip(*outcomes, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-4, atol=1e-5)
    assert (outcomes[1][1][0, : tokens // 2] == 0).all()


def test_every_cross_entropy_learns_the_same(data, tmp_path):
    shards = open_shards(data / "tokens")
    for kind in ("plain", "chunked", "auto"):
        train(fresh_model(), CausalLM(), shards, config(steps=5, cross_entropy=kind), tmp_path / kind)
    for kind in ("chunked", "auto"):
        assert losses(tmp_path / kind) == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)


@pytest.mark.skipif(not cpu.available(), reason=cpu.unavailable_because())
def test_fused_operators_learn_the_same(data, tmp_path):
    shards = open_shards(data / "tokens")
    for operators in ("auto", "plain"):
        model = fresh_model()
        result = train(model, CausalLM(), shards, config(operators=operators), tmp_path / operators)
        assert result.state.fused == (operators == "auto")
        attend = model.model.layers[0].self_attn.attend
        assert attend is block_causal_attention, "what was trained can be moved to another device"
    fused, plain = losses(tmp_path / "auto"), losses(tmp_path / "plain")
    assert fused == pytest.approx(plain, rel=1e-3)
    assert fused != plain, "two ways of computing do not agree to the last bit"


def test_where_the_processor_has_bf16_other_work_does_not_decide_the_precision(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"amx_bf16": has}, raising=False)
        assert has_amx() == has
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not has_amx()
    spoilt = {"device": "cpu", "fp32_gflops": 100.0, "bf16_gflops": 9.0, "can_compile": True}
    assert Machine(**spoilt).precision == "fp32" and Machine(**spoilt, bf16_is_native=True).precision == "bf16"
