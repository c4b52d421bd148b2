"""Settings of the whole suite."""

import os

# Before torch loads: waiting threads sleep, so that the suite is fast beside other programs, too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WIKIGPT = str(Path(sys.executable).with_name("wikigpt"))
STAGES = ["corpus", "tokenizer", "tokens", "pretrain", "instruct", "finetune", "knowledge", "evaluate"]


def wikigpt(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run([WIKIGPT, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


@contextmanager
def served(run: Path, *options: str) -> Iterator[str]:
    """The address of a server of its own process."""
    command = [WIKIGPT, "serve", str(run), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert " is served at http://" in line, line + process.stdout.read()
            yield line.split(" is served at ")[1].split("/v1;")[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, process.stdout.read()


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished build by the `tiny` recipe."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    finished = wikigpt("build", "tiny", "--run", folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for stage in STAGES:
        assert f"✓ {stage}" in finished.stdout
    return folder
