"""Fused causal attention for training on CPUs: `attention.cpp` as an operator of torch."""

import ctypes
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wikigpt.model.cpu.build import call, library


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_batch", "n_heads", "n_kv_heads", "n_tokens", "head_dim")),
        ("scale", ctypes.c_float),
    ]


class _Strided(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("strides", ctypes.c_int64 * 3)]


def attention(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, scale: float | None = None) -> Tensor:
    """Causal softmax attention within documents, differentiable, as one operator to autograd and torch.compile.

    FlashAttention-2 (Dao 2023): nothing of the size of the score matrix is kept. Sums are taken in fp32 and
    in an order that does not depend on threads, so that results repeat bit for bit. Threads share the pairs
    of row and key head.

    Args:
        q: `[batch, heads, tokens, head_dim]`, fp32 or bf16; views with a dense last dimension are not copied.
        k, v: `[batch, kv_heads, tokens, head_dim]`, `kv_heads` a divisor of `heads` (grouped-query attention).
        first_key: int32 `[batch, tokens]`, the first key that a token sees: where its document starts.
        scale: of the scores; by default 1 / sqrt(head_dim).

    Returns:
        `[batch, heads, tokens, head_dim]`, a transposed view of dense `[batch, tokens, heads, head_dim]`.

    Raises:
        ValueError: shapes or types that do not fit, or a first key that is not in `0 ... own position`.
        RuntimeError: it is not `available()`.
    """
    dim = q.shape[-1]
    scale = 1 / math.sqrt(dim) if scale is None else scale
    if dim % 2:  # bf16 products read pairs
        q, k, v = (F.pad(x, (0, 1)) for x in (q, k, v))
    return torch.ops.wikigpt.cpu_attention(q, k, v, first_key, scale)[0][..., :dim]


def _check(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor) -> None:
    batch, heads, tokens, dim = q.shape
    if k.shape != v.shape or k.shape != (batch, k.shape[1], tokens, dim) or heads % k.shape[1]:
        raise ValueError(f"attention: q {[*q.shape]}, k {[*k.shape]} and v {[*v.shape]} do not fit together.")
    if q.dtype not in (torch.float32, torch.bfloat16) or k.dtype != q.dtype or v.dtype != q.dtype:
        raise ValueError(f"attention: q, k, v must be all fp32 or all bf16, not {q.dtype}, {k.dtype}, {v.dtype}.")
    if first_key.dtype != torch.int32 or first_key.shape != (batch, tokens):
        raise ValueError(f"attention: first_key must be int32 {[batch, tokens]}, not {first_key.dtype}.")


def _dense(x: Tensor) -> Tensor:
    """`x`, copied if the library could not read its rows as whole numbers of 4 bytes."""
    odd = any(stride % 2 for stride in x.stride()[:3]) or x.data_ptr() % 4
    return x.clone(memory_format=torch.contiguous_format) if x.stride(3) != 1 or odd else x


def _like(x: Tensor) -> Tensor:
    """Room for a tensor of the shape of `x` `[batch, heads, tokens, dim]`, the heads of a token side by side."""
    batch, heads, tokens, dim = x.shape
    return x.new_empty(batch, tokens, heads, dim).transpose(1, 2)


def _call(name: str, scale: float, *tensors: Tensor) -> None:
    """A function of the library on `q, k, ...`: tensors with heads as `Strided`, others as pointers."""
    q, k = tensors[:2]
    batch, heads, tokens, dim = q.shape
    shape = _Shape(batch, heads, k.shape[1], tokens, dim, scale)
    arguments = [
        ctypes.byref(_Strided(x.data_ptr(), x.stride()[:3])) if x.dim() == 4 else ctypes.c_void_p(x.data_ptr())
        for x in tensors
    ]
    if not call(f"attention_{name}", q.dtype, ctypes.byref(shape), *arguments):
        raise ValueError("attention: first_key must be between 0 and the token's own position.")


@torch.library.custom_op("wikigpt::cpu_attention", mutates_args=(), device_types="cpu")
def _forward(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The output and, fp32 `[batch, heads, tokens]`, the logarithm of each query's sum of exponentials."""
    _check(q, k, v, first_key)
    dtype = q.dtype if library().bf16 else torch.float32
    inputs = [_dense(x.to(dtype)) for x in (q, k, v)]
    out, lse = _like(inputs[0]), q.new_empty(q.shape[:3], dtype=torch.float32)
    _call("forward", scale, *inputs, first_key.contiguous(), out, lse)
    return out.to(q.dtype), lse


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return _like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("wikigpt::cpu_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = q.dtype if library().bf16 else torch.float32
    inputs = [_dense(x.to(dtype)) for x in (q, k, v)]
    grads = [_like(x) for x in inputs]
    out, grad = _dense(out.to(dtype)), _dense(grad.to(dtype))
    _call("backward", scale, *inputs, first_key.contiguous(), out, lse.contiguous(), grad, *grads)
    dq, dk, dv = (x.to(q.dtype) for x in grads)
    return dq, dk, dv


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q), _like(k), _like(v)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q, k, v, first_key, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, first_key, *output)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv = torch.ops.wikigpt.cpu_attention_backward(grad, *ctx.saved_tensors, ctx.scale)
    return dq, dk, dv, None, None


_forward.register_autograd(_differentiate, setup_context=_save)
