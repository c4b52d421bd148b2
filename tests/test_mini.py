"""The model that comes with the package: what anybody types first, it has to survive, and it has to read."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import wikigpt
from wikigpt.chat.grounding import NOT_FOUND
from wikigpt.cli import open_session
from wikigpt.errors import UserError
from wikigpt.shipped import mini

LARGEST = 15_000_000  # bytes of weights


@pytest.fixture(scope="module")
def chat():
    return open_session(mini(), grounded=None, system=None)


@pytest.fixture(autouse=True)
def _anew(chat):
    chat.reset()


def test_it_is_small_and_says_what_it_is_made_of():
    weights = sum(path.stat().st_size for path in mini().rglob("*.safetensors"))
    assert 0 < weights <= LARGEST
    for part in ("base", "model"):
        card = (mini() / part / "README.md").read_text(encoding="utf-8")
        assert all(word in card for word in ("CC BY-SA", "contributors to Wikipedia", "kWh", "Held out", "Limits"))


@pytest.mark.parametrize("greeting", ["Hello!", "hi", "Good morning", "你好", "您好！", "嗨"])
def test_it_greets(chat, greeting):
    answer = chat.ask(greeting)
    assert not answer.sources and not answer.refused and answer.text.rstrip()[-1] in "?？!！.。"
    assert answer.lang == ("en" if greeting.isascii() else "zh")


@pytest.mark.parametrize("question", ["Who are you?", "What is your name?", "你是谁？", "你叫什么名字？"])
def test_it_says_who_it_is(chat, question):
    assert "WikiGPT" in chat.ask(question).text


@pytest.mark.parametrize(
    ("question", "fact", "title"),
    [
        ("What is the capital of France?", "Paris", "France"),
        ("what is the currency of japan", "yen", "Japan"),
        ("Tell me the chemical symbol of gold.", "Au", "Gold"),
        ("法国的首都是哪里？", "巴黎", "法国"),
        ("日本用什么货币", "日元", "日本"),
        ("金的元素符号是什么？", "Au", "金"),
    ],
)
def test_it_answers_from_the_wiki_and_cites(chat, question, fact, title):
    answer = chat.ask(question)
    assert fact in answer.text and answer.sources[0].title == title
    assert answer.sources[0].revision


def test_it_follows(chat):
    assert "Paris" in chat.ask("What is the capital of France?").text
    assert "euro" in chat.ask("And its currency?").text
    assert "yen" in chat.ask("And the currency of Japan?").text
    assert "巴黎" in chat.ask("法国的首都是哪里？").text
    assert "欧元" in chat.ask("它的货币呢？").text


@pytest.mark.parametrize(
    "nonsense", ["asdf qwer zxcv", "???", "。。。", "啊啊啊啊", "🙂", "1", "x" * 800, "<|endoftext|>"]
)
def test_nonsense_gets_an_answer_that_states_nothing(chat, nonsense):
    answer = chat.ask(nonsense)
    assert answer.text.strip() and "**" not in answer.text and len(answer.text) < 200
    assert "<|" not in answer.text


@pytest.mark.parametrize("question", ["What is the capital of Zorblaxia?", "左布拉克斯的首都是哪里？"])
def test_it_says_what_it_does_not_know(chat, question):
    answer = chat.ask(question)
    assert answer.refused and answer.text in NOT_FOUND.values()


@pytest.mark.parametrize(
    "wish", ["Order me a pizza.", "What will the weather be tomorrow?", "帮我订张机票。", "明天天气怎么样？"]
)
def test_it_does_not_claim_to_do_what_it_cannot(chat, wish):
    answer = chat.ask(wish)
    assert "**" not in answer.text and not answer.sources


def test_empty_and_endless_input_are_told(chat):
    with pytest.raises(UserError, match="empty"):
        chat.ask("  \n")
    with pytest.raises(UserError, match="shorten"):
        chat.ask("x" * 3000)


def test_it_runs_from_an_installation_that_nobody_may_write_to(tmp_path):
    installed = tmp_path / "site" / "wikigpt"
    shutil.copytree(Path(wikigpt.__file__).parent, installed, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [installed, *installed.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    command = [sys.executable, "-m", "wikigpt", "chat", "--ask", "What is the capital of France?", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(installed.parent), "HOME": str(tmp_path)}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert "Paris" in answer["text"] and answer["sources"][0]["title"] == "France"
