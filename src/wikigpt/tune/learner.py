"""What fine-tuning, distillation and preference tuning share: a model that learns, and the folder it becomes."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from wikigpt.adapt.files import check_adaptable, extract, save_adapter
from wikigpt.adapt.methods import adapt, plain, trained_share
from wikigpt.adapt.settings import AdapterSettings
from wikigpt.artifacts import check_output_folder, fingerprint, read_json, sha256_file
from wikigpt.cards import adapter_card, model_card
from wikigpt.errors import UserError
from wikigpt.launch import is_main, launched
from wikigpt.model import FAMILIES, Transformer, save_model
from wikigpt.model.importing import (
    check_pretrained,
    load_pretrained,
    origin_of,
    pretrained_tokenizer,
    save_pretrained_tokenizer,
    weight_files,
)
from wikigpt.tokens import Message, Shard, load_tokenizer, open_shards, tokenizer_sha256, write_chat_tokens
from wikigpt.tokens.shards import shards_sha256
from wikigpt.tokens.tokenizer import CHAT_TEMPLATE
from wikigpt.train import TrainConfig, TrainResult, train
from wikigpt.train.distributed import main_first
from wikigpt.train.metrics import Progress
from wikigpt.train.objectives import Objective
from wikigpt.train.trouble import in_plain_words


@dataclass
class Learner:
    """A model that goes on from a base, what of it is trained, and where the outcome goes."""

    base: Path
    tokenizer_folder: Path
    tokenizer: Tokenizer
    model: Transformer
    adapter: AdapterSettings
    merge: bool
    work: Path
    output: Path
    seed: int
    progress: Progress | None

    @classmethod
    def load(
        cls,
        base: Path,
        work: Path,
        output: Path,
        *,
        adapter: AdapterSettings | None = None,
        merge: bool = False,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Learner":
        """Load a model folder or .gguf file and prepare it for what `adapter` trains (default: all weights).

        Args:
            work: folder for encoded conversations, checkpoints and metrics.
            output: folder for the model, or the adapter where the base stays as it is.
            merge: write a model with the adapter's changes in its weights.

        Raises:
            UserError: no such model, one that fills masks, or it cannot be adapted so.
        """
        adapter = adapter or AdapterSettings()
        check_output_folder(output, "adapter_config.json" if adapter.is_adapter and not merge else "config.json")
        check_pretrained(base)
        if adapter.is_adapter:
            check_adaptable(base, adapter, merge=merge)
        folder, template = base, base / "chat_template.jinja"
        if not template.is_file() or template.read_text(encoding="utf-8") != CHAT_TEMPLATE:
            folder = work / "tokenizer"  # of a model that others trained: it shall say how we format a chat
            main_first(lambda: pretrained_tokenizer(base, folder))
        tokenizer = load_tokenizer(folder)
        model = load_pretrained(base, tokenizer)
        if not FAMILIES[model.config.family].causal:
            raise UserError(f"{base} is a {model.config.family} model, which fills masks and cannot learn to chat.")
        adapt(model, adapter, seed=seed)
        return cls(base, folder, tokenizer, model, adapter, merge, work, output, seed, progress)

    def encode(
        self, conversations: Iterable[tuple[str, list[Message]]], length: int, *, source: Path
    ) -> dict[str, Shard]:
        """Token shards of `(split, messages)`, in `work/tokens`; those of more than `length` tokens are left out.

        Raises:
            UserError: nothing is left of `source` to train on.
        """
        main_first(
            lambda: write_chat_tokens(
                self.tokens,
                conversations,
                self.tokenizer,
                tokenizer_sha256(self.tokenizer_folder),
                max_length=length,
                first_virtual=self.model.config.vocab_size,
                n_virtual=self.adapter.n_virtual,
                progress=self.progress,
            )
        )
        shards = open_shards(self.tokens)
        if "train" not in shards:
            dropped = self.dropped
            raise UserError(
                f"none of the conversations in {source} can be trained on: {dropped['too_long']:,} are longer than "
                f"{length} tokens, {dropped['nothing_to_learn']:,} hold no answer."
            )
        return shards

    @property
    def tokens(self) -> Path:
        """The folder of what is learned, encoded."""
        return self.work / "tokens"

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out of `tokens`, by reason."""
        counts: dict[str, int] = read_json(self.tokens / "tokens.json")["dropped"]
        return counts

    def train(
        self,
        objective: Objective,
        shards: dict[str, Shard],
        settings: TrainConfig,
        *,
        made_of: tuple[Any, ...] = (),
    ) -> TrainResult:
        """Train, or go on training, in `work`.

        Args:
            made_of: what decides the outcome beside base, tokens, adapter and settings.
        """
        if settings.parallel == "fsdp" and launched() and self.adapter.method != "full":
            raise UserError(f"FSDP trains whole models; for {self.adapter.method} set finetune.parallel=ddp.")
        if self.adapter.rate is not None:
            settings = settings.model_copy(update={"embedding_learning_rate": self.adapter.rate})
        how = () if self.adapter.method == "full" else (self.adapter.model_dump(),)
        origin = fingerprint(weights_checksum(self.base), shards_sha256(self.tokens), *how, *made_of)
        return train(
            self.model,
            objective,
            shards,
            settings,
            self.work,
            seed=self.seed,
            origin=origin,
            tokenizer=self.tokenizer,
            progress=self.progress,
        )

    def facts(self, result: TrainResult, **more: Any) -> dict[str, Any]:
        """What is worth keeping of a run, for JSON."""
        trained, share = trained_share(self.model)
        facts = {**result.facts(self.model.config), "method": self.adapter.method}
        return {**facts, "trained_parameters": trained, "trained_share": round(share, 5), **more}

    def save(self, facts: dict[str, Any]) -> None:
        """Write `output`, in the main process: an adapter or a model with its card."""
        if not is_main():
            return
        with in_plain_words(self.output):
            if self.adapter.is_adapter and not self.merge:
                save_adapter(
                    extract(self.model, self.adapter),
                    self.output,
                    base=self.base,
                    tokenizer=self.tokenizer_folder,
                    facts=facts,
                    card=adapter_card(self.base, facts),
                )
            else:
                plain(self.model, keep=True)
                card = model_card("chat model", facts)
                # With its origin, so that what is made of this is taught gently, too.
                origin = origin_of(self.base)
                save_model(self.model, self.output, tokenizer=self.tokenizer_folder, card=card, origin=origin)


def load_teacher(source: Path) -> tuple[Tokenizer, Transformer]:
    """Tokenizer and model of a model folder or .gguf file whose answers or probabilities are learned from.

    Raises:
        UserError: there is no such model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        save_pretrained_tokenizer(source, Path(temporary))
        loaded = load_tokenizer(Path(temporary))
    return loaded, load_pretrained(source, loaded)


def weights_checksum(source: Path) -> str:
    """Of a model's weights."""
    return fingerprint(*map(sha256_file, weight_files(source)))
