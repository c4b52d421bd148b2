"""The stage of preference tuning."""

import copy
from pathlib import Path
from typing import Any

from wikigpt.artifacts import check_output_folder, fingerprint, read_json
from wikigpt.errors import UserError
from wikigpt.teach.start import load_start, save, weights_checksum
from wikigpt.train.metrics import Progress
from wikigpt.train.tuning import PreferConfig, plain


def prefer(
    base: Path,
    pairs: Path,
    work: Path,
    output: Path,
    *,
    settings: PreferConfig,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the better of two answers likelier (Rafailov et al. 2023); an interrupted run goes on from `work`.

    Args:
        base: the chat model to start from: model folder, or .gguf file.
        pairs: a `.jsonl` file, or a folder with one (see `wikigpt.tokens.pairs.read_pairs`).
        work: folder for encoded pairs, checkpoints and metrics.

    Raises:
        UserError: no such model or pairs, a line that is none, or no pair that fits into the model's context.
    """
    from wikigpt.stages import _checksum, _training_facts
    from wikigpt.tokens import open_shards, tokenizer_sha256
    from wikigpt.tokens.pairs import read_pairs, write_pair_tokens
    from wikigpt.train import Prefer, train
    from wikigpt.train.distributed import main_first

    check_output_folder(output, "config.json")
    tokenizer, loaded, model = load_start(base, work)
    length = settings.sequence_length or model.config.context_length
    main_first(
        lambda: write_pair_tokens(
            work / "tokens",
            read_pairs(pairs),
            loaded,
            tokenizer_sha256(tokenizer),
            max_length=length,
            progress=progress,
        )
    )
    shards, dropped = open_shards(work / "tokens"), read_json(work / "tokens" / "tokens.json")["dropped"]
    if "train" not in shards:
        left_out = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in dropped.items() if n) or "none was there"
        raise UserError(f"{pairs} holds no pair to learn from ({left_out}; a pair has {length} tokens at most).")
    objective = Prefer(
        reference=None if settings.reference_free else copy.deepcopy(model),
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        per_token=settings.per_token,
        margin=settings.margin,
    )
    own = settings.model_dump(include=set(PreferConfig.model_fields) - set(type(plain(settings)).model_fields))
    origin = fingerprint(weights_checksum(base), _checksum(work / "tokens"), own)
    result = train(
        model, objective, shards, plain(settings), work, seed=seed, origin=origin, tokenizer=loaded, progress=progress
    )
    measures = {
        name: {kind: round(value, 4) for kind, value in held_out.measures.items()}
        for name, held_out in result.held_out.items()
    }
    facts = {**_training_facts(result, model), "preference": measures, "dropped": dropped}
    save(model, output, tokenizer, facts)
    return facts
