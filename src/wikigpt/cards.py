"""Model cards: what a model is, from what, how well it does, and what it is not fit for."""

from pathlib import Path
from typing import Any


def model_card(kind: str, facts: dict[str, Any]) -> str:
    """The model card's text: what it is, from what, how well, and what it is not fit for."""
    masked = "masked_perplexity" in facts
    start = f"- **Start**: the weights of `{facts['base']}`, whose licence holds, too.\n" if "base" in facts else ""
    return f"""---
license: cc-by-sa-4.0
library_name: transformers
pipeline_tag: {"fill-mask" if masked else "text-generation"}
tags: [wikigpt, wikipedia]
---
# Wiki-GPT {kind}

A small {kind} of {facts["parameters"]:,} weights, trained by WikiGPT from wiki text in {facts["steps"]:,} steps
on {facts["tokens"]:,} tokens.

- **Data**: see `corpus.json` and `recipe.toml` of the run. Text of Wikipedia is CC BY-SA 4.0, by Wikipedia's
  contributors; weights trained on it are shared under the same licence.
{start}- {_held_out(facts)}
- **Limits**: it knows little beyond its wiki, errs often, and repeats the biases of its sources. Do not rely
  on it where a wrong answer does harm.
"""


def adapter_card(base: Path, facts: dict[str, Any]) -> str:
    """The model card of an adapter."""
    return f"""---
license: cc-by-sa-4.0
library_name: peft
base_model: {base.resolve()}
pipeline_tag: text-generation
tags: [wikigpt, wikipedia]
---
# Adapter of {base.resolve().name} by {facts["method"]}

{facts["trained_parameters"]:,} weights beside the base's {facts["parameters"]:,}, trained by WikiGPT in
{facts["steps"]:,} steps on {facts["tokens"]:,} tokens of conversations. It works with this base only:
`wikigpt chat BASE --adapter FOLDER`, or PEFT's `PeftModel.from_pretrained(base, folder)`.

- **Data**: conversations made from wiki text, CC BY-SA 4.0 by Wikipedia's contributors where the wiki is Wikipedia.
- {_held_out(facts)}
- **Limits**: those of its base; it errs often. Do not rely on it where a wrong answer does harm.
"""


def _held_out(facts: dict[str, Any]) -> str:
    """How well it does on what it was not trained on, by language: a sentence of a list."""
    if "preference" in facts:
        figures = {
            name: f"{measures['accuracy']:.0%} (margin {measures['margin']:.3g})"
            for name, measures in facts["preference"].items()
        }
        about = "Held-out pairs** whose better answer gained on the worse one"
    elif "masked_perplexity" in facts:
        figures, about = facts["masked_perplexity"], "Held-out perplexity** of masked tokens"
    else:
        figures, about = facts["bits_per_byte"], "Held-out loss** in bits per byte"
    return f"**{about}: {', '.join(f'{name} {value}' for name, value in figures.items()) or 'not measured'}."
