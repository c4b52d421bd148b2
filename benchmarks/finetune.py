"""Throughput of fine-tuning against TRL's SFTTrainer: the same model folder, conversations and row length.

The model is a `qwen3` of 6 x 256 with random weights, saved by us and loaded by transformers; the conversations are
those of the sample wiki. Both learn what the assistant says only, in rows of 512 tokens, 8 a step. What counts is
tokens of conversations, without padding. TRL is given its best: both ways to pack ("bfd" keeps conversations
whole, as we do; "wrapped" cuts them), fp32 and bf16, eager and compiled, in the first round; then the best of them.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common import arguments, report, result
from train import Peer
from wikigpt.instruct import build_conversations
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.pipeline import build_stages
from wikigpt.recipe import load_recipe
from wikigpt.tokens import load_tokenizer, open_shards
from wikigpt.train import Chat, TrainConfig, read_metrics
from wikigpt.train.machine import physical_cores
from wikigpt.tune import finetune

ROWS, LENGTH = 8, 512
SHAPE = {"n_layers": 6, "d_model": 256, "n_heads": 4, "context_length": LENGTH}


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, rounds=3, steps=8)
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        peer = sft_trainer(folder, options.steps)
        ours, theirs = [], []
        for i in range(options.rounds):
            ours.append(our_rate(folder, options.steps, folder / f"run-{i}"))
            print(f"round {i + 1}: ours {ours[-1]:,.0f} tokens/s", flush=True)
            theirs.append(peer.round())
    name = f"fine-tuning, 6x256, rows of {ROWS} x {LENGTH}, all weights (target: 2 x)"
    report([result(name, ours, theirs, peer_name=peer.name, unit="tokens/s")], options.json)


def prepare(folder: Path) -> None:
    """Write `base` and `conversations`, from the sample wiki."""
    recipe = load_recipe("demo", ["base=none", "tokenizer.vocab_size=8192"])
    for stage in build_stages(recipe, folder):
        if stage.name in ("corpus", "tokenizer"):
            stage.run(lambda *_: None)
    build_conversations(folder / "corpus", folder / "conversations", settings=recipe.instruct, seed=0)
    vocab_size = load_tokenizer(folder / "tokenizer").get_vocab_size()
    torch.manual_seed(0)
    save_model(
        Transformer(ModelConfig(**SHAPE, vocab_size=vocab_size)), folder / "base", tokenizer=folder / "tokenizer"
    )


def our_rate(folder: Path, steps: int, work: Path) -> float:
    """Conversation tokens a second of our fine-tuning; the first two steps do not count."""
    settings = TrainConfig(steps=steps + 2, batch_size=ROWS, checkpoint_seconds=1e6, samples=[], evaluation_tokens=1000)
    finetune(folder / "base", folder / "conversations", work, work / "model", settings=settings)
    rates = [m["tokens_per_second"] for m in read_metrics(work / "metrics.jsonl") if "loss" in m]
    shard = open_shards(work / "tokens")["train"]
    filled = len(shard.tokens) / (Chat().packer(shard, LENGTH, seed=0).rows_per_epoch * LENGTH)
    return statistics.median(rates[2:]) * filled


def sft_trainer(folder: Path, steps: int) -> Peer:
    """TRL's trainer in its variants."""
    import datasets
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    lines = (folder / "conversations" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:5000]
    dataset = datasets.Dataset.from_list([{"messages": json.loads(line)["messages"]} for line in lines])

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.begin)

    def rate(packing: str, bf16: bool, compiled: bool) -> float:
        clock = Clock()
        settings = SFTConfig(
            output_dir=str(folder / "trl"),
            max_length=LENGTH,
            packing=True,
            packing_strategy=packing,
            assistant_only_loss=True,
            per_device_train_batch_size=ROWS,
            gradient_checkpointing=False,
            max_steps=steps + 2,
            bf16=bf16,
            torch_compile=compiled,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32),
            args=settings,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(folder / "base"),
            callbacks=[clock],
        )
        sizes = [len(row["input_ids"]) for row in trainer.train_dataset]
        trainer.train()
        return ROWS * statistics.mean(sizes) / statistics.median(clock.seconds[2:])

    variants: dict[str, Callable[[], float]] = {
        f"{packing}, {'bf16' if bf16 else 'fp32'}{', compiled' if compiled else ''}": (
            lambda packing=packing, bf16=bf16, compiled=compiled: rate(packing, bf16, compiled)
        )
        for packing in ("wrapped", "bfd")
        for bf16 in (False, True)
        for compiled in (False, True)
    }
    return Peer("TRL's SFTTrainer, best of its packings, fp32/bf16, eager/compiled", variants)


if __name__ == "__main__":
    main()
