"""The fused half block of Llama and Qwen3 for training on CPUs: `mlp.cpp` as an operator of torch."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from wikigpt.model.cpu.build import call


class _Shape(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in ("n_rows", "width", "hidden")), ("eps", ctypes.c_float)]


def norm_swiglu(
    x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, *, dtype: torch.dtype
) -> Tensor:
    """`x + down(silu(gate(n)) * up(n))`, n = RMSNorm(x) · gain, differentiable, as one operator.

    RMSNorm is that of Zhang & Sennrich 2019, the gated MLP that of Shazeer 2020. The backward pass needs the
    inputs alone and computes the hidden units again. Results repeat bit for bit for one number of threads.

    Beside its results the operator needs room for the weights in `dtype` (forward 3, backward 5 times
    hidden · width numbers) and, in the backward pass, per thread for 512 rows of 2 width + 3 hidden numbers;
    threads keep this memory for the next call.

    Args:
        x: `[..., width]`, the residual stream; other types than fp32 are converted.
        gain: `[width]`.
        gate, up: `[hidden, width]`.
        down: `[width, hidden]`.
        eps: added to the mean square.
        dtype: bf16 or fp32, of the products' factors; sums and all else are fp32.

    Returns:
        As x; gradients are of the inputs' types.

    Raises:
        ValueError: shapes that do not fit together, or another `dtype`.
        RuntimeError: it is not `available()`.
    """
    return torch.ops.wikigpt.cpu_norm_swiglu(x, gain, gate, up, down, eps, dtype)


def _check(x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor, dtype: torch.dtype) -> None:
    hidden, width = gate.shape
    if x.shape[-1:] != (width,) or gain.shape != (width,) or up.shape != gate.shape or down.shape != (width, hidden):
        shapes = ", ".join(str([*t.shape]) for t in (x, gain, gate, up, down))
        raise ValueError(f"norm_swiglu: x, gain, gate, up and down do not fit together: {shapes}.")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"norm_swiglu: dtype must be bf16 or fp32, not {dtype}.")


def _call(name: str, dtype: torch.dtype, eps: float, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """A function of the library on `x, gain, gate, ...`; outputs without elements are passed as null pointers."""
    x, gate = inputs[0], inputs[2]
    hidden, width = gate.shape
    shape = _Shape(x.numel() // width, width, hidden, eps)
    tensors = [ctypes.c_void_p(t.data_ptr() or None) for t in (*inputs, *outputs)]
    call(f"norm_swiglu_{name}", dtype, ctypes.byref(shape), *tensors)


def _plain(*tensors: Tensor) -> list[Tensor]:
    return [t.float().contiguous() for t in tensors]


@torch.library.custom_op("wikigpt::cpu_norm_swiglu", mutates_args=(), device_types="cpu")
def _forward(x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    _check(x, gain, gate, up, down, dtype)
    inputs = _plain(x, gain, gate, up, down)
    out = torch.empty_like(inputs[0])
    if out.numel():
        _call("forward", dtype, eps, inputs, [out])
    return out.to(x.dtype)


@_forward.register_fake
def _(x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("wikigpt::cpu_norm_swiglu_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    gain: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    eps: float,
    dtype: torch.dtype,
    needed: list[bool],
) -> list[Tensor]:
    """Gradients of x, gain, gate, up and down; without elements where not needed."""
    parameters = (x, gain, gate, up, down)
    *inputs, grad = _plain(*parameters, grad)
    grads = [t.new_empty(t.shape if need else 0) for t, need in zip(inputs, needed, strict=True)]
    if x.numel():
        _call("backward", dtype, eps, [*inputs, grad], grads)
    else:
        for g in grads:
            g.zero_()
    return [g.to(t.dtype) for g, t in zip(grads, parameters, strict=True)]


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    gain: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    eps: float,
    dtype: torch.dtype,
    needed: list[bool],
) -> list[Tensor]:
    return [t.new_empty(t.shape if need else 0) for t, need in zip((x, gain, gate, up, down), needed, strict=True)]


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.eps, ctx.dtype = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:5])
    needed[0] = needed[1] = needed[0] or needed[1]  # they are computed together
    grads = torch.ops.wikigpt.cpu_norm_swiglu_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.dtype, needed)
    return *(g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=False)), None, None


_forward.register_autograd(_differentiate, setup_context=_save)
