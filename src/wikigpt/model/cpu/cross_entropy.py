"""Fused cross-entropy for training on CPUs: `cross_entropy.cpp` as an operator of torch."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from wikigpt.model.cpu.build import call


class _Inputs(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_rows", "width", "vocab")),
        *((name, ctypes.c_void_p) for name in ("hidden", "head", "bias", "targets")),
    ]


class _Kept(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("log_sum", "log_probability")]


class _Gradients(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("hidden", "head", "bias")]


def cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype
) -> Tensor:
    """Cross-entropy in nats, summed over the targets, of an output head, differentiable, without its logits.

    Cut Cross-Entropy (Wijmans et al. 2024): the forward pass keeps two numbers a row, the backward pass
    computes the logits again, block by block. Rows without a target are left out of both. Beside the
    gradients it takes the hidden states once (forward) or twice (backward) in `dtype`; in the backward pass for
    each thread once more in fp32, 64 MB for all threads together or 256 rows each; and 2 to 6 MB for each thread.
    Sums are taken in fp32, in an order that depends only on the number of threads. Not differentiable twice.

    Args:
        hidden: `[..., width]`, fp32 or bf16.
        head: `[vocab, width]`, as nn.Linear keeps it.
        targets: int64 `[...]`; -100 where there is nothing to predict.
        bias: `[vocab]`, added to the logits.
        dtype: of the products' factors: bf16 (where the processor has none: fp32) or fp32.

    Returns:
        fp32 scalar; 0 if there is no target.

    Raises:
        ValueError: shapes or types that do not fit, or a target outside the vocabulary.
        RuntimeError: it is not `available()`.
    """
    return torch.ops.wikigpt.cpu_cross_entropy(hidden, head, targets, bias, dtype)[0]


def _check(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
    if head.dim() != 2 or hidden.shape != (*targets.shape, head.shape[1]) or 0 in head.shape:
        shapes = f"hidden {[*hidden.shape]}, head {[*head.shape]} and targets {[*targets.shape]}"
        raise ValueError(f"cross_entropy: {shapes} do not fit together.")
    if bias is not None and bias.shape != head.shape[:1]:
        raise ValueError(f"cross_entropy: bias {[*bias.shape]} does not fit head {[*head.shape]}.")
    if targets.dtype != torch.int64:
        raise ValueError(f"cross_entropy: targets must be int64, not {targets.dtype}.")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"cross_entropy: dtype must be fp32 or bf16, not {dtype}.")


def _call(
    name: str, dtype: torch.dtype, hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, *arguments: Any
) -> None:
    """A function of the library on the inputs, which it reads as dense fp32."""
    tensors = [x if x is None else x.float().contiguous() for x in (hidden, head, bias)]
    targets = targets.contiguous()
    pointers = [x if x is None else x.data_ptr() for x in (*tensors, targets)]
    inputs = _Inputs(targets.numel(), head.shape[1], head.shape[0], *pointers)
    wrong = call(f"cross_entropy_{name}", dtype, ctypes.byref(inputs), *arguments)
    if wrong >= 0:
        target = targets.flatten()[wrong]
        raise ValueError(f"cross_entropy: target {target} (row {wrong}) is not in the vocabulary of {head.shape[0]}.")


@torch.library.custom_op("wikigpt::cpu_cross_entropy", mutates_args=(), device_types="cpu")
def _forward(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss; fp32 `[...]`, of each row, the logarithms of the sum of exp(logit) and of the target's probability."""
    _check(hidden, head, targets, bias, dtype)
    loss = hidden.new_empty((), dtype=torch.float32)
    log_sum, log_probability = (hidden.new_zeros(targets.shape, dtype=torch.float32) for _ in range(2))
    kept = _Kept(log_sum.data_ptr(), log_probability.data_ptr())
    _call("forward", dtype, hidden, head, targets, bias, ctypes.c_void_p(loss.data_ptr()), ctypes.byref(kept))
    return loss, log_sum, log_probability


@_forward.register_fake
def _(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    loss, log_sum, log_probability = (
        hidden.new_empty(shape, dtype=torch.float32) for shape in ((), targets.shape, targets.shape)
    )
    return loss, log_sum, log_probability


@torch.library.custom_op("wikigpt::cpu_cross_entropy_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor,
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    log_sum: Tensor,
    log_probability: Tensor,
    dtype: torch.dtype,
    needed: list[bool],
) -> list[Tensor]:
    """Gradients of those of hidden, head and bias that are `needed`, the others empty."""
    tensors = (hidden, head, bias)
    grads = [
        hidden.new_empty(x.shape if x is not None and need else 0, dtype=torch.float32)
        for x, need in zip(tensors, needed, strict=True)
    ]
    pointers = _Gradients(*(x.data_ptr() if need else None for x, need in zip(grads, needed, strict=True)))
    kept, factor = _Kept(log_sum.data_ptr(), log_probability.data_ptr()), ctypes.c_float(float(grad))
    _call("backward", dtype, hidden, head, targets, bias, ctypes.byref(kept), factor, ctypes.byref(pointers))
    return [g if x is None else g.to(x.dtype) for g, x in zip(grads, tensors, strict=True)]


@_backward.register_fake
def _(
    grad: Tensor,
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    log_sum: Tensor,
    log_probability: Tensor,
    dtype: torch.dtype,
    needed: list[bool],
) -> list[Tensor]:
    return [
        hidden.new_empty(0, dtype=torch.float32) if x is None else x.new_empty(x.shape if need else 0)
        for x, need in zip((hidden, head, bias), needed, strict=True)
    ]


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, head, targets, bias, ctx.dtype = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(hidden, head, targets, bias, *output[1:])


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[3]]
    grads = torch.ops.wikigpt.cpu_cross_entropy_backward(grad, *ctx.saved_tensors, ctx.dtype, needed)
    hidden, head, bias = (g if need else None for g, need in zip(grads, needed, strict=True))
    return hidden, head, None, bias, None


_forward.register_autograd(_differentiate, setup_context=_save)
