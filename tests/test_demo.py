"""The ten-minute demo as a whole, and real Wikipedia: minutes long, so run by `make test-slow`."""

import json
import os
from pathlib import Path

import pytest

from conftest import STAGES, WIKIGPT, wikigpt

DATA = Path(os.environ.get("WIKIGPT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))

pytestmark = pytest.mark.slow


def test_demo_reaches_the_figures_that_the_readme_promises(tmp_path):
    import subprocess

    run = tmp_path / "demo"
    built = subprocess.run([WIKIGPT, "build", "demo", "--run", str(run)], capture_output=True, text=True, timeout=1800)
    assert built.returncode == 0, built.stderr
    evaluation = json.loads((run / "evaluation.json").read_text())
    for lang in ("zh", "en"):
        closed_book, grounded = (evaluation["tasks"][task][lang] for task in ("closed_book", "grounded"))
        assert closed_book["n"] >= 300 and closed_book["exact_match"] >= 0.5
        assert grounded["contains"] >= 0.8 and grounded["citation"] >= 0.9
    assert evaluation["peak_memory_bytes"] < 4e9


@pytest.mark.parametrize(
    ("dump", "question"),
    [
        ("xml/enwiki-206pages.xml.bz2", "What is anarchism?"),
        ("text/zhwiki-core-2019jan.jsonl.xz", "数学是什么？"),
        ("xml/zhwiki-33pages.xml.gz", "你好"),
    ],
)
def test_real_wikipedia_becomes_a_chat(dump, question, tmp_path):
    if not (DATA / dump).exists():
        pytest.skip(f"no {DATA / dump}; set WIKIGPT_DATA to a folder that has it")
    built = wikigpt("build", "tiny", "--dump", DATA / dump, "--run", tmp_path / "run")
    assert built.returncode == 0, built.stderr
    assert all(stage in built.stdout for stage in STAGES)
    asked = wikigpt("chat", tmp_path / "run", "--ask", question, "--json")
    assert asked.returncode == 0 and json.loads(asked.stdout)["text"].strip()
