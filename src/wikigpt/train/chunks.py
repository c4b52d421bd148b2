"""Logits of a few rows at a time: those of all rows would be a step's largest tensors, with a large vocabulary."""

import torch
from torch import Tensor

# Numbers in the logits of a chunk of rows, 4 MB in fp32. A GPU wants more work at a time.
CHUNK_LOGITS, CHUNK_LOGITS_GPU = 2**20, 2**24
LEAST_ROWS = 256  # with fewer, reading the head for each chunk and adding up its gradient would take over


def chunk_logits(head: Tensor) -> int:
    """How many logits to compute with at a time in fp32."""
    return CHUNK_LOGITS if head.device.type == "cpu" else CHUNK_LOGITS_GPU


def chunk_rows(head: Tensor) -> int:
    """How many rows of logits `[rows, vocab]` to hold in the products' type, for a head `[vocab, width]`."""
    return max(LEAST_ROWS, chunk_logits(head) // head.shape[0])


def piece_rows(head: Tensor) -> int:
    """How many of these rows to compute with at a time in fp32."""
    return max(1, chunk_logits(head) // head.shape[0])


def back_through_head(errors: Tensor, hidden: Tensor, weight: Tensor, d_hidden: Tensor, d_head: Tensor | None) -> None:
    """From the gradient of a chunk of logits, write that of its hidden states, and add that of the head.

    Args:
        errors: `[rows, vocab]`, in the type of the products as are the next two.
        hidden: `[rows, width]`.
        weight: the head, `[vocab, width]`.
        d_hidden: `[rows, width]`.
        d_head: fp32 `[vocab, width]`; None for a head that is not trained.
    """
    torch.mm(errors, weight, out=d_hidden)
    if d_head is None:
        return
    tokens = max(1, chunk_logits(weight) // weight.shape[1])  # the sum is read and written while it is in the cache
    for part, columns in zip(d_head.split(tokens), errors.split(tokens, 1), strict=True):
        part += columns.T @ hidden
