"""A model that learns to answer: from conversations, from a teacher, from preferences. The stages, and what they share.

Importing this package is cheap: torch is loaded with a stage, when that is first asked for.
"""

from typing import TYPE_CHECKING

from wikigpt.lazy import lazy

if TYPE_CHECKING:
    from wikigpt.tune.distillation import distill
    from wikigpt.tune.finetuning import finetune
    from wikigpt.tune.preference import prefer

__all__ = ["distill", "finetune", "prefer"]

__getattr__ = lazy(__name__, {"distill": "distillation", "finetune": "finetuning", "prefer": "preference"})
