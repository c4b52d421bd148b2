"""Learning from a teacher (distillation) and from preferences: the two stages, and where answers come from."""

from wikigpt.teach.distillation import distill
from wikigpt.teach.preference import prefer

__all__ = ["distill", "prefer"]
