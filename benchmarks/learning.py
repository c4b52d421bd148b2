"""What a fixed time of training comes to: held-out bits per byte, ours against a tuned nanoGPT loop.

Real articles of Wikipedia, English and Chinese apart ($WIKIGPT_DATA/text, default `../shared/data/text`): a random
50 MB to train on, which nobody sees twice in five minutes, and at least 200 whole articles held out. Both sides read
the same tokens of our tokenizer. Ours is `wikigpt.train.train` with the settings below; the peer (`peers.py`) is
GPT-2 in fp32 with AdamW, its cosine schedule fitted to the time. Each runs alone, in a process of its own, and its
time is wall-clock from the start of that process: imports, measuring, compiling are in it. The last checkpoint is not.

Both are measured in fp32 on the same rows of 512 tokens, articles one after the other with `<|endoftext|>` between
them, which is how the peer was trained; every held-out token is a target. Ours does not see the articles before.

`--tune 1e-3,2e-3` instead tries these learning rates of the peer for as many steps as it takes in five minutes.
"""

import json
import lzma
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from common import DATA, arguments, in_fresh_process, report, result
from peers import GPT2, train_gpt2
from wikigpt.model import ModelConfig, new_model
from wikigpt.recipe import TokenizerSettings
from wikigpt.tokens import Shard, build_tokenizer, load_tokenizer, open_shards, tokenizer_sha256, write_text_tokens
from wikigpt.train import CausalLM, TrainConfig, train
from wikigpt.train.batches import Batch
from wikigpt.train.machine import measure_machine, physical_cores
from wikigpt.train.objectives import uncompile

TEXT = DATA / "text"
TRAIN_BYTES = 50_000_000
HELD_OUT_ARTICLES, HELD_OUT_BYTES = 200, 1_000_000  # at least; Chinese articles are short
CONTEXT, VOCAB = 512, 8192

# English, one minute: 2.257 bits per byte with 6 layers and the default rate of embeddings, 2.219 with a rate of 0.01,
# 2.187 with 4 layers; 2.269 with batches of 4, 2.267 with a decay over 0.8 of the run, 2.282 with 4 x 384. English, 2.3
# minutes: 1.925 with 4 heads and batches of 8, 1.919 with 2 heads, 1.910 with batches of 16; 1.931 with 2 heads and an
# output matrix of its own, which is ahead only for some hundred steps (docs/experiments.md).
OURS_MODEL = ModelConfig(n_layers=4, d_model=256, n_heads=2, context_length=CONTEXT, vocab_size=VOCAB)
OURS = {"batch_size": 16, "embedding_learning_rate": 0.01}

PEER_MODEL = ModelConfig(n_layers=6, d_model=256, n_heads=4, context_length=CONTEXT, vocab_size=VOCAB)
PEER_BATCH = 8
PEER_COMPILED = True
# English, 180 steps (in bf16, to save time): 2.504 bits per byte at 5e-4, 2.453 at 1e-3, 2.519 at 2e-3, 2.635 at 4e-3.
PEER_RATE = {"en": 1e-3, "zh": 1e-3}
TUNE_STEPS, TUNE_TOKENS = 180, 100_000  # to train for, and to measure on


def main() -> None:
    """Prepare the tokens, train both sides on them, print, write."""
    options = arguments(__doc__, minutes=5.0, langs="en,zh", tune="", work="")
    if not (TEXT / "enwiki.jsonl.xz").is_file():
        raise SystemExit(f"there is no text at {TEXT}; set WIKIGPT_DATA to the folder that holds text/enwiki.jsonl.xz.")
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for lang in options.langs.split(","):
            tokens = tokens_of(lang, Path(options.work or temporary) / lang)
            if options.tune:
                for rate in options.tune.split(","):
                    bits = in_fresh_process(peer_bits, tokens, float(rate), time.time(), 0.0, TUNE_STEPS)
                    print(f"{lang}, learning rate {rate}: {bits:.4f} bits per byte", flush=True)
                continue
            peer = in_fresh_process(peer_bits, tokens, PEER_RATE[lang], time.time(), options.minutes, 0)
            ours = in_fresh_process(our_bits, tokens, Path(temporary) / f"run-{lang}", time.time(), options.minutes)
            name = f"learning, {options.minutes:g} minutes of {lang}wiki, start and compilation included"
            peer_name = "GPT-2 6x256, nanoGPT loop, fp32"
            row = result(f"{name} (target: at most 0.75)", [ours], [peer], peer_name=peer_name, unit="bits per byte")
            results.append(row)
    report(results, options.json)


def tokens_of(lang: str, folder: Path) -> Path:
    """The tokens folder of a language; with what `--work` still holds nothing is done."""
    tokenizer, tokens = folder / "tokenizer", folder / "tokens"
    if not tokens.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        documents = list(articles(lang))
        settings = TokenizerSettings(vocab_size=VOCAB)
        build_tokenizer(
            (text for split, text in documents if split == "train"),
            tokenizer,
            vocab_size=settings.vocab_size,
            split_cjk=settings.split_cjk,
            max_token_length=settings.max_token_length,
        )
        write_text_tokens(tokens, documents, load_tokenizer(tokenizer), tokenizer_sha256(tokenizer))
    for name, shard in open_shards(tokens).items():
        print(f"{lang}, {name}: {shard.n_documents:,} articles, {len(shard.tokens):,} tokens, {shard.n_bytes:,} bytes")
    return tokens


def articles(lang: str) -> Iterator[tuple[str, str]]:
    """`(split, text)` of articles taken at random, the held-out ones first."""
    with lzma.open(TEXT / f"{lang}wiki.jsonl.xz", "rt", encoding="utf-8") as lines:
        texts = ["{title}\n\n{text}".format(**json.loads(line)) for line in lines]
    random.Random(0).shuffle(texts)
    held_out = training = 0
    for i, text in enumerate(texts):
        if i < HELD_OUT_ARTICLES or held_out < HELD_OUT_BYTES:
            held_out += len(text.encode())
            yield "held out", text
        elif training < TRAIN_BYTES:
            training += len(text.encode())
            yield "train", text


def our_bits(tokens: Path, folder: Path, began: float, minutes: float) -> float:
    """Held-out bits per byte of our training, its process started at `began` (seconds since the epoch)."""
    shards = open_shards(tokens)
    torch.manual_seed(0)
    model = new_model(OURS_MODEL)
    measure_machine()  # once a process; `train` does it before its own clock runs
    left = minutes - (time.time() - began) / 60
    settings = TrainConfig(minutes=left, **OURS)
    state = train(model, CausalLM(), {"train": shards["train"]}, settings, folder).state
    note("ours", began, state.step, state.tokens, f"compiled: {state.compiled}, {state.precision}")
    uncompile(model.eval())
    objective = CausalLM()
    held_out = shards["held out"]
    return bits_per_byte(lambda batch: objective.loss(model, batch), held_out, len(held_out.tokens))


def peer_bits(tokens: Path, learning_rate: float, began: float, minutes: float, steps: int) -> float:
    """Held-out bits per byte of the peer after so many minutes since `began`, or if given so many steps."""
    shards = open_shards(tokens)
    torch.set_num_threads(physical_cores())
    torch.manual_seed(0)
    model = GPT2(PEER_MODEL)

    def done(step: int) -> float:
        return step / steps if steps else (time.time() - began) / (60 * minutes)

    taken = train_gpt2(
        model,
        shards["train"].tokens,
        batch_size=PEER_BATCH,
        learning_rate=learning_rate,
        done=done,
        forward=torch.compile(model) if PEER_COMPILED else None,
    )
    note("peer", began, len(taken), len(taken) * PEER_BATCH * CONTEXT, f"learning rate {learning_rate}")
    held_out = shards["held out"]
    most = TUNE_TOKENS if steps else len(held_out.tokens)
    return bits_per_byte(lambda batch: model(batch.input_ids, batch.targets) * batch.n_targets, held_out, most)


def note(side: str, began: float, steps: int, n_tokens: int, more: str) -> None:
    """Print what a side did in its time."""
    print(f"{side}: {time.time() - began:.1f} s, {steps:,} steps, {n_tokens:,} tokens; {more}", flush=True)


@torch.no_grad()
def bits_per_byte(nats: Callable[[Batch], Tensor], shard: Shard, most: int) -> float:
    """Bits per byte of a shard on rows with `most` of its tokens, `nats` being the summed loss of a batch of rows."""
    batches = CausalLM().packer(shard, CONTEXT, seed=0).first_epoch(8, most + CONTEXT - 1)
    total, n_targets = 0.0, 0
    for batch in batches:
        total += nats(batch).item()
        n_targets += batch.n_targets
    return total / n_targets * len(shard.tokens) / shard.n_bytes / math.log(2)


if __name__ == "__main__":
    main()
