"""The stage of fine-tuning."""

from pathlib import Path
from typing import Any

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.tokens.conversations import read_folder
from wikigpt.train import Chat, TrainConfig
from wikigpt.train.metrics import Progress
from wikigpt.tune.learner import Learner


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
    """Teach a base model to chat, by conversations, on what the assistant says only.

    Takes and raises what `Learner.load` does; `conversations` is a folder that `wikigpt instruct` wrote.
    """
    learner = Learner.load(base, work, output, adapter=adapter, merge=merge, seed=seed, progress=progress)
    length = settings.sequence_length or learner.model.config.context_length
    shards = learner.encode(read_folder(conversations), length, source=conversations)
    facts = learner.facts(learner.train(Chat(), shards, settings), dropped=learner.dropped)
    learner.save(facts)
    return facts
