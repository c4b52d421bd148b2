"""The stages of a build, each a function from folders and settings to one folder.

`wikigpt.pipeline` runs them in a row; each is also a command of its own.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.artifacts import atomic_folder, check_output_folder, fingerprint, read_json, sha256_file, write_json
from wikigpt.corpus import Document, corpus_manifest, facts_as_text, read_corpus
from wikigpt.errors import UserError
from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.recipe import TokenizerSettings
from wikigpt.teach import distill as distill
from wikigpt.teach import prefer as prefer
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


def pretrained_tokenizer(base: Path, output: Path) -> dict[str, Any]:
    """Write the tokenizer of a pretrained model to `output`, with the chat format that we train on."""
    from wikigpt.model.importing import save_pretrained_tokenizer
    from wikigpt.tokens import load_tokenizer
    from wikigpt.tokens.tokenizer import CHAT_TEMPLATE

    check_output_folder(output, "tokenizer.json")
    with atomic_folder(output) as folder:
        added = save_pretrained_tokenizer(base, folder, chat_template=CHAT_TEMPLATE)
    return {"vocab_size": load_tokenizer(output).get_vocab_size(), "base": str(base), "added_tokens": added}


def _sampled(corpus: Path, limit: int) -> Iterator[Document]:
    total = corpus_manifest(corpus)["documents"]
    for document in read_corpus(corpus):
        share = int(fingerprint(document.lang, document.title), 16) / 16**16
        if document.split == "train" and share * total <= limit:
            yield document


def tokens(
    corpus: Path, tokenizer: Path, output: Path, *, reuse: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Encode a corpus: training articles as split "train", held-out ones as a split per language.

    Args:
        reuse: leave an `output` that was made of these already as it is; a large wiki takes an hour to encode.
    """
    from wikigpt.tokens import load_tokenizer, tokenizer_sha256, write_text_tokens

    corpus_manifest(corpus)  # says what is wrong with it
    loaded = load_tokenizer(tokenizer)
    made_of = {
        "corpus_sha256": sha256_file(corpus / "corpus.json"),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }
    if reuse and (output / "tokens.json").is_file():
        manifest: dict[str, Any] = read_json(output / "tokens.json")
        if made_of.items() <= manifest.items():
            return manifest
    documents = (
        ("train" if document.split == "train" else document.lang, article_text(document))
        for document in read_corpus(corpus)
    )
    return write_text_tokens(output, documents, loaded, **made_of, progress=progress)


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
    from wikigpt.model import Transformer, save_model
    from wikigpt.tokens import load_tokenizer, open_shards, tokenizer_sha256
    from wikigpt.train import CausalLM, MaskedLM, train
    from wikigpt.train.trouble import in_plain_words

    check_output_folder(output, "config.json")
    loaded = load_tokenizer(tokenizer)
    shards = open_shards(tokens, tokenizer_sha256=tokenizer_sha256(tokenizer))
    origin = _checksum(tokens)
    torch.manual_seed(seed)
    if base is None:
        shape = model.model_copy(update={"vocab_size": loaded.get_vocab_size()})
        _check_fits(shape)
        network = Transformer(shape)
    else:
        from wikigpt.model.importing import load_pretrained, weight_files

        network = load_pretrained(base, loaded)
        origin = fingerprint(origin, [sha256_file(path) for path in weight_files(base)])
    causal = FAMILIES[network.config.family].causal
    objective = CausalLM() if causal else MaskedLM.of(loaded, whole_words=settings.whole_words)
    result = train(
        network, objective, shards, settings, work, seed=seed, origin=origin, tokenizer=loaded, progress=progress
    )
    facts = _training_facts(result, network)
    if base is not None:
        facts["base"] = base.name
    card = _card("base model" if causal else "masked language model", facts)
    if is_main():
        with in_plain_words(output):
            save_model(network, output, tokenizer=tokenizer, card=card)
    return facts


def finetune(
    base: Path,
    conversations: Path,
    work: Path,
    output: Path,
    *,
    settings: TrainConfig,
    adapter: AdapterSettings | None = None,
    merge: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Teach a base model to chat: fine-tuning on conversations, on what the assistant says only.

    Writes a model folder to `output`, or, where `adapter` leaves the base as it is, an adapter's.

    Args:
        base: model folder, or .gguf file.
        work: folder for encoded conversations, checkpoints and metrics.
        adapter: what is trained; default: all weights.
        merge: write a model folder with the adapter's changes in its weights.
    """
    from wikigpt.adapt.files import check_adaptable, extract, save_adapter
    from wikigpt.adapt.methods import adapt, plain, trained_share
    from wikigpt.launch import is_main
    from wikigpt.model import save_model
    from wikigpt.model.importing import load_pretrained, weight_files
    from wikigpt.tokens import load_tokenizer, open_shards, tokenizer_sha256, write_chat_tokens
    from wikigpt.tokens.tokenizer import CHAT_TEMPLATE
    from wikigpt.train import Chat, train
    from wikigpt.train.distributed import main_first
    from wikigpt.train.trouble import in_plain_words

    adapter = adapter or AdapterSettings()
    beside = adapter.is_adapter and not merge
    check_output_folder(output, "adapter_config.json" if beside else "config.json")
    if adapter.is_adapter:
        check_adaptable(base, adapter, merge=merge)
        settings = settings.model_copy(update={"embedding_learning_rate": adapter.rate})
    tokenizer, template = base, base / "chat_template.jinja"
    if not template.is_file() or template.read_text(encoding="utf-8") != CHAT_TEMPLATE:
        tokenizer = work / "tokenizer"  # of a model that others trained: it shall say how we format a chat
        main_first(lambda: pretrained_tokenizer(base, tokenizer))
    loaded = load_tokenizer(tokenizer)
    model = load_pretrained(base, loaded)
    if not FAMILIES[model.config.family].causal:
        raise UserError(f"{base} is a {model.config.family} model, which fills masks and cannot learn to chat.")
    adapt(model, adapter, seed=seed)
    main_first(
        lambda: write_chat_tokens(
            work / "tokens",
            _conversations(conversations),
            loaded,
            tokenizer_sha256(tokenizer),
            max_length=settings.sequence_length or model.config.context_length,
            first_virtual=model.config.vocab_size,
            n_virtual=adapter.n_virtual,
            progress=progress,
        )
    )
    shards, dropped = open_shards(work / "tokens"), read_json(work / "tokens" / "tokens.json")["dropped"]
    if "train" not in shards:
        raise UserError(
            f"none of the conversations in {conversations} can be trained on: {dropped['too_long']:,} are longer than "
            f"the model's rows of {settings.sequence_length or model.config.context_length} tokens, "
            f"{dropped['nothing_to_learn']:,} hold no answer."
        )
    what = () if adapter.method == "full" else (adapter.model_dump(),)
    origin = fingerprint(*map(sha256_file, weight_files(base)), _checksum(work / "tokens"), *what)
    result = train(model, Chat(), shards, settings, work, seed=seed, origin=origin, tokenizer=loaded, progress=progress)
    facts = {**_training_facts(result, model), "dropped": dropped}
    trained, share = trained_share(model)
    facts |= {"method": adapter.method, "trained_parameters": trained, "trained_share": round(share, 5)}
    if is_main():
        with in_plain_words(output):
            if beside:
                card = _adapter_card(base, facts)
                save_adapter(extract(model, adapter), output, base=base, tokenizer=tokenizer, facts=facts, card=card)
            else:
                plain(model, keep=True)
                save_model(model, output, tokenizer=tokenizer, card=_card("chat model", facts))
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


def _checksum(tokens: Path) -> str:
    return sha256_file(tokens / "tokens.json")  # which holds the checksums of all token files


def _conversations(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """`(split, messages)`: training ones as "train", held-out ones as a split per language."""
    for name in ("train", "validation"):
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"{path} is missing; make conversations with `wikigpt instruct`.")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    split, messages = "train" if name == "train" else entry["lang"], entry["messages"]
                    if not all(isinstance(part, str) for m in messages for part in (m["role"], m["content"])):
                        raise ValueError("role and content of a message are text")
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{path}, line {number}: not a conversation ({error!r}).") from None
                yield split, messages


def _training_facts(result: Any, model: Any) -> dict[str, Any]:
    state, held_out = result.state, result.held_out
    facts = {
        "parameters": model.config.n_parameters,
        "steps": state.step,
        "tokens": state.tokens,
        "skipped_steps": state.skipped_steps,
        "tokens_per_second": round(result.tokens_per_second),
        "mfu": round(result.mfu, 3),
        "precision": state.precision,
        "compiled": state.compiled,
        "held_out_loss": {name: round(h.nats_per_target, 4) for name, h in held_out.items()},
        "bits_per_byte": {n: round(h.bits_per_byte, 4) for n, h in held_out.items() if h.bits_per_byte is not None},
    }
    if not FAMILIES[model.config.family].causal:
        facts["masked_perplexity"] = {name: round(h.perplexity, 2) for name, h in held_out.items()}
    return facts


def _card(kind: str, facts: dict[str, Any]) -> str:
    """The model card's text: what it is, from what, how well, and what it is not fit for."""
    masked = "masked_perplexity" in facts
    figures = facts["masked_perplexity" if masked else "bits_per_byte"]
    held_out = ", ".join(f"{name} {value}" for name, value in figures.items()) or "not measured"
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
{start}- **Held-out {"perplexity** of masked tokens" if masked else "loss** in bits per byte"}: {held_out}.
- **Limits**: it knows little beyond its wiki, errs often, and repeats the biases of its sources. Do not rely
  on it where a wrong answer does harm.
"""


def _adapter_card(base: Path, facts: dict[str, Any]) -> str:
    """The model card of an adapter."""
    held_out = ", ".join(f"{name} {value}" for name, value in facts["bits_per_byte"].items()) or "not measured"
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
- **Held-out loss** in bits per byte of what the assistant says: {held_out}.
- **Limits**: those of its base; it errs often. Do not rely on it where a wrong answer does harm.
"""


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
