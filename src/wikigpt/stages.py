"""Stages of a build, each a function from folders and settings to one folder.

`wikigpt.pipeline` runs them in a row; each is also a command of its own. Others are in packages of their own
(`corpus`, `instruct`, `tune`, `knowledge`).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wikigpt.artifacts import atomic_folder, check_output_folder, fingerprint, read_json, sha256_file, write_json
from wikigpt.cards import model_card
from wikigpt.corpus import Document, corpus_manifest, facts_as_text, read_corpus
from wikigpt.errors import UserError
from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.recipe import TokenizerSettings
from wikigpt.train.config import TrainConfig

Progress = Callable[[int, int, str], None]


def article_text(document: Document) -> str:
    """An article as the model reads it: title, text, and what its infobox says."""
    facts = facts_as_text(document.facts, document.lang)
    return "\n\n".join(part for part in (document.title, document.text, facts) if part)


def tokenizer(
    corpus: Path, output: Path, *, settings: TokenizerSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Train a tokenizer on a corpus's training articles and write it to `output`.

    Articles are taken in the order of a hash of their id, so that a limit takes a fair sample.
    """
    from wikigpt.tokens import build_tokenizer

    check_output_folder(output, "tokenizer.json")
    texts = (article_text(document) for document in _sampled(corpus, settings.max_articles))
    return build_tokenizer(
        texts,
        output,
        vocab_size=settings.vocab_size,
        split_cjk=settings.split_cjk,
        max_token_length=settings.max_token_length,
        progress=progress,
    )


def _sampled(corpus: Path, limit: int) -> Iterator[Document]:
    total = corpus_manifest(corpus)["documents"]
    for document in read_corpus(corpus):
        share = int(fingerprint(document.lang, document.title), 16) / 16**16
        if document.split == "train" and share * total <= limit:
            yield document


def tokens(
    corpus: Path,
    tokenizer: Path,
    output: Path,
    *,
    exercises: Path | None = None,
    max_length: int = 0,
    reuse: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode a corpus: training articles as split "train", held-out ones as a split per language.

    Args:
        exercises: folder of conversations to be pretrained on as well, those of at most `max_length` tokens.
        reuse: leave an `output` that was made of these already as it is; a large wiki takes an hour to encode.
    """
    from wikigpt.tokens import load_tokenizer, tokenizer_sha256, write_text_tokens
    from wikigpt.tokens.conversations import conversation_files, read_folder

    corpus_manifest(corpus)  # says what is wrong with it
    loaded = load_tokenizer(tokenizer)
    made_of = {
        "corpus_sha256": sha256_file(corpus / "corpus.json"),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }
    if exercises is not None:
        made_of["exercises_sha256"] = fingerprint(*map(sha256_file, conversation_files(exercises)), max_length)
    if reuse and (output / "tokens.json").is_file():
        manifest: dict[str, Any] = read_json(output / "tokens.json")
        if made_of.items() <= manifest.items() and (exercises is not None) == ("exercises_sha256" in manifest):
            return manifest
    documents = (
        ("train" if document.split == "train" else document.lang, article_text(document))
        for document in read_corpus(corpus)
    )
    return write_text_tokens(
        output,
        documents,
        loaded,
        made_of["tokenizer_sha256"],
        exercises=read_folder(exercises, by_task=True) if exercises else None,
        max_length=max_length,
        extra=made_of,
        progress=progress,
    )


def pretrain(
    tokens: Path,
    tokenizer: Path,
    work: Path,
    output: Path,
    *,
    model: ModelConfig,
    settings: TrainConfig,
    base: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a base model on the running text of `tokens` and save it as a model folder.

    Causal families learn to predict the next token, the others masked ones.

    Args:
        work: folder for checkpoints and metrics; an interrupted run goes on from there.
        model: the shape; its vocabulary size is taken from the tokenizer.
        base: a pretrained model (folder or .gguf file) to start from instead of from noise; its shape counts.
    """
    import torch

    from wikigpt.launch import is_main
    from wikigpt.model import new_model, save_model
    from wikigpt.model.importing import origin_of
    from wikigpt.tokens import load_tokenizer, open_shards, tokenizer_sha256
    from wikigpt.tokens.shards import EXERCISES, shards_sha256
    from wikigpt.train import CausalLM, MaskedLM, train
    from wikigpt.train.trouble import in_plain_words

    check_output_folder(output, "config.json")
    loaded = load_tokenizer(tokenizer)
    shards = open_shards(tokens, tokenizer_sha256=tokenizer_sha256(tokenizer))
    origin = shards_sha256(tokens)
    torch.manual_seed(seed)
    if base is None:
        shape = model.model_copy(update={"vocab_size": loaded.get_vocab_size()})
        _check_fits(shape)
        network = new_model(shape, induction_heads=settings.induction_heads)
    else:
        from wikigpt.model.importing import load_pretrained, weight_files

        network = load_pretrained(base, loaded)
        origin = fingerprint(origin, [sha256_file(path) for path in weight_files(base)])
    causal = FAMILIES[network.config.family].causal
    if EXERCISES in shards and not causal:
        raise UserError(f"a {network.config.family} model fills masks and learns from no exercises; leave them out.")
    objective = CausalLM() if causal else MaskedLM.of(loaded, whole_words=settings.whole_words)
    result = train(
        network, objective, shards, settings, work, seed=seed, origin=origin, tokenizer=loaded, progress=progress
    )
    facts = result.facts(network.config)
    if base is not None:
        facts["base"] = base.name
    card = model_card("base model" if causal else "masked language model", facts)
    if is_main():
        with in_plain_words(output):
            save_model(network, output, tokenizer=tokenizer, card=card, origin=origin_of(base) if base else None)
    return facts


def _check_fits(shape: ModelConfig) -> None:
    """Refuse a model that this machine's memory cannot even hold, before it is made."""
    import psutil
    import torch

    # fp32 weights; without a GPU their gradients and momenta lie beside them.
    needed = shape.n_parameters * (4 if torch.cuda.is_available() else 12)
    if needed > (memory := psutil.virtual_memory().total):
        raise UserError(
            f"a model of {shape.n_parameters:,} weights needs {needed / 1e9:,.1f} GB to train and this machine has "
            f"{memory / 1e9:,.1f} GB; lower model.d_model or model.n_layers."
        )


def evaluate(
    model: Path,
    conversations: Path,
    knowledge: Path,
    output: Path,
    *,
    bits_per_byte: dict[str, float],
    limits: dict[str, int],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask the chat model the held-out questions; writes `evaluation.json` and `answers.jsonl` to `output`.

    Args:
        bits_per_byte: held-out figures of the base model, to be reported beside the answers.
        limits: most questions of each task, per language.
    """
    from wikigpt.chat.engine import Engine
    from wikigpt.evaluate.tasks import run_tasks
    from wikigpt.knowledge import Index

    report, answers = run_tasks(
        Engine.from_folder(model),
        Index(knowledge),
        conversations / "questions.jsonl",
        limits=limits,
        progress=progress,
    )
    evaluation = {"bits_per_byte": bits_per_byte, "tasks": report}
    check_output_folder(output, "evaluation.json")
    with atomic_folder(output) as folder:
        write_json(folder / "evaluation.json", evaluation)
        with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
            for answer in answers:
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return evaluation
