"""Training: packed batches, objectives, optimizers, checkpoints, and the one loop that uses them."""

from wikigpt.train.config import TrainConfig
from wikigpt.train.loop import TrainingError, TrainResult, read_metrics, train
from wikigpt.train.objectives import CausalLM, Chat

__all__ = ["CausalLM", "Chat", "TrainConfig", "TrainResult", "TrainingError", "read_metrics", "train"]
