"""Muon's step on CPUs: `muon.cpp`."""

import ctypes
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wikigpt.model.cpu.build import call


class _Settings(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_float) for name in ("learning_rate", "weight_decay", "momentum", "a", "b", "c", "epsilon")),
        ("n_steps", ctypes.c_int32),
    ]


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("parameter", "momentum", "gradient")),
        *((name, ctypes.c_int64) for name in ("n_rows", "n_columns")),
        ("factor", ctypes.c_float),
    ]


def muon_step(matrices: Iterable[tuple[Tensor, Tensor, Tensor, float]], group: dict[str, Any]) -> None:
    """What `torch.optim.Muon` does in one step, with Nesterov's momentum; in place, each matrix by one thread.

    Momentum and weights stay fp32, the products of the Newton-Schulz steps are bf16 where the processor has
    them; unlike torch's, sums between them are fp32.

    Args:
        matrices: parameter, gradient, momentum (each fp32 and contiguous) and the learning rate's factor.
        group: torch's parameter group: `lr`, `weight_decay`, `momentum`, `ns_coefficients`, `eps`, `ns_steps`.
    """
    entries = [_Matrix(p.data_ptr(), m.data_ptr(), g.data_ptr(), *p.shape, f) for p, g, m, f in matrices]
    settings = _Settings(
        group["lr"],
        group["weight_decay"],
        group["momentum"],
        *group["ns_coefficients"],
        group["eps"],
        group["ns_steps"],
    )
    array = (_Matrix * len(entries))(*entries)
    call("muon", torch.bfloat16, array, ctypes.c_int64(len(entries)), ctypes.byref(settings))
