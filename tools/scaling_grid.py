"""The runs behind the time dial: small models of several sizes on several amounts of Wikipedia text, and the fit.

    python tools/scaling_grid.py --data FOLDER --work FOLDER     # trains what is missing, then fits
    python tools/scaling_grid.py                                 # fits the points that are there

FOLDER holds text/enwiki.jsonl.xz and text/zhwiki.jsonl.xz (JSON lines with title and text). Points go one by one
into src/wikigpt/train/scaling.json, so that an interrupted run goes on where it was. `--again` trains all anew, for
when the recipe has changed. Losses over tokens do not depend on the speed of the machine: run it niced, on one core.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wikigpt import stages
from wikigpt.artifacts import write_atomic
from wikigpt.corpus import build_corpus
from wikigpt.model import new_model
from wikigpt.recipe import load_recipe
from wikigpt.tokens import open_shards
from wikigpt.train import CausalLM, TrainConfig, train
from wikigpt.train.plan import SCALING, batch_tokens, ladder

ARTICLES = {"en": 2500, "zh": 30_000}  # enough for 8 M tokens each
# Where the curve ends cannot be told from runs of minutes. Megatron-LM's 8.3 billion weights come to 0.65 bits per byte
# on WikiText-103 (10.8 a word, Shoeybi et al. 2019).
LIMIT = 0.65
LEAST_POINTS = 3  # a language has three numbers to fit
# Heads (see `ladder`) and thousands of tokens, those first that say most for their time.
GRID = [
    ("en", 1, 256), ("zh", 1, 256), ("en", 2, 256), ("zh", 2, 256), ("en", 2, 512), ("en", 1, 1024), ("en", 4, 256),
    ("zh", 1, 1024), ("en", 1, 4096), ("zh", 4, 256), ("en", 2, 1024), ("en", 4, 1024), ("zh", 2, 1024), ("en", 4, 512),
    ("en", 2, 2048), ("zh", 4, 1024), ("en", 6, 512), ("zh", 2, 2048), ("en", 4, 2048), ("en", 6, 1024),
]  # fmt: skip


def prepare(lang: str, data: Path, work: Path) -> None:
    """Corpus, tokenizer and tokens of a language by the `small` recipe, where they are not there yet."""
    corpus, tokenizer, tokens = (work / lang / name for name in ("corpus", "tokenizer", "tokens"))
    recipe = load_recipe("small")
    if not (tokens / "tokens.json").is_file():
        settings = recipe.corpus.model_dump(exclude={"inputs", "lang", "max_documents"})
        source = data / "text" / f"{lang}wiki.jsonl.xz"
        build_corpus([source], corpus, lang=lang, max_documents=ARTICLES[lang], workers=1, **settings)
        stages.tokenizer(corpus, tokenizer, settings=recipe.tokenizer)
        stages.tokens(corpus, tokenizer, tokens)


def run(lang: str, heads: int, thousands: int, work: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Train one model in `folder`, with `changes` of the recipe's settings for pretraining; return its point."""
    recipe = load_recipe("small")
    shards = open_shards(work / lang / "tokens")
    config = ladder(heads, vocab_size=recipe.tokenizer.vocab_size, context_length=recipe.model.context_length)
    rows = batch_tokens(thousands * 1024) // config.context_length
    settings = recipe.pretrain.model_dump() | {
        "minutes": None,
        "steps": thousands * 1024 // (rows * config.context_length),
        "batch_size": rows,
        "micro_batch_size": 4,  # one compiled graph serves all runs of a shape
        "evaluate_every": 10**6,
        "evaluation_tokens": 200_000,
        "samples": [],
        **changes,
    }
    torch.manual_seed(recipe.seed)
    begin = time.perf_counter()
    result = train(new_model(config), CausalLM(), shards, TrainConfig(**settings), folder, seed=recipe.seed)
    return {
        "lang": lang,
        "heads": heads,
        "block_parameters": config.n_parameters - config.vocab_size * config.d_model,
        "parameters": config.n_parameters,
        "vocab_size": config.vocab_size,
        "tokens": result.state.tokens,
        "bytes": round(result.state.tokens * shards["train"].n_bytes / len(shards["train"].tokens)),
        "batch_tokens": rows * config.context_length,
        "steps": result.state.step,
        "bits_per_byte": round(result.held_out[lang].bits_per_byte or 0.0, 4),
        "minutes": round((time.perf_counter() - begin) / 60, 1),
    }


def fit(points: list[dict[str, Any]]) -> dict[str, Any]:
    """`E + A / N^alpha + B / D^alpha` in bits per byte for each language, E given (after Hoffmann et al. 2022).

    For each alpha the rest is a linear fit; the one with the least squared error is taken. What each point would have
    been predicted as without it, by the same procedure, gives the error, where a language has enough points for that.
    """
    curves, errors, left_out = {}, [], []
    for lang in sorted({p["lang"] for p in points}):
        mine = [p for p in points if p["lang"] == lang]
        curves[lang] = _curve(mine)
        for point in mine:
            errors.append(abs(_predict(curves[lang], point) - point["bits_per_byte"]))
            line = f"{lang} {point['heads']} heads {point['tokens'] / 1e6:.2f} M tokens: "
            line += f"{point['bits_per_byte']:.3f}, {errors[-1]:.3f} off"
            if len(mine) > LEAST_POINTS:
                without = _curve([p for p in mine if p is not point])
                left_out.append(abs(_predict(without, point) - point["bits_per_byte"]))
                line += f", {left_out[-1]:.3f} when left out"
            print(line)
    return {"curves": curves, "error": round(sum(left_out) / len(left_out), 4), "error_inside": round(max(errors), 4)}


def _curve(points: list[dict[str, Any]]) -> dict[str, float]:
    weights, tokens = (np.array([p[key] for p in points], dtype=float) for key in ("block_parameters", "tokens"))
    bits = np.array([p["bits_per_byte"] for p in points])
    best, curve = math.inf, {}
    for alpha in np.arange(0.05, 0.6, 0.005).round(3).tolist():
        terms = np.stack([weights**-alpha, tokens**-alpha], axis=1)
        A, B = np.linalg.lstsq(terms, bits - LIMIT, rcond=None)[0].tolist()
        residual = float(((terms @ [A, B] + LIMIT - bits) ** 2).sum())
        if A > 0 and B > 0 and residual < best:
            best, curve = residual, {"E": LIMIT, "A": round(A, 4), "B": round(B, 4), "alpha": alpha}
    ratio = sum(p["bytes"] for p in points) / sum(p["tokens"] for p in points)
    return {**curve, "bytes_per_token": round(ratio, 3)}


def _predict(curve: dict[str, float], point: dict[str, Any]) -> float:
    a = curve["alpha"]
    return curve["E"] + curve["A"] * point["block_parameters"] ** -a + curve["B"] * point["tokens"] ** -a


def main() -> None:
    """Train what is missing, if there are data; fit; write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--again", action="store_true", help="train all points anew")
    parser.add_argument("--points", type=Path, default=SCALING)
    options = parser.parse_args()
    stored = json.loads(options.points.read_text()) if options.points.is_file() else {"points": []}
    points = [] if options.again else stored["points"]
    if options.data:
        done = {(p["lang"], p["heads"], round(p["tokens"] / 1024)) for p in points}
        for lang, heads, thousands in GRID:
            if (lang, heads, thousands) not in done:
                folder = options.work / lang / f"{heads}-{thousands}"
                if options.again:
                    shutil.rmtree(folder, ignore_errors=True)
                prepare(lang, options.data, options.work)
                points.append(run(lang, heads, thousands, options.work, folder))
                print(points[-1], flush=True)
                _write(options.points, {**stored, "points": points})
    if not points:
        parser.error(f"{options.points} holds no points yet; train some with --data FOLDER")
    _write(options.points, {"fit": fit(points), "points": points})


def _write(path: Path, content: dict[str, Any]) -> None:
    """As JSON, a point a line."""
    points = ",\n".join("  " + json.dumps(point) for point in content["points"])
    write_atomic(path, f'{{"fit": {json.dumps(content.get("fit"))},\n "points": [\n{points}\n]}}\n')


if __name__ == "__main__":
    main()
