"""Settings of the whole suite."""

import os

# Before torch loads: waiting threads sleep, so that the suite is fast beside other programs, too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
import sys
from pathlib import Path

import pytest

WIKIGPT = str(Path(sys.executable).with_name("wikigpt"))
STAGES = ["corpus", "tokenizer", "tokens", "pretrain", "instruct", "finetune", "knowledge", "evaluate"]


def wikigpt(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run([WIKIGPT, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished build by the `tiny` recipe."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    finished = wikigpt("build", "tiny", "--run", folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for stage in STAGES:
        assert f"✓ {stage}" in finished.stdout
    return folder
