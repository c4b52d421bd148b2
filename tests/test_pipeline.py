"""A whole build on the sample wiki, as a user runs it: real processes, real files."""

import json
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from conftest import STAGES, WIKIGPT, wikigpt
from wikigpt.artifacts import sha256_file


def test_run_folder_holds_what_the_design_says(run):
    for name in (
        "corpus/corpus.json",
        "corpus/part-00000.parquet",
        "tokenizer/tokenizer.json",
        "tokens/train.bin",
        "base/model.safetensors",
        "conversations/train.jsonl",
        "model/chat_template.jinja",
        "model/README.md",
        "knowledge/index.sqlite",
        "metrics.jsonl",
        "environment.json",
        "pretrain/report.html",
        "pretrain/plots/loss.svg",
        "finetune/plots/gradient.svg",
    ):
        assert (run / name).stat().st_size > 0, name
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert recipe["pretrain"]["steps"] == 60 and recipe["model"]["rope_theta"] == 10000.0  # fully resolved
    page = (run / "report.html").read_text()
    assert page.count('class="chart"') == 9 and "src=" not in page.replace("srcset", "")
    stages = {json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"pretrain", "finetune"}


def test_evaluation_has_the_fixed_keys(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    tasks = evaluation["tasks"]
    for lang in ("zh", "en"):
        assert 0 < evaluation["bits_per_byte"][lang] < 8
        assert 0 <= tasks["closed_book"][lang]["exact_match"] <= 1 and tasks["closed_book"][lang]["n"] > 0
        for measure in ("exact_match", "contains", "citation"):
            assert 0 <= tasks["grounded"][lang][measure] <= 1
        assert 0 <= tasks["unanswerable"][lang]["refused"] <= 1
    assert set(evaluation["seconds"]) == set(STAGES)
    assert 50e6 < evaluation["peak_memory_bytes"] < 4e9


def test_golden_losses_on_the_sample_wiki(run):
    """Sample wiki, cleaning, tokenizer, packing, model, optimizers, conversations: a change in any shows here."""
    golden = json.loads((Path(__file__).parent / "golden_losses.json").read_text())["sample_wiki"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for stage, expected in golden.items():
        losses = {m["step"]: m["loss"] for m in metrics if m["stage"] == stage and "loss" in m}
        # Muon amplifies the rounding of another processor's kernels: after 120 steps two machines differed by 0.014.
        for step, loss, tolerance in zip((1, 30, 60), expected, (0.003, 0.01, 0.04), strict=True):
            assert losses[step] == pytest.approx(loss, abs=tolerance), (stage, step)


def test_grounded_answers_hold_even_with_a_babbling_model(run):
    """What the model cannot say is quoted: retrieval and reading must do without it."""
    grounded = json.loads((run / "evaluation.json").read_text())["tasks"]["grounded"]
    for lang in ("zh", "en"):
        assert grounded[lang]["contains"] >= 0.6 and grounded[lang]["citation"] >= 0.7, grounded


def test_second_build_changes_nothing_and_a_setting_repeats_only_what_depends_on_it(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*.safetensors")}
    again = wikigpt("build", "tiny", "--run", copy)
    assert again.returncode == 0 and again.stdout.count("unchanged") == len(STAGES)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*.safetensors")} == before
    changed = wikigpt("build", "tiny", "--run", copy, "--set", "finetune.steps=5", "--until", "finetune")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.count("unchanged") == 5 and "✓ finetune" in changed.stdout
    forced = wikigpt(
        "build", "tiny", "--run", copy, "--set", "finetune.steps=5", "--until", "finetune", "--force", "finetune"
    )
    assert forced.returncode == 0 and "✓ finetune" in forced.stdout
    metrics = (copy / "finetune" / "metrics.jsonl").read_text()
    assert metrics.count('"loss"') == 5


def test_killed_build_goes_on_where_it_was_and_ends_the_same(run, tmp_path):
    """kill -9 in the middle of pretraining; the same command again gives the same weights."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in ("base", "pretrain"):
        shutil.rmtree(copy / name)
    command = ["build", "tiny", "--run", str(copy), "--set", "pretrain.checkpoint_seconds=1e-9", "--until", "pretrain"]
    process = subprocess.Popen([WIKIGPT, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    metrics = copy / "pretrain" / "metrics.jsonl"
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("loss") > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list((copy / "pretrain" / "checkpoints").glob("step-*")) and not (copy / "base").exists()
    finished = wikigpt(*command)
    assert finished.returncode == 0, finished.stderr
    assert sha256_file(copy / "base" / "model.safetensors") == sha256_file(run / "base" / "model.safetensors")


def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_half_written(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [WIKIGPT, "build", "tiny", "--run", str(folder), "--set", "pretrain.steps=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    metrics = folder / "pretrain" / "metrics.jsonl"
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("loss") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in errors and "Traceback" not in errors
    assert list((folder / "pretrain" / "checkpoints").glob("step-*"))
    assert not list(folder.glob(".*.tmp")) and not (folder / "base").exists()


def test_saved_chat_model_loads_in_transformers_with_equal_logits(run):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from wikigpt.chat.engine import Engine

    engine = Engine.from_folder(run / "model")
    theirs = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    messages = [{"role": "user", "content": "法国的首都是哪里？What is gold?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == engine.encode(messages)
    with torch.no_grad():
        assert (theirs(ids).logits - engine.model(ids)).abs().max() < 1e-4
    expected = theirs.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
    answer = engine.generate([messages], max_new_tokens=20)[0]
    assert len(answer.token_logprobs) == len(expected)
    assert tokenizer.decode(expected, skip_special_tokens=True).startswith(answer.text)


def test_ask_answers_and_names_its_source(run):
    asked = wikigpt("chat", run, "--ask", "What is the chemical symbol of gold?", "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert "Au" in answer["text"] and answer["sources"][0]["title"] == "Gold"
    plain = wikigpt("chat", run, "--ask", "你好", "--no-grounded")
    assert plain.returncode == 0 and plain.stdout.strip()


def test_read_only_or_foreign_folder_is_refused(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    refused = wikigpt("build", "tiny", "--run", tmp_path / "thesis")
    assert refused.returncode == 2
    assert "already holds something else (chapter1.tex)" in refused.stderr
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]
