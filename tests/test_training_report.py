"""What a training run shows and leaves: samples, progress line, metrics, TensorBoard events, plots, the page."""

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pexpect
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import rc_context

from conftest import wikigpt
from wikigpt.chat import Engine
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer
from wikigpt.tokens import open_shards, tokenizer_sha256, write_chat_tokens, write_text_tokens
from wikigpt.tokens.tokenizer import build_tokenizer, load_tokenizer
from wikigpt.train import CausalLM, MaskedLM, TrainConfig, read_metrics, train
from wikigpt.train.charts import Line, grouped, line_chart
from wikigpt.train.report import training_plots, write_training_report
from wikigpt.train.samples import Sampler

SVG = "{http://www.w3.org/2000/svg}"
TEXT = "The cat {0} sat on the mat. 城市{0}的人口是{1}万。It is <b>large</b>."


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A tokenizer, articles and conversations, each with a held-out split."""
    folder = tmp_path_factory.mktemp("data")
    texts = [TEXT.format(i, i * 7 % 50) for i in range(120)]
    build_tokenizer(texts, folder / "tokenizer", vocab_size=330, split_cjk=True, max_token_length=8)
    tokenizer, checksum = load_tokenizer(folder / "tokenizer"), tokenizer_sha256(folder / "tokenizer")
    splits = ["en" if i % 10 == 0 else "train" for i in range(120)]
    write_text_tokens(folder / "text", zip(splits, texts, strict=True), tokenizer, checksum)
    chats = [
        [{"role": "user", "content": f"{i}之后是几？"}, {"role": "assistant", "content": f"**{i + 1}**"}]
        for i in range(120)
    ]
    write_chat_tokens(folder / "chat", zip(splits, chats, strict=True), tokenizer, checksum, max_length=64)
    return folder


def model(family: str = "qwen3") -> Transformer:
    torch.manual_seed(0)
    shape = {"vocab_size": 330, "n_layers": 1, "d_model": 32, "n_heads": 2, "context_length": 64}
    return Transformer(ModelConfig(family=family, **shape))


def run(data: Path, folder: Path, *, tokens: str = "text", network=None, objective=None, progress=None, **changes):
    """Train a few steps; returns the model."""
    network, tokenizer = network or model(), load_tokenizer(data / "tokenizer")
    config = {"steps": 6, "batch_size": 4, "precision": "fp32", "compile": "off", "operators": "plain"}
    config = TrainConfig(**{**config, "evaluate_every": 3, "evaluation_tokens": 400, **changes})
    shards = open_shards(data / tokens)
    given = None if changes.get("samples") == [] else tokenizer
    train(network, objective or CausalLM(), shards, config, folder, tokenizer=given, progress=progress)
    return network


def logged(folder: Path, key: str) -> dict[int, object]:
    return {entry["step"]: entry[key] for entry in read_metrics(folder / "metrics.jsonl") if key in entry}


def test_samples_are_what_the_engine_says_and_change_no_loss(data, tmp_path):
    prompts = ["The cat 7 sat", "城市8的"]
    trained = run(data, tmp_path / "with", samples=prompts)
    run(data, tmp_path / "without", samples=[])
    assert logged(tmp_path / "with", "loss") == logged(tmp_path / "without", "loss")
    assert not logged(tmp_path / "without", "samples")
    last = logged(tmp_path / "with", "samples")[6]
    said = Engine(trained, load_tokenizer(data / "tokenizer")).generate(prompts, max_new_tokens=40)
    for sample, prompt, completion in zip(last, prompts, said, strict=True):
        assert sample["prompt"] == prompt and completion.text.startswith(sample["completion"].rstrip("\ufffd"))
        assert len(sample["completion"]) > 10


def test_prompts_come_from_held_out_data_by_objective(data, tmp_path):
    tokenizer = load_tokenizer(data / "tokenizer")
    text, chat = open_shards(data / "text"), open_shards(data / "chat")
    beginnings = Sampler(model(), tokenizer, text).complete()
    assert len(beginnings) == 4
    for i, sample in enumerate(beginnings):
        whole = sample["prompt"] + sample["expected"]
        assert whole.startswith(f"The cat {10 * i} sat on the mat. 城市") and sample["split"] == "en"
    question = Sampler(model(), tokenizer, chat).complete()[1]
    assert (question["prompt"], question["expected"]) == ("10之后是几？", "**11**")
    asked = Sampler(model(), tokenizer, chat, ["3之后是几？"])
    assert tokenizer.decode(asked.prompts[0].ids, skip_special_tokens=False) == (
        "<|im_start|>user\n3之后是几？<|im_end|>\n<|im_start|>assistant\n"
    )
    line = Sampler(model("bert"), tokenizer, text).complete()[0]
    assert line["prompt"].count("[…]") == line["completion"].count("[") == line["expected"].count("[") > 1
    assert line["expected"].replace("[", "").replace("]", "") in TEXT.format(0, 0)
    filled = Sampler(model("bert"), tokenizer, text, ["The cat <|mask|> sat"]).complete()[0]
    assert filled["completion"].startswith("The cat") and filled["completion"].endswith("] sat")
    with pytest.raises(UserError, match="no mask"):
        Sampler(model("bert"), tokenizer, text, ["The cat sat"])
    with pytest.raises(UserError, match="context holds 64"):
        Sampler(model(), tokenizer, text, ["很" * 100])


def test_samples_take_a_small_share_of_the_time(data, tmp_path):
    sampler = Sampler(model(), load_tokenizer(data / "tokenizer"), open_shards(data / "text"))
    begin = time.perf_counter()
    sampler.complete()
    cost = time.perf_counter() - begin
    assert not sampler.affordable(50 * cost) and sampler.affordable(110 * cost)
    run(data, tmp_path, steps=12, evaluate_every=1)
    assert len(logged(tmp_path, "held_out_loss")) == 12
    assert len(logged(tmp_path, "samples")) < 12 and 12 in logged(tmp_path, "samples")


@pytest.mark.slow
def test_sampling_compiles_nothing(data):
    from torch._dynamo.utils import counters

    network, shards = model(), open_shards(data / "text")
    sampler = Sampler(network, load_tokenizer(data / "tokenizer"), shards)
    objective = CausalLM().compiled(network)
    batch = objective.packer(shards["train"], 64, seed=0).rows(0, 4)
    objective.loss(network, batch).backward()
    before = counters["stats"]["unique_graphs"]
    plain = Sampler(model(), load_tokenizer(data / "tokenizer"), shards).complete()
    assert sampler.complete() == plain
    objective.loss(network, batch).backward()
    assert counters["stats"]["unique_graphs"] == before > 0


def test_tensorboard_holds_each_step_once_after_a_crash(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def crash(done: int, total: int, message: str) -> None:
        if done == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(data, tmp_path, tensorboard=True, checkpoint_seconds=1e-6, progress=crash)
    run(data, tmp_path, tensorboard=True)
    run(data, tmp_path, tensorboard=True)  # complete already
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert losses == pytest.approx(logged(tmp_path, "loss"), rel=1e-6)
    bits = {event.step: event.value for event in events.Scalars("held_out/bits_per_byte/en")}
    assert bits == pytest.approx({step: by["en"] for step, by in logged(tmp_path, "bits_per_byte").items()}, rel=1e-6)
    assert [event.step for event in events.Scalars("held_out/bits_per_byte/en")] == [3, 6]
    assert {"train/learning_rate", "train/grad_norm", "train/tokens_per_second"} <= set(events.Tags()["scalars"])
    text = events.Tensors("samples/1/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "The cat 0 sat on the mat" in text


def test_tensorboard_that_is_not_installed_is_said_with_the_command(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r'pip install "wikigpt\[tensorboard\]"'):
        run(data, tmp_path, tensorboard=True)


def test_a_run_leaves_a_page_and_plots_that_its_log_alone_makes_again(data, tmp_path):
    run(data, tmp_path / "run", samples=["<b>城市", "The"])
    page, plots = tmp_path / "run" / "report.html", tmp_path / "run" / "plots"
    html = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;城市" in html and "<b>城市" not in html
    final = logged(tmp_path / "run", "bits_per_byte")[6]["en"]
    assert f"<b>{final:.3f}</b>" in html and "causal_lm" in html and "learning_rate" in html
    names = ("http-equiv", "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    assert "http" not in re.sub("|".join(names), "", html) and "src=" not in html and "<!DOCTYPE svg" not in html
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) and set(re.findall(r'["(]#([\w-]+)', html)) <= set(ids)
    assert {path.name for path in plots.iterdir()} == {
        "loss.svg",
        "bits_per_byte.svg",
        "throughput.svg",
        "gradient.svg",
    }
    for path in plots.iterdir():
        ElementTree.parse(path)
    # A run that was killed: no page yet, and a log whose last line is cut within a character.
    killed = tmp_path / "killed" / "run"
    killed.mkdir(parents=True)
    log = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    message = json.dumps({"step": 6, "message": "checkpoint passed over: step-4"}) + '\n{"step": 6, "message": "城'
    (killed / "metrics.jsonl").write_bytes(log + message.encode()[:-1])
    finished = wikigpt("report", killed)
    assert finished.returncode == 0 and finished.stdout.strip() == str(killed / "report.html"), finished.stderr
    assert "checkpoint passed over: step-4" in (killed / "report.html").read_text(encoding="utf-8")
    for path in plots.iterdir():
        assert (killed / "plots" / path.name).read_text() == path.read_text()
    nothing = wikigpt("report", tmp_path / "nothing")
    assert nothing.returncode == 2 and "has no metrics.jsonl" in nothing.stderr


def test_an_interrupted_run_and_a_masked_one_leave_a_page_too(data, tmp_path):
    def stop(done: int, total: int, message: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "stopped", progress=stop)
    assert "of</span>" in (tmp_path / "stopped" / "report.html").read_text(encoding="utf-8")  # 2 of 6 steps
    masked = MaskedLM.of(load_tokenizer(data / "tokenizer"))
    run(data, tmp_path / "masked", network=model("bert"), objective=masked)
    assert (tmp_path / "masked" / "plots" / "perplexity.svg").is_file()
    assert "perplexity of masked tokens" in (tmp_path / "masked" / "report.html").read_text(encoding="utf-8")


def test_messages_of_a_folder_without_evaluations(tmp_path):
    """The page of a log that holds next to nothing."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "message": "out of memory"}\n')
    assert "out of memory" in write_training_report(tmp_path).read_text(encoding="utf-8")


def test_curves_are_readable_with_ten_points_and_with_100_000():
    def entries(n: int) -> list[dict]:
        shared = {"grad_norm": 1.0, "learning_rate": 0.02, "tokens_per_second": 1e4}
        return [{"step": s, "loss": 10 * s**-0.3 + 0.1 * (s % 7), **shared} for s in range(1, n + 1)]

    few, many = (training_plots(entries(n))["loss"] for n in (10, 100_000))
    for svg, n in ((few, 10), (many, 80)):
        assert len(svg) < 30_000
        *_, mean, _legend = (p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if "#1f77b4" in p.get("style"))
        places = [tuple(map(float, place)) for place in re.findall(r"[ML] (\S+) (\S+)", mean.get("d"))]
        assert 0.8 * n <= len(places) <= n
        assert max(y for _, y in places) - min(y for _, y in places) > 50  # pixels: not a flat line
    points = np.array([(x, 1e6 if x % 100 == 0 else x % 2) for x in range(1000)])
    x, mean, lower, upper = grouped(points, 10)
    assert (x[0], mean[0], lower[0], upper[0]) == (49.5, 10000.5, 0, 1)


def test_outliers_and_the_beginning_do_not_flatten_a_chart():
    points = [(step, 1e9 if step in (5, 700) else 3 + step % 10 / 10) for step in range(1, 1001)]
    svg = line_chart(("loss", "损失"), [Line(("", ""), points, 0, "noisy")])
    assert {"3.2", "3.4", "3.6", "3.8"} <= set(re.findall(r">([\d.]+)</text>", svg))


def test_a_chart_is_in_both_languages_in_the_colours_of_its_page_and_always_the_same():
    lines = [Line(("a<b", "甲"), [(1, 2.0), (2, 1.0)], 0), Line(("", ""), [(1, 1.0)], 1, "noisy")]
    svg = line_chart(("Title & all", "标题"), lines)
    with rc_context({"text.color": "white", "font.size": 30}):
        assert svg == line_chart(("Title & all", "标题"), lines)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label") == "Title & all · 标题"
    shown = [{part.get("class"): part.text for part in text} for text in root.iter(f"{SVG}text") if len(text)]
    assert shown == [
        {"en": "steps", "zh": "步数"},
        {"en": "Title & all", "zh": "标题"},
        {"en": "a<b", "zh": "甲"},
    ]
    assert "#000000" not in svg and "fill" not in "".join(text.get("style") for text in root.iter(f"{SVG}text"))


def test_matplotlib_loads_for_the_first_chart_and_never_pyplot():
    begin = "import sys; from wikigpt.train.report import *; assert 'matplotlib' not in sys.modules; "
    draw = "training_plots([]); assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", begin + draw], check=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=30),
    st.sampled_from(["noisy", "dots", "dashed"]),
    st.booleans(),
)
def test_any_values_can_be_drawn(values, kind, from_zero):
    line = Line(("a<b", "甲"), [(i + 1, value) for i, value in enumerate(values)], 0, kind)
    svg = line_chart(("title", "标题"), [line], from_zero=from_zero)
    ElementTree.fromstring(svg)
    assert "nan" not in svg.replace("Nan", "") and "inf" not in svg
    assert ("nothing yet" in svg) == (not any(map(math.isfinite, values)) or kind == "dashed")


SHOWN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from wikigpt import display
from test_training_report import *
display.LOG_SECONDS = 0
with display.TerminalDisplay() as shown:
    shown.stage("pretrain", "started")
    run(Path({data!r}), Path({folder!r}), steps=30, evaluate_every=10, progress=shown.progress)
"""


def test_the_progress_line_in_a_terminal_and_in_a_file(data, tmp_path):
    def script(name: str) -> list[str]:
        return ["-c", SHOWN.format(tests=str(Path(__file__).parent), data=str(data), folder=str(tmp_path / name))]

    file = subprocess.Popen([sys.executable, *script("file")], stdout=subprocess.PIPE, text=True)
    wide = {**os.environ, "COLUMNS": "160"}
    terminal = pexpect.spawn(sys.executable, script("terminal"), encoding="utf-8", timeout=120, env=wide)
    terminal.expect(r"step \d+  loss \d\.\d{3}  bits/byte en \d\.\d{3}  [\d,]+ tokens/s  MFU \d+%")
    terminal.expect(pexpect.EOF)
    written, _ = file.communicate(timeout=120)
    assert "\x1b" not in written and "\r" not in written, "no bar is drawn into a file"
    lines = [line for line in written.splitlines() if "step 30 " in line]
    assert lines and lines[0].startswith("  pretrain   100% step 30  loss ") and "left" in written, written
