"""Distillation: its losses and gradients, resuming, what a teacher is worth, and where answers come from."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import Shard
from wikigpt.train import Chat, Distill, HiddenStates, TrainConfig, distill, read_metrics, train
from wikigpt.train.batches import IGNORE, Batch
from wikigpt.train.checkpoint import checkpoints

VOCAB = 50


def model(seed: int, width: int = 32, layers: int = 2, vocab: int = VOCAB) -> Transformer:
    torch.manual_seed(seed)
    made = Transformer(
        ModelConfig(vocab_size=vocab, n_layers=layers, d_model=width, n_heads=2, context_length=64, tie_embeddings=True)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def batch(rows: int = 3, tokens: int = 20) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCAB, (rows, tokens), generator=generator)
    targets = torch.where(torch.rand(ids.shape, generator=generator) < 0.6, ids.roll(-1, 1), IGNORE)
    return Batch(ids, targets, (torch.arange(tokens) // 8).expand(rows, tokens).contiguous())


def by_the_book(student: Transformer, objective: Distill, rows: Batch) -> torch.Tensor:
    """The loss from whole logits by torch's own functions."""
    where = rows.targets != IGNORE
    logits = student(rows.input_ids, rows.document_ids)[where]
    t = objective.temperature
    with torch.no_grad():
        teacher = objective.teacher(rows.input_ids, rows.document_ids)[where][:, : logits.shape[1]]
        teacher = (teacher / t).log_softmax(-1)
    own = (logits / t).log_softmax(-1)
    pair = (own, teacher) if objective.divergence == "forward" else (teacher, own)
    kl = F.kl_div(*pair, log_target=True, reduction="sum")
    ce = F.cross_entropy(logits, rows.targets[where], reduction="sum")
    return (1 - objective.mix) * ce + objective.mix * t**2 * kl


def gradients(student: Transformer, loss: torch.Tensor) -> list[torch.Tensor]:
    student.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in student.parameters()]


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize(("temperature", "mix"), [(1.0, 0.5), (2.5, 0.3), (0.7, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("chunk", [distill.CHUNK_LOGITS, 7 * VOCAB])
def test_loss_and_gradients_are_those_of_whole_logits(monkeypatch, divergence, temperature, mix, chunk):
    monkeypatch.setattr(distill, "CHUNK_LOGITS", chunk)
    student, teacher, rows = model(0), model(1, width=48, vocab=VOCAB + 6), batch()
    objective = Distill(teacher=teacher, divergence=divergence, temperature=temperature, mix=mix)
    loss, expected = objective.loss(student, rows), by_the_book(student, objective, rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients(student, 3 * loss), gradients(student, 3 * expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_under_autocast_the_loss_stays_near_and_both_models_are_in_bf16():
    student, teacher, rows = model(0), model(1), batch()
    objective = Distill(teacher=teacher, temperature=2.0)
    expected = objective.loss(student, rows).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.loss(student, rows)
    assert loss.item() != expected and loss.item() == pytest.approx(expected, rel=0.02)
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients(student, loss))


def test_held_out_is_plain_cross_entropy_and_rows_without_targets_cost_nothing():
    student, objective, rows = model(0), Distill(teacher=model(1)), batch()
    assert objective.evaluated.loss(student, rows).item() == Chat().loss(student, rows).item()
    assert objective.loss(student, rows).item() != pytest.approx(Chat().loss(student, rows).item(), rel=0.01)
    empty = Batch(rows.input_ids, torch.full_like(rows.targets, IGNORE), rows.document_ids)
    loss = objective.loss(student, empty)
    assert loss.item() == 0 and not any(g.any() for g in gradients(student, loss))


def test_hidden_states_are_compared_through_the_best_linear_map():
    teacher, rows = model(1, width=48, layers=4), batch(8, 40)
    student = model(0)
    fitted = HiddenStates.fitted(student, teacher, rows)
    assert fitted.layers == ((0, 1), (1, 3)) and [p.shape for p in fitted.projections] == [(32, 48)] * 2
    where = rows.targets != IGNORE
    own, others = [], []
    student.model(rows.input_ids, rows.document_ids, states=own)
    with torch.no_grad():
        teacher.model(rows.input_ids, rows.document_ids, states=others)
    loss = fitted.loss(own, others, where)
    # By the formula, with numpy's own least squares in the place of ours.
    expected = 0.0
    for (i, j), projection in zip(fitted.layers, fitted.projections, strict=True):
        x, y = own[i].detach().flatten(0, 1), others[j].flatten(0, 1)
        best = torch.linalg.lstsq(x.double(), y.double()).solution.float()
        torch.testing.assert_close(x @ projection, x @ best, atol=0.02, rtol=0.02)
        error = (own[i][where] @ projection - others[j][where]).square().mean(-1).sum()
        expected += error.item() / y.square().mean().item() / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert 0 < loss.item() < where.sum()  # better than knowing nothing, which is 1 a row
    twin = HiddenStates.fitted(teacher, teacher, rows)
    assert twin.loss(others, others, where).item() == pytest.approx(0, abs=0.01)
    whole = Distill(teacher=teacher, hidden=fitted, mix=0.5).loss(student, rows)
    without = Distill(teacher=teacher, mix=0.5).loss(student, rows)
    assert whole.item() == pytest.approx(without.item() + loss.item(), rel=1e-5)
    assert any(g.any() for g in gradients(student, whole - without))


# --- In the training loop ---


def counting(n: int, length: int, seed: int) -> Shard:
    """Texts that go on by a rule with chance in it: the next token is 1, 2 or 3 further on, likelier the nearer."""
    random = np.random.default_rng(seed)
    steps = random.choice([1, 2, 3], (n, length), p=[0.6, 0.3, 0.1])
    tokens = (steps.cumsum(1) % VOCAB).astype(np.uint16).ravel()
    offsets = np.arange(0, len(tokens) + 1, length).astype(np.uint64)
    return Shard("train", tokens, offsets, np.ones(len(tokens), np.uint8), len(tokens))


def settings(**changes) -> TrainConfig:
    fixed = {"batch_size": 4, "precision": "fp32", "compile": "off", "operators": "plain", "warmup_steps": 2}
    return TrainConfig(**{**fixed, "evaluate_every": 1000, "samples": [], **changes})


def test_a_run_killed_goes_on_bit_for_bit(tmp_path):
    """With hidden states, too: their projections are solved for anew and come out the same."""
    teacher, shards = model(1), {"train": counting(40, 32, 0), "validation": counting(8, 32, 1)}

    def run() -> tuple[list[tuple[int, float]], bytes]:
        student = model(0)
        hidden = HiddenStates.fitted(student, teacher, Chat().packer(shards["train"], 64, 0).rows(0, 2))
        objective = Distill(teacher=teacher, temperature=2.0, hidden=hidden)
        train(student, objective, shards, settings(steps=8, checkpoint_seconds=1e-9), tmp_path)
        losses = [(e["step"], e["loss"]) for e in read_metrics(tmp_path / "metrics.jsonl") if "loss" in e]
        return losses, (tmp_path / "checkpoints" / "step-8" / "model.safetensors").read_bytes()

    straight = run()
    shutil.rmtree(tmp_path / "checkpoints" / "step-8")  # as if killed after step 7
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-7"]
    assert run() == straight and len(straight[0]) == 8


def test_a_student_with_a_teacher_beats_one_without(tmp_path):
    """On few texts: the teacher saw many, and its probabilities say more than the tokens that happened to come."""
    many, held_out = counting(600, 33, 0), counting(60, 33, 1)
    few = {"train": counting(12, 33, 2), "validation": held_out}
    teacher = model(5)
    train(teacher, Chat(), {"train": many}, settings(steps=60, batch_size=16), tmp_path / "teacher")
    losses = {}
    for name, objective in {
        "alone": Chat(),
        "forward": Distill(teacher=teacher, mix=0.9),
        "reverse": Distill(teacher=teacher, mix=0.9, divergence="reverse"),
    }.items():
        result = train(model(0), objective, few, settings(steps=40), tmp_path / name)
        losses[name] = result.held_out["validation"].nats_per_target
    assert losses["forward"] < losses["alone"] - 0.1
    assert losses["reverse"] < losses["alone"] - 0.1
