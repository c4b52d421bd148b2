"""From the start of `wikigpt pretrain` to its first training step, with and without torch.compile.

A user's command, in a process of its own, on a small corpus (encoding it is in the time) and a tokenizer of 8,192
tokens; the model is the `small` recipe's, 6x256 with rows of 512 tokens. The clock stops when the first step stands
in the log. Compiled, once with caches that are empty and once with what that run left in them; uncompiled, which is
what a CPU with a C++ compiler does by itself, with our operators in the cache: building them is part of the cold run.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, report, result

LIMIT = 300.0  # seconds, after which something is wrong


def main() -> None:
    """Prepare corpus and tokenizer, measure by turns, print, write."""
    options = arguments(__doc__, rounds=3)
    off, cold, warm = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        wikigpt(
            "build",
            "demo",
            "--run",
            work,
            "--base",
            "none",
            "--until",
            "tokenizer",
            "--set",
            "tokenizer.vocab_size=8192",
        )
        wikigpt("corpus", *sorted((work / "dumps").iterdir()), "-o", work / "small", "--max-documents", "500")
        for i in range(options.rounds):
            caches = work / f"caches-{i}"
            cold.append(first_step(work, f"cold-{i}", caches, compile_="on"))
            warm.append(first_step(work, f"warm-{i}", caches, compile_="on"))
            off.append(first_step(work, f"off-{i}", caches, compile_="off"))
            print(
                f"round {i + 1}: uncompiled {off[-1]:.1f} s, cold {cold[-1]:.1f} s, warm {warm[-1]:.1f} s", flush=True
            )
    name = "start to first step, 6x256"
    rows = [
        result(f"{name}, uncompiled", off, [5.0] * len(off), peer_name="target, at most", unit="s"),
        result(f"{name}, compiled, warm caches", warm, [20.0] * len(warm), peer_name="target, at most", unit="s"),
        result(f"{name}, compiled, cold caches", cold, warm, peer_name="warm caches", unit="s"),
    ]
    report(rows, options.json)


def wikigpt(*words: str | Path) -> None:
    """Run a command to its end."""
    subprocess.run([sys.executable, "-m", "wikigpt", *map(str, words), "--quiet"], check=True)


def first_step(work: Path, name: str, caches: Path, compile_: str) -> float:
    """Seconds from the start of the command to its first logged step; then it is told to stop."""
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(caches / "user"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
    }
    command = [sys.executable, "-m", "wikigpt", "pretrain", str(work / "small"), "--tokenizer", str(work / "tokenizer")]
    command += ["-o", str(work / name), "--set", f"pretrain.compile={compile_}", "--quiet"]
    log = work / f"{name}.work" / "metrics.jsonl"
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        while not (log.is_file() and '"loss"' in log.read_text(encoding="utf-8")):
            if process.poll() is not None or time.perf_counter() - begin > LIMIT:
                process.kill()
                raise SystemExit(f"no training step: {' '.join(command)}\n{process.communicate()[1]}")
            time.sleep(0.02)
        return time.perf_counter() - begin
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()
