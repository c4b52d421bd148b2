"""What goes wrong in a training run through no mistake of its settings: memory, disk, numbers that are not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

MAX_SKIPPED_IN_A_ROW = 5  # steps without an update, before the run goes back to an earlier checkpoint
MAX_ROLLBACKS = 3  # down to an eighth of the learning rates; a run that still fails has another problem
# How torch's CPU allocator says it (Linux, Windows), and C++ libraries that it calls.
NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")


class TrainingError(RuntimeError):
    """Training cannot go on, through no mistake of the user's input."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a failed allocation on any device, or caused by one (`torch.compile` wraps what it meets)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@contextmanager
def in_plain_words(folder: Path) -> Iterator[None]:
    """Turn what a disk or an allocator raises while `folder` is written into a `TrainingError` that says what to do."""
    try:
        yield
    except BrokenPipeError:  # not of a file: nobody reads our output any more
        raise
    except (OSError, SafetensorError) as error:  # safetensors has the system's message in its own
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise TrainingError(
            f"nothing more can be written to {folder} ({reason}); make room there, then run the same command again: "
            "it goes on from the last checkpoint."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, TrainingError) or not is_out_of_memory(error):
            raise
        raise TrainingError(
            "out of memory; free some, or lower model.context_length, model.d_model, model.n_layers or "
            "tokenizer.vocab_size."
        ) from error
