"""The stage of preference tuning."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.errors import UserError
from wikigpt.instruct import foreign
from wikigpt.tokens import open_shards, tokenizer_sha256
from wikigpt.tokens.pairs import Pair, is_held_out, read_pairs, write_pair_tokens
from wikigpt.train import Prefer
from wikigpt.train.distributed import main_first
from wikigpt.train.metrics import Progress
from wikigpt.train.tuning import PreferConfig
from wikigpt.tune.learner import Learner


def prefer(
    base: Path,
    pairs: Path,
    work: Path,
    output: Path,
    *,
    settings: PreferConfig,
    adapter: AdapterSettings | None = None,
    merge: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the better of two answers likelier (Rafailov et al. 2023); an interrupted run goes on from `work`.

    Takes and raises what `Learner.load` does, `base` being a chat model.

    Args:
        pairs: a folder with `pairs.jsonl` (see `wikigpt.tokens.pairs.read_pairs`), or a file in a format of
            `wikigpt.instruct.foreign`, of which the rows that cannot be used are left out.

    Raises:
        UserError: also for a line that is no pair, or no pair that fits into the model's context.
    """
    learner = Learner.load(base, work, output, adapter=adapter, merge=merge, seed=seed, progress=progress)
    model = learner.model
    length = settings.sequence_length or model.config.context_length
    main_first(
        lambda: write_pair_tokens(
            learner.tokens,
            _read(pairs),
            learner.tokenizer,
            tokenizer_sha256(learner.tokenizer_folder),
            max_length=length,
            first_virtual=model.config.vocab_size,
            n_virtual=learner.adapter.n_virtual,
            progress=progress,
        )
    )
    shards, dropped = open_shards(learner.tokens), learner.dropped
    if "train" not in shards:
        left_out = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in dropped.items() if n) or "none was there"
        raise UserError(f"{pairs} holds no pair to learn from ({left_out}; a pair has {length} tokens at most).")
    objective = Prefer(
        reference=None if settings.reference_free else copy.deepcopy(model),
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        per_token=settings.per_token,
        margin=settings.margin,
        chosen_weight=settings.chosen_weight,
    )
    result = learner.train(objective, shards, settings.training(), made_of=(settings.own(),))
    measures = {
        name: {kind: round(value, 4) for kind, value in held_out.measures.items()}
        for name, held_out in result.held_out.items()
    }
    facts = learner.facts(result, preference=measures, dropped=dropped)
    learner.save(facts)
    return facts


def _read(pairs: Path) -> Iterator[Pair]:
    if pairs.is_dir():
        yield from read_pairs(pairs)
        return
    for row in foreign.read_pairs(pairs):
        split = row["lang"] if is_held_out(row["messages"]) else "train"
        yield Pair(split, row["messages"], row["chosen"], row["rejected"])
