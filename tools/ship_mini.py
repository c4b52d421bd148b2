"""Write the base and the chat model of a run as those that come with the package.

    python tools/ship_mini.py runs/wikigpt-mini [--note ", in two sittings"]

rounds the weights to 8 bits, makes the index of the sample wiki, and writes all of it to `src/wikigpt/mini`, with model
cards of what the run recorded and of what rounding cost.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wikigpt.artifacts import read_json, sha256_file, write_json
from wikigpt.corpus import build_corpus
from wikigpt.knowledge import build_index
from wikigpt.knowledge.settings import KnowledgeSettings
from wikigpt.model import Transformer, load_model, save_model
from wikigpt.pipeline import input_files, read_stages
from wikigpt.recipe import Recipe
from wikigpt.shipped import CHECKSUMS
from wikigpt.tokens import open_shards
from wikigpt.train import CausalLM, Chat, HeldOut, evaluate_shards

PACKAGE = Path(__file__).parents[1] / "src" / "wikigpt" / "mini"
EVALUATED = 200_000  # tokens of each held-out split that both precisions are compared on
MOST_BYTES = 15_000_000  # of the weights
WATTS_A_CORE = 10  # a server's processor under load; nobody measured it here

CARD = """---
license: cc-by-sa-4.0
language: [en, zh]
tags: [wikigpt, wikipedia]
---
# Wiki-GPT mini: the {kind}

{parameters:,} weights, {shape}, Qwen3's architecture, trained from noise by the recipe `wikigpt-mini` of WikiGPT{note}.

- **Data**: articles of the English and the Chinese Wikipedia (Traditional characters made Simplified), WikiGPT's own
  sample wiki, and conversations and exercises in reading made from both by rule; nothing from another model.
  {tokens:,} tokens of text and exercises{more}. One article in twenty was held out.
- **Licence**: the text of Wikipedia is CC BY-SA 4.0, by the contributors to Wikipedia (https://en.wikipedia.org,
  https://zh.wikipedia.org; the history of each article names them). Weights made from it are shared under the same
  licence. Attribute them as "Wiki-GPT mini, trained by WikiGPT on text by the contributors to Wikipedia, CC BY-SA 4.0".
- **Made on** {machine} in {hours:.1f} hours, about {energy:.2f} kWh at {watts} W a core.
- **Held out**: {held_out}.
- **Rounding**: weights are kept in 8 bits, with a scale for each row of a matrix; {rounding}.
- **Limits**: it is very small. What it says without passages is often wrong; with passages it can misread them. It
  knows English and Chinese alone, repeats the biases of its sources, and ends with the years its text was written in.
  Use it to learn and to fine-tune, not where a wrong answer does harm.
"""


def main() -> None:
    """Write, check the size, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a finished build")
    parser.add_argument("--note", default="", help="what else is to be said of how it was trained")
    options = parser.parse_args()
    run = options.run
    shutil.rmtree(PACKAGE, ignore_errors=True)
    for part, stage, name in (("base", "pretrain", "base model"), ("model", "finetune", "chat model")):
        print(f"{name}: {write_part(run, part, stage, name, options.note)}")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        build_corpus(input_files(Recipe(), Path(folder)), corpus, report=False, min_chars=30)
        build_index(corpus, PACKAGE / "knowledge", settings=KnowledgeSettings())
    files = sorted(path for path in PACKAGE.rglob("*") if path.is_file())
    write_json(PACKAGE / CHECKSUMS, {path.relative_to(PACKAGE).as_posix(): sha256_file(path) for path in files})
    weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    print(f"{weights:,} bytes of weights, {sum(path.stat().st_size for path in files):,} in all")
    if weights > MOST_BYTES:
        raise SystemExit(f"that is more than {MOST_BYTES:,} bytes of weights")


def write_part(run: Path, part: str, stage: str, name: str, note: str) -> str:
    """One of the two models, rounded, with its card; returns what rounding cost."""
    model = load_model(run / part)
    save_model(model, PACKAGE / part, tokenizer=run / part, int8=True)
    tokens = run / "tokens" if part == "base" else run / stage / "tokens"
    before, after = (held_out(m, tokens) for m in (model, load_model(PACKAGE / part)))
    rounding = ", ".join(f"{split} {before[split]} before and {after[split]} after" for split in before)
    stages, environment = read_stages(run), read_json(run / "environment.json")
    facts, config = stages[stage]["facts"], model.config
    hours = sum(training_seconds(stages[s]) for s in ("pretrain", "finetune")[: 1 if part == "base" else 2]) / 3600
    right = [f"{split} {share:.0%} of the answers" for split, share in facts.get("answers_right", {}).items()]
    unit = "bits per byte" if part == "base" else "bits per byte of its answers"
    card = CARD.format(
        kind=name,
        note=note,
        parameters=config.n_parameters,
        shape=f"{config.n_layers} layers of {config.d_model}, context of {config.context_length:,} tokens",
        tokens=stages["pretrain"]["facts"]["tokens"],
        more="" if part == "base" else f", then {facts['tokens']:,} of conversations",
        machine=_machine(environment),
        hours=hours,
        energy=hours * _cores(environment) * WATTS_A_CORE / 1000,
        watts=WATTS_A_CORE,
        held_out=", ".join([*(f"{s} {bits} {unit}" for s, bits in facts["bits_per_byte"].items()), *right]),
        rounding=rounding,
    )
    (PACKAGE / part / "README.md").write_text(card, encoding="utf-8")
    return rounding


def training_seconds(stage: dict[str, Any]) -> float:
    """How long it trained, over all sittings; a stage's own seconds are those of the last one."""
    return float(stage["facts"]["tokens"] / stage["facts"]["tokens_per_second"])


def held_out(model: Transformer, tokens: Path) -> dict[str, str]:
    """The model's figure on each held-out split, in words."""
    shards = {name: shard for name, shard in open_shards(tokens).items() if name not in ("train", "exercises")}
    texts = {name: shard for name, shard in shards.items() if shard.mask is None}
    objective = CausalLM() if texts else Chat()
    shards = texts or shards
    length = model.config.context_length
    results = evaluate_shards(model, objective, shards, sequence_length=length, batch_size=4, max_tokens=EVALUATED)
    return {name: _in_words(result) for name, result in results.items()}


def _in_words(result: HeldOut) -> str:
    if "answers_right" in result.measures:
        return f"{result.measures['answers_right']:.1%} right"
    return f"{result.bits_per_byte:.4f} bits per byte"


def _machine(environment: dict[str, Any]) -> str:
    return f"{_cores(environment)} cores of {environment['processor']}"


def _cores(environment: dict[str, Any]) -> int:
    return int(environment["cores"])


if __name__ == "__main__":
    main()
