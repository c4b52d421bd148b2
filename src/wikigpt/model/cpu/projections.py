"""The projections around attention for training on CPUs: `projections.cpp` as operators of torch."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wikigpt.model.cpu.build import call, library


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_rows", "n_tokens", "width", "head_dim")),
        ("eps", ctypes.c_float),
    ]


class _Stream(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("x", "gain", "dx", "d_gain")]


class _Part(ctypes.Structure):
    _fields_ = [
        ("n_heads", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weight", "gain", "cos", "sin", "heads", "d_weight", "d_gain")),
    ]


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("n_rows", "inputs", "width")]


def norm_qkv(
    x: Tensor,
    gain: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    v_weight: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    *,
    n_heads: int,
    n_kv_heads: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """RMSNorm, projections to queries, keys and values, their norms and rotation, as one differentiable operator.

    Products are taken in `dtype`, all else in fp32. The backward pass keeps the inputs only. Results repeat bit
    for bit for one number of threads. Memory beside the results, kept for the next call: the weights in `dtype`
    (twice in the backward pass) and in each thread its gradients of the weights in fp32 and some
    256 · (3 width + all heads) numbers.

    Args:
        x: the residual stream, `[batch, tokens, width]`, fp32 (others are converted).
        gain: of the norm over the stream, `[width]`.
        q_weight, k_weight, v_weight: `[heads * head_dim, width]` as `nn.Linear` has them; `head_dim` even.
        q_gain, k_gain: of the RMSNorm over each head (QK-norm), `[head_dim]`; None: no such norm.
        cos, sin: of the rotary angles, `[tokens, head_dim]`; they get no gradient.
        eps: of all norms.
        dtype: fp32 or bf16.

    Returns:
        q, k, v in `dtype`, `[batch, heads, tokens, head_dim]`, transposed views of dense
        `[batch, tokens, heads, head_dim]`, as `attention` reads them.

    Raises:
        ValueError: shapes or types that do not fit.
        RuntimeError: the operators are not `available()`.
    """
    return torch.ops.wikigpt.cpu_norm_qkv(
        x.float(), gain, q_weight, k_weight, v_weight, q_gain, k_gain, cos, sin, eps, n_heads, n_kv_heads, dtype
    )


def project_add(y: Tensor, weight: Tensor, x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """`x + y Wᵀ`: what attention found, projected back into the residual stream, as one differentiable operator.

    The gradient of `x` is that of the result itself, not a copy. Numbers, repeatability and memory as `norm_qkv`.

    Args:
        y: `[batch, heads, tokens, head_dim]`; a transposed view of dense `[batch, tokens, heads, head_dim]`, as
            `attention` returns it, is not copied.
        weight: `[width, heads * head_dim]`, as `nn.Linear` has it.
        x: the residual stream, `[batch, tokens, width]`, fp32 (others are converted).
        dtype: of the products, fp32 or bf16.

    Returns:
        fp32 `[batch, tokens, width]`.

    Raises:
        ValueError: shapes or types that do not fit.
        RuntimeError: the operators are not `available()`.
    """
    return torch.ops.wikigpt.cpu_project_add(y, weight, x.float(), dtype)


def _check(dtype: torch.dtype, **shapes: tuple[Tensor | None, Sequence[int]]) -> None:
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"dtype: products are taken in fp32 or bf16, not in {dtype}.")
    for name, (tensor, shape) in shapes.items():
        if tensor is not None and (tensor.dtype != torch.float32 or [*tensor.shape] != [*shape]):
            raise ValueError(f"{name}: must be fp32 {[*shape]}, not {tensor.dtype} {[*tensor.shape]}.")


def _type(dtype: torch.dtype) -> torch.dtype:
    """What products are taken in where `dtype` is asked for."""
    return dtype if library().bf16 else torch.float32


def _room(x: Tensor, heads: int, dim: int, dtype: torch.dtype) -> Tensor:
    """Room for `[batch, heads, tokens, dim]`, the heads of a token side by side."""
    batch, tokens, _ = x.shape
    return x.new_empty(batch, tokens, heads, dim, dtype=dtype).transpose(1, 2)


def _dense(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`[batch, heads, tokens, dim]` as dense `[batch, tokens, heads, dim]`."""
    return x.to(dtype).transpose(1, 2).contiguous()


def _at(x: Tensor | None) -> int | None:
    return None if x is None or not x.numel() else x.data_ptr()


def _project_heads(
    name: str, inputs: Sequence[Tensor | None], eps: float, heads: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> None:
    """A function of the library.

    Args:
        inputs: of the operator, from `x` to `sin`.
        heads: dense `[batch, tokens, heads, head_dim]` of queries, keys and values, or their gradients.
        grads: of the first seven inputs; None or empty where they are not asked for.
    """
    inputs = [None if x is None else x.contiguous() for x in inputs]
    x, gain, *weights, q_gain, k_gain, cos, sin = (_at(x) for x in inputs)
    dx, d_gain, *d_weights, dq_gain, dk_gain = (_at(x) for x in grads)
    norms = [(q_gain, cos, sin), (k_gain, cos, sin), (None, None, None)]
    parts = (_Part * 3)(
        *(
            _Part(part.shape[2], weight, *norm, part.data_ptr(), d_weight, d_head_gain)
            for part, weight, norm, d_weight, d_head_gain in zip(
                heads, weights, norms, d_weights, (dq_gain, dk_gain, None), strict=True
            )
        )
    )
    batch, tokens, _, dim = heads[0].shape
    assert inputs[0] is not None
    shape = _Shape(batch * tokens, tokens, inputs[0].shape[2], dim, eps)
    stream = _Stream(x, gain, dx, d_gain)
    call(f"heads_{name}", heads[0].dtype, ctypes.byref(shape), ctypes.byref(stream), parts)


@torch.library.custom_op("wikigpt::cpu_norm_qkv", mutates_args=(), device_types="cpu")
def _norm_qkv(
    x: Tensor,
    gain: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    v_weight: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    n_heads: int,
    n_kv_heads: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    _, tokens, width = x.shape
    dim = cos.shape[-1]
    if dim % 2:
        raise ValueError(f"cos: rotary positions need an even head_dim, not {dim}.")
    _check(
        dtype,
        x=(x, x.shape),
        gain=(gain, [width]),
        q_weight=(q_weight, [n_heads * dim, width]),
        k_weight=(k_weight, [n_kv_heads * dim, width]),
        v_weight=(v_weight, [n_kv_heads * dim, width]),
        q_gain=(q_gain, [dim]),
        k_gain=(k_gain, [dim]),
        cos=(cos, [tokens, dim]),
        sin=(sin, [tokens, dim]),
    )
    q, k, v = (_room(x, n, dim, _type(dtype)) for n in (n_heads, n_kv_heads, n_kv_heads))
    inputs = (x, gain, q_weight, k_weight, v_weight, q_gain, k_gain, cos, sin)
    _project_heads("forward", inputs, eps, [part.transpose(1, 2) for part in (q, k, v)], [None] * 7)
    return q.to(dtype), k.to(dtype), v.to(dtype)


@_norm_qkv.register_fake
def _(x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, cos, _, _, n_heads, n_kv_heads, dtype = inputs
    q, k, v = (_room(x, n, cos.shape[-1], dtype) for n in (n_heads, n_kv_heads, n_kv_heads))
    return q, k, v


def _room_for_gradients(inputs: Sequence[Tensor | None], needed: Sequence[bool]) -> list[Tensor]:
    """Room for the gradient of each input; an empty tensor where it is not needed."""
    x = inputs[0]
    assert x is not None
    return [x.new_empty(t.shape if need and t is not None else 0) for t, need in zip(inputs, needed, strict=True)]


@torch.library.custom_op("wikigpt::cpu_norm_qkv_backward", mutates_args=(), device_types="cpu")
def _norm_qkv_backward(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    x: Tensor,
    gain: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    v_weight: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    needed: list[bool],
) -> list[Tensor]:
    """Gradients of the first seven inputs of `norm_qkv`; empty where they are not `needed`."""
    inputs = (x, gain, q_weight, k_weight, v_weight, q_gain, k_gain)
    grads = _room_for_gradients(inputs, needed)
    heads = [_dense(part, _type(dq.dtype)) for part in (dq, dk, dv)]
    _project_heads("backward", (*inputs, cos, sin), eps, heads, grads)
    return grads


@_norm_qkv_backward.register_fake
def _(dq: Tensor, dk: Tensor, dv: Tensor, *inputs: Any) -> list[Tensor]:
    return _room_for_gradients(inputs[:7], inputs[-1])


def _save_norm_qkv(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.eps = inputs[9]


def _differentiate_norm_qkv(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    needed = [*ctx.needs_input_grad[:7]]
    results = torch.ops.wikigpt.cpu_norm_qkv_backward(*grads, *ctx.saved_tensors, ctx.eps, needed)
    return *(grad if need else None for grad, need in zip(results, needed, strict=True)), *[None] * 6


_norm_qkv.register_autograd(_differentiate_norm_qkv, setup_context=_save_norm_qkv)


@torch.library.custom_op("wikigpt::cpu_project_add", mutates_args=(), device_types="cpu")
def _project_add(y: Tensor, weight: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    batch, heads, tokens, dim = y.shape
    width = x.shape[-1]
    _check(dtype, weight=(weight, [width, heads * dim]), x=(x, [batch, tokens, width]))
    dense, weight, x = _dense(y, _type(dtype)), weight.contiguous(), x.contiguous()
    out = torch.empty_like(x)
    sizes = _Sizes(batch * tokens, heads * dim, width)
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (dense, weight, x, out))
    call("add_forward", dense.dtype, ctypes.byref(sizes), *pointers)
    return out


@_project_add.register_fake
def _(y: Tensor, weight: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("wikigpt::cpu_project_add_backward", mutates_args=(), device_types="cpu")
def _project_add_backward(
    grad: Tensor, y: Tensor, weight: Tensor, dtype: torch.dtype, y_needed: bool, weight_needed: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of `y` and `weight`; empty where they are not needed."""
    batch, heads, tokens, dim = y.shape
    dense, weight, grad = _dense(y, _type(dtype)), weight.contiguous(), grad.float().contiguous()
    dy = dense.new_empty(dense.shape if y_needed else (0, 0, 0, 0))
    d_weight = weight.new_empty(weight.shape if weight_needed else 0)
    sizes = _Sizes(batch * tokens, heads * dim, grad.shape[-1])
    pointers = (ctypes.c_void_p(_at(tensor)) for tensor in (grad, dense, weight, dy, d_weight))
    call("add_backward", dense.dtype, ctypes.byref(sizes), *pointers)
    return dy.transpose(1, 2).to(y.dtype), d_weight


@_project_add_backward.register_fake
def _(
    grad: Tensor, y: Tensor, weight: Tensor, dtype: torch.dtype, y_needed: bool, weight_needed: bool
) -> tuple[Tensor, Tensor]:
    batch, heads, tokens, dim = y.shape
    dy = y.new_empty((batch, tokens, heads, dim) if y_needed else (0, 0, 0, 0)).transpose(1, 2)
    return dy, weight.new_empty(weight.shape if weight_needed else 0)


def _save_project_add(ctx: Any, inputs: tuple, output: Tensor) -> None:
    y, weight, _, ctx.dtype = inputs
    ctx.save_for_backward(y, weight)


def _differentiate_project_add(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    y_needed, weight_needed = ctx.needs_input_grad[:2]
    dy = d_weight = None
    if y_needed or weight_needed:
        y, weight = ctx.saved_tensors
        dy, d_weight = torch.ops.wikigpt.cpu_project_add_backward(grad, y, weight, ctx.dtype, y_needed, weight_needed)
    return dy if y_needed else None, d_weight if weight_needed else None, grad, None


_project_add.register_autograd(_differentiate_project_add, setup_context=_save_project_add)
