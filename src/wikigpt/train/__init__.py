"""Training: packed batches, objectives, optimizers, checkpoints, and the one loop that uses them."""

from typing import TYPE_CHECKING

from wikigpt.lazy import lazy
from wikigpt.train.config import TrainConfig

if TYPE_CHECKING:
    from wikigpt.train.distill import Distill, HiddenStates
    from wikigpt.train.evaluation import HeldOut, evaluate_shards
    from wikigpt.train.loop import TrainResult, train
    from wikigpt.train.metrics import read_metrics
    from wikigpt.train.objectives import CausalLM, Chat, MaskedLM
    from wikigpt.train.prefer import PairPacker, Prefer
    from wikigpt.train.trouble import TrainingError

__all__ = [
    "CausalLM",
    "Chat",
    "Distill",
    "HeldOut",
    "HiddenStates",
    "MaskedLM",
    "PairPacker",
    "Prefer",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "evaluate_shards",
    "read_metrics",
    "train",
]
__getattr__ = lazy(
    __name__,
    {
        "CausalLM": "objectives",
        "Chat": "objectives",
        "Distill": "distill",
        "HeldOut": "evaluation",
        "HiddenStates": "distill",
        "MaskedLM": "objectives",
        "PairPacker": "prefer",
        "Prefer": "prefer",
        "TrainResult": "loop",
        "TrainingError": "trouble",
        "evaluate_shards": "evaluation",
        "read_metrics": "metrics",
        "train": "loop",
    },
)
