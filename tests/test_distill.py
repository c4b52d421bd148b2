"""Distillation: its losses and gradients, resuming, what a teacher is worth, and where answers come from."""

import copy
import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.chat.engine import Engine
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, cpu, save_model
from wikigpt.tokens import Shard
from wikigpt.tokens.tokenizer import build_tokenizer, load_tokenizer
from wikigpt.train import Chat, Distill, HiddenStates, TrainConfig, chunks, distill, read_metrics, train
from wikigpt.train.batches import IGNORE, Batch
from wikigpt.train.checkpoint import checkpoints
from wikigpt.train.distill import narrowed
from wikigpt.train.tuning import DistillConfig
from wikigpt.tune import answers
from wikigpt.tune import distill as distill_stage
from wikigpt.tune.answers import ServerTeacher, Task, answer

VOCAB = 50


def model(seed: int, width: int = 32, layers: int = 2, vocab: int = VOCAB, context: int = 64) -> Transformer:
    torch.manual_seed(seed)
    shape = {"n_layers": layers, "d_model": width, "n_heads": 2, "context_length": context}
    made = Transformer(ModelConfig(vocab_size=vocab, **shape))
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
    where = torch.ones_like(rows.targets, dtype=torch.bool) if objective.prompts else rows.targets != IGNORE
    logits = student(rows.input_ids, rows.document_ids)[where]
    t = objective.temperature
    with torch.no_grad():
        teacher = objective.teacher(rows.input_ids, rows.document_ids)[where][:, : logits.shape[1]]
        teacher = (teacher / t).log_softmax(-1)
    own = (logits / t).log_softmax(-1)
    pair = (own, teacher) if objective.divergence == "forward" else (teacher, own)
    weights = torch.where(rows.targets[where] == IGNORE, objective.prompts, 1.0)
    kl = (weights[:, None] * F.kl_div(*pair, log_target=True, reduction="none")).sum()
    ce = F.cross_entropy(logits, rows.targets[where], reduction="sum", ignore_index=IGNORE)
    return (1 - objective.mix) * ce + objective.mix * t**2 * kl


def gradients(student: Transformer, loss: torch.Tensor) -> list[torch.Tensor]:
    student.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in student.parameters()]


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize(("temperature", "mix"), [(1.0, 0.5), (2.5, 0.3), (0.7, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize(("chunk", "prompts"), [(64, 0.0), (5, 0.0), (7, 0.3)])
def test_loss_and_gradients_are_those_of_whole_logits(monkeypatch, divergence, temperature, mix, chunk, prompts):
    monkeypatch.setattr(distill, "chunk_rows", lambda head: chunk)
    monkeypatch.setattr(chunks, "CHUNK_LOGITS", 3 * VOCAB)
    student, teacher, rows = model(0), model(1, width=48, vocab=VOCAB + 6), batch()
    objective = Distill(teacher=teacher, divergence=divergence, temperature=temperature, mix=mix, prompts=prompts)
    loss, expected = objective.loss(student, rows), by_the_book(student, objective, rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients(student, 3 * loss), gradients(student, 3 * expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
def test_a_head_that_is_not_trained_gets_no_gradient_and_the_rest_the_same(divergence):
    student, rows = model(0), batch()
    student.lm_head.weight = torch.nn.Parameter(student.lm_head.weight.detach().clone())
    objective = Distill(teacher=model(1), divergence=divergence)
    whole = gradients(student, objective.loss(student, rows))
    head = student.lm_head.weight.requires_grad_(False)
    student.zero_grad()
    objective.loss(student, rows).backward()
    for parameter, gradient in zip(student.parameters(), whole, strict=True):
        assert parameter.grad is None if parameter is head else torch.equal(parameter.grad, gradient)


def test_under_autocast_the_loss_stays_near_and_both_models_are_in_bf16():
    student, teacher, rows = model(0), model(1), batch()
    objective = Distill(teacher=teacher, temperature=2.0)
    expected = objective.loss(student, rows).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.loss(student, rows)
    assert loss.item() != expected and loss.item() == pytest.approx(expected, rel=0.02)
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients(student, loss))


@pytest.mark.parametrize("fused", [False, True])
def test_a_teacher_takes_half_the_memory_under_autocast_and_thinks_the_same(fused):
    if fused and not cpu.available():
        pytest.skip(cpu.unavailable_because())
    teacher, rows = model(1), batch()
    with torch.no_grad():  # the product's type rounds the matrices anyway; here the embedding, too
        for module in (teacher.model.embed_tokens, teacher.lm_head):
            module.weight.copy_(module.weight.bfloat16())
    kept, small = copy.deepcopy(teacher), copy.deepcopy(teacher)
    kept.fuse(fused)
    small.fuse(fused)
    matrices = [p for p in small.parameters() if p.dim() > 1]
    assert narrowed(small) is small and all(p.dtype == torch.float32 for p in matrices)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        narrowed(small)
        own, others = (m.model(rows.input_ids, rows.document_ids) for m in (small, kept))
    assert all(p.dtype == (torch.bfloat16 if p.dim() > 1 else torch.float32) for p in small.parameters())
    assert small.lm_head.weight is small.model.embed_tokens.weight and small.can_fuse()
    assert own.dtype == torch.float32 and torch.equal(own, others)


def test_held_out_is_plain_cross_entropy_and_rows_without_targets_cost_nothing():
    student, objective, rows = model(0), Distill(teacher=model(1)), batch()
    conversations = Shard("en", np.zeros(0), np.zeros(1), np.zeros(0), 0)
    measure = objective.held_out(conversations)
    assert measure.loss(student, rows)[0].item() == Chat().loss(student, rows).item()
    assert objective.loss(student, rows).item() != pytest.approx(Chat().loss(student, rows).item(), rel=0.01)
    empty = Batch(rows.input_ids, torch.full_like(rows.targets, IGNORE), rows.document_ids)
    loss = objective.loss(student, empty)
    assert loss.item() == 0 and not any(g.any() for g in gradients(student, loss))
    assert measure.loss(student, empty).tolist() == [0, 0, 0]


def compared(hidden: HiddenStates, student: list, teacher: list, where: torch.Tensor) -> torch.Tensor:
    comparison = hidden.compare([states[where] for states in teacher], where)
    for states in student:
        comparison(states)
    assert not comparison.teacher  # all forgotten
    return comparison.loss


def test_hidden_states_are_compared_through_the_best_linear_map():
    teacher, rows = model(1, width=48, layers=4), batch(8, 40)
    student = model(0)
    fitted = HiddenStates.fitted(student, teacher, rows)
    assert fitted.layers == ((0, 1), (1, 3)) and [p.shape for p in fitted.projections] == [(32, 48)] * 2
    where = rows.targets != IGNORE
    own, others = [], []
    student.model(rows.input_ids, rows.document_ids, watch=own.append)
    with torch.no_grad():
        teacher.model(rows.input_ids, rows.document_ids, watch=others.append)
    loss = compared(fitted, own, others, where)
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
    assert compared(twin, others, others, where).item() == pytest.approx(0, abs=0.01)
    with torch.autocast("cpu", torch.bfloat16):
        found = compared(fitted, own, others, where)
    assert found.item() == loss.item()
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
    many, held_out = counting(300, 32, 0), counting(30, 32, 1)
    few = {"train": counting(10, 32, 2), "validation": held_out}
    teacher = model(5)
    train(teacher, Chat(), {"train": many}, settings(steps=30, batch_size=8), tmp_path / "teacher")
    losses = {}
    for name, objective in {
        "alone": Chat(),
        "forward": Distill(teacher=teacher, mix=0.9),
        "reverse": Distill(teacher=teacher, mix=0.9, divergence="reverse"),
    }.items():
        result = train(model(0), objective, few, settings(steps=25), tmp_path / name)
        losses[name] = result.held_out["validation"].nats_per_target
    assert losses["forward"] < losses["alone"] - 0.1
    assert losses["reverse"] < losses["alone"] - 0.1


# --- The stage ---


QUESTIONS = [f"What comes after {n}?" for n in range(24)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Conversations, and the models `student`, `teacher` and `stranger`, which has another tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "conversations").mkdir()
    for name, questions in (("train", QUESTIONS), ("validation", QUESTIONS[:4])):
        with (folder / "conversations" / f"{name}.jsonl").open("w") as file:
            for i, question in enumerate(questions):
                turns = [("user", question), ("assistant", f"It is {i + 1}."), ("user", "Sure?"), ("assistant", "Yes.")]
                messages = [{"role": role, "content": content} for role, content in turns[: 4 if i % 3 == 0 else 2]]
                file.write(json.dumps({"messages": messages, "lang": "en", "task": "count"}) + "\n")
    for name, seed, width, vocab in (("student", 0, 32, 300), ("teacher", 1, 48, 300), ("stranger", 1, 48, 310)):
        build_tokenizer(
            [*QUESTIONS, "It is 12. Sure? Yes, quite sure."] * 3,
            folder / f"{name}-tokenizer",
            vocab_size=vocab,
            split_cjk=True,
            max_token_length=16 if vocab == 300 else 4,
        )
        size = load_tokenizer(folder / f"{name}-tokenizer").get_vocab_size()
        save_model(model(seed, width, vocab=size, context=128), folder / name, tokenizer=folder / f"{name}-tokenizer")
    return folder


def distilled(data: Path, output: Path, teacher: str = "", student: str = "student", **changes):
    model, adapter = changes.pop("teacher_model", None), changes.pop("adapter", None)
    base = settings(steps=4, sequence_length=64).model_dump()
    return distill_stage(
        teacher or str(data / "teacher"),
        data / student,
        data / "conversations",
        output.with_name(f"{output.name}.work"),
        output,
        settings=DistillConfig(**{**base, "answer_tokens": 6, **changes}),
        teacher_model=model,
        adapter=adapter,
        seed=1,
    )


@pytest.mark.parametrize("kind", ["forward", "hidden", "on-policy", "sequence"])
def test_each_kind_makes_a_model_and_going_on_gives_the_same(data, tmp_path, kind):
    more = {"rounds": 2, "round_prompts": 12, "answer_temperature": 1.0} if kind == "on-policy" else {}
    # So hot that even an untrained teacher comes to an end now and then.
    hot = {"answer_tokens": 50, "answer_temperature": 10.0, "sequence_length": 128}
    more = hot if kind == "sequence" else more
    facts = distilled(data, tmp_path / "model", kind=kind, **more)
    assert facts["kind"] == kind and facts["teacher"] == "teacher" and facts["held_out_loss"]["en"] > 0
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert weights != (data / "student" / "model.safetensors").read_bytes()
    work = tmp_path / "model.work"
    assert (work / "report.html").is_file()
    logged = [entry["step"] for entry in read_metrics(work / "metrics.jsonl") if "loss" in entry]
    assert logged == [1, 2, 3, 4]  # of rounds, too
    if kind == "on-policy":  # as if killed in the second round, with half of an answer on its way to the disk
        second = next(work.glob("rounds-*/2"))
        answers = (second / "answers.jsonl").read_bytes()
        assert len(answers.splitlines()) == 12 and all(b"messages" in line for line in answers.splitlines())
        for name in ("model", "tokens", "checkpoints"):
            shutil.rmtree(second / name)
        (second / "answers.jsonl").write_bytes(answers[:-20])
    if kind == "sequence":
        said = [json.loads(line) for line in (work / "conversations" / "train.jsonl").read_text().splitlines()]
        assert facts["answered"] == len(said) > 3 and facts["answered"] + facts["unanswered"] == len(QUESTIONS)
        given = {q: i for i, q in enumerate(QUESTIONS)}
        for entry in said:
            asked = [m["content"] for m in entry["messages"] if m["role"] == "user"]
            assert asked[1:] == (["Sure?"] if given[asked[0]] % 3 == 0 else [])
            assert all(m["content"] not in (f"It is {given[asked[0]] + 1}.", "Yes.") for m in entry["messages"])
        assert (work / "conversations" / "validation.jsonl").read_bytes() == (
            data / "conversations" / "validation.jsonl"
        ).read_bytes()
    shutil.rmtree(tmp_path / "model")
    assert distilled(data, tmp_path / "model", kind=kind, **more)["steps"] == facts["steps"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights


def test_an_adapter_of_the_student_learns_from_the_teacher(data, tmp_path):
    before = (data / "student" / "model.safetensors").read_bytes()
    facts = distilled(data, tmp_path / "adapter", adapter=AdapterSettings(method="lora", rank=2))
    assert facts["trained_share"] < 0.2 and facts["held_out_loss"]["en"] > 0
    assert (data / "student" / "model.safetensors").read_bytes() == before
    changed = safetensors.torch.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in changed.items() if "lora_B" in name)
    assert Engine.from_folder(tmp_path / "adapter").generate([QUESTIONS[0]], max_new_tokens=2)[0].prompt_tokens


def test_teachers_that_will_not_do(data, tmp_path):
    def refused(match: str, **changes) -> None:
        with pytest.raises(UserError, match=match):
            distilled(data, tmp_path / "model", **changes)
        assert not (tmp_path / "model").exists()

    refused("same model", teacher=str(data / "student" / ".." / "student"))
    refused("no file or folder", teacher=str(data / "nobody"))
    refused("another tokenizer.*--kind sequence", teacher=str(data / "stranger"))
    refused("gives answers, not the probabilities", teacher="https://localhost:1/v1")
    refused("--teacher-model", teacher="https://localhost:1/v1", kind="sequence")
    refused(r"no pair \(0, 7\)", kind="hidden", hidden_layers=[(0, 7)])
    refused("fewer than distill.rounds", kind="on-policy", rounds=9)


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that is told what to answer with: texts, or HTTP errors."""

    def __init__(self, reply):
        self.reply, self.asked, self.at_once, self.most_at_once = reply, [], 0, 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append((self.path, self.headers["Authorization"], body))
            number = len(server.asked)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        time.sleep(0.005)
        status, text = server.reply(number, body)
        if status == 0:  # hangs up
            self.close_connection = True
            self.connection.close()
        else:
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            answer = answer if status == 200 else {"error": {"message": text}}
            data = b"<html>" if text is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)
        with server.lock:
            server.at_once -= 1

    def log_message(self, *_):
        pass


def test_a_server_that_fails_now_and_then_answers_all(data, tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("WIKIGPT_TEACHER_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "not for them")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)

    def reply(number, body):
        last = body["messages"][-1]["content"]
        if last == QUESTIONS[5]:
            return 400, "this prompt is filtered"
        return [(429, "slow down"), (503, "restarting"), (0, "")][number % 3] if number % 4 == 0 else (200, f"<{last}>")

    with Server(reply) as server:
        facts = distilled(data, tmp_path / "model", server.url, kind="sequence", teacher_model="big", requests=3)
    assert facts["answered"] == len(QUESTIONS) - 1 and facts["unanswered"] == 1
    assert 1 < server.most_at_once <= 3
    paths, keys, bodies = zip(*server.asked, strict=True)
    assert set(paths) == {"/v1/chat/completions"} and set(keys) == {"Bearer secret"}
    assert all(body["model"] == "big" and body["max_tokens"] == 6 for body in bodies)
    lines = (tmp_path / "model.work" / "conversations" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == QUESTIONS[:5] + QUESTIONS[6:]
    for line in lines:
        messages = json.loads(line)["messages"]
        assert all(b["content"] == f"<{a['content']}>" for a, b in zip(messages[::2], messages[1::2], strict=True))
    # The second turn was asked after what the teacher, not the data, had said in the first.
    assert any(len(b["messages"]) == 3 and b["messages"][1]["content"].startswith("<") for b in bodies)


@pytest.mark.parametrize(
    ("status", "text", "word"),
    [
        (401, "bad key", "refuses the key.*WIKIGPT_TEACHER_KEY"),
        (404, "no such model", "knows no model 'big'"),
        (429, "no credit", "too many requests"),
        (500, "broken", "failed"),
        (0, "", "cannot be reached"),
        (200, None, "not in OpenAI's form"),
    ],
)
def test_what_was_answered_before_a_server_fails_is_not_asked_again(data, tmp_path, monkeypatch, status, text, word):
    pytest.importorskip("openai")
    monkeypatch.setattr(answers, "RETRIES", 1)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    tasks = [Task.whole([{"role": "user", "content": q}, {"role": "assistant", "content": ""}]) for q in QUESTIONS]
    journal, sizes = tmp_path / "answers" / "a.jsonl", {"max_tokens": 5, "temperature": 0.0, "requests": 2}
    with Server(lambda number, body: (200, "fine") if number <= 10 else (status, text)) as server:
        with pytest.raises(UserError, match=word):
            answer(ServerTeacher(server.url, "big", **sizes), tasks, journal)
        assert len(journal.read_text().splitlines()) == 10
    with journal.open("a") as file:
        file.write('{"number": 11, "mess')  # the power went
    with Server(lambda number, body: (200, "later")) as server:
        found = answer(ServerTeacher(server.url, "big", **sizes), tasks, journal)
        assert len(server.asked) == len(QUESTIONS) - 10
    assert sorted(messages[1]["content"] for messages in found) == ["fine"] * 10 + ["later"] * (len(QUESTIONS) - 10)


def test_a_server_that_refuses_all_is_told_from_one_that_refuses_some(tmp_path):
    pytest.importorskip("openai")
    tasks = [Task.whole([{"role": "user", "content": q}, {"role": "assistant", "content": ""}]) for q in QUESTIONS]
    with Server(lambda number, body: (400, "max_tokens is not known here")) as server:
        teacher = ServerTeacher(server.url, "big", max_tokens=5, temperature=0.0, requests=2)
        with pytest.raises(UserError, match="max_tokens is not known here"):
            answer(teacher, tasks, tmp_path / "answers" / "a.jsonl")
        assert len(server.asked) <= 10


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("WIKIGPT_TEACHER_KEY", "secret")
    with pytest.raises(UserError, match="in the clear"):
        ServerTeacher("http://example.org/v1", "big", max_tokens=5, temperature=0.0, requests=2)
