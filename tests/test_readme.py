"""The commands of both READMEs and guides do what they say, run as they stand there."""

import bz2
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import WIKIGPT, served
from wikigpt.sample import write_dumps

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "README.zh-CN.md",
    "docs/guide.md",
    "docs/guide.zh-CN.md",
    "docs/corpus.md",
    "docs/corpus.zh-CN.md",
]
PAGES_OF_A_DUMP = 600
QUICK = (
    "--set pretrain.minutes=none --set pretrain.steps=2 --set finetune.minutes=none --set finetune.steps=2 "
    "--set pretrain.compile=off --set finetune.compile=off --set model.d_model=64 --set model.n_layers=1 "
    "--set model.context_length=256 --set evaluate.closed_book=4 --set evaluate.grounded=4"
)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[str]:
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(run, tmp_path_factory) -> Path:
    """A folder with the dumps that the pages name and a finished run as runs/demo."""
    folder = tmp_path_factory.mktemp("readme")
    for dump in write_dumps(folder / "dumps"):
        if "zh" in dump.name:
            head, *pages = bz2.decompress(dump.read_bytes()).split(b"<page>")
            some = b"<page>".join([head, *pages[:PAGES_OF_A_DUMP], pages[-1]])
            for name in ("zhwiki-latest-pages-articles.xml.bz2", "my.xml.bz2"):
                (folder / name).write_bytes(bz2.compress(some))
    shutil.copytree(run, folder / "runs" / "demo")
    (folder / "my.toml").write_text(blocks("docs/corpus.md", "toml")[0], encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/corpus.md"])
def test_commands_run(page, place):
    ran = 0
    for command in commands(page):
        words = shlex.split(command)
        if words[0] != "wikigpt" or words == ["wikigpt", "chat", "runs/zhwiki"] or "…" in command:
            continue
        # Tests never go to the network; test_download.py has a server of its own. Ours is asked below.
        if words[1] in ("download", "serve"):
            continue
        if words[:2] == ["wikigpt", "chat"] and "--ask" not in words:
            words += ["--ask", "你好"]
        if words[1] == "build":
            words += [*shlex.split(QUICK), "--until", "knowledge"]
        result = subprocess.run([WIKIGPT, *words[1:]], cwd=place, capture_output=True, text=True, timeout=200)
        assert result.returncode == 0, (command, result.stdout, result.stderr)
        ran += 1
    assert ran >= 2


def test_python_block_loads_the_model(place):
    for code in blocks("README.md", "python"):
        code += "\nassert model.config.vocab_size == len(tokenizer)\n"
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def test_python_block_asks_the_server(place):
    (code,) = blocks("docs/guide.md", "python")
    with served(place / "runs" / "demo") as address:
        assert "http://127.0.0.1:8000/v1" in code
        code = code.replace("http://127.0.0.1:8000", address)
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert asked.returncode == 0 and "'title': '法国'" in asked.stdout, asked.stderr


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for command in commands(page):
            if command.startswith("make "):
                assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize(("english", "chinese"), [PAGES[:2], PAGES[2:4], PAGES[4:]])
def test_chinese_pages_give_the_same_commands(english, chinese):
    assert commands(chinese) == commands(english)
    assert blocks(chinese, "python") == blocks(english, "python")
