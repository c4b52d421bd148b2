"""What this machine can do, measured in under a second rather than guessed from its name."""

import os
import shutil
import sys
import time
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Machine:
    """Measured matrix speeds in GFLOP/s on the training device."""

    device: str
    fp32_gflops: float
    bf16_gflops: float
    can_compile: bool  # torch.compile finds what it needs
    bf16_is_native: bool = False  # known to be the faster, whatever was measured

    @property
    def precision(self) -> str:
        """The faster of "fp32" and "bf16" (bf16 must win clearly: it costs some accuracy)."""
        return "bf16" if self.bf16_is_native or self.bf16_gflops > 1.3 * self.fp32_gflops else "fp32"

    def peak(self, precision: str) -> float:
        """Matrix peak in FLOP/s at a precision: what MFU is measured against."""
        return (self.bf16_gflops if precision == "bf16" else self.fp32_gflops) * 1e9


def pick_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def physical_cores() -> int:
    """Cores this process may use (containers and taskset included)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def matmul_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Best of several timed products of the size a small transformer multiplies."""
    m, k, n = (4096, 256, 1024) if device.type == "cpu" else (8192, 4096, 4096)
    a = torch.randn(m, k, device=device).to(dtype)
    b = torch.randn(k, n, device=device).to(dtype)

    def gflops(rows: int) -> float:
        _wait(device)
        start = time.perf_counter()
        a[:rows] @ b
        _wait(device)
        return 2 * rows * k * n / (time.perf_counter() - start) / 1e9

    # Without instructions for bf16, oneDNN comes to 2 GFLOP/s, and one whole product takes a second.
    if not has_amx() and (first := max(gflops(m // 32) for _ in range(4))) <= 10:
        return first
    return max(gflops(m) for _ in range(6))


def has_amx() -> bool:
    """Whether there are tile registers for bf16 (Intel AMX) and oneDNN may use them.

    Where it is known which precision is faster, nothing has to be measured that other work at the same time could
    spoil: beside three busy programs bf16 came to 8 GFLOP/s instead of 3,000, and training took five times as long.
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16")) and "ONEDNN_MAX_CPU_ISA" not in os.environ


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def measure_machine() -> Machine:
    """Time fp32 and bf16 products once per process."""
    device = pick_device()
    compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")
    can_compile = device.type == "cuda" or any(map(shutil.which, (compiler, "clang++")))
    return Machine(
        device.type,
        matmul_gflops(device, torch.float32),
        matmul_gflops(device, torch.bfloat16),
        can_compile,
        bf16_is_native=device.type == "cpu" and has_amx(),
    )
