"""The C++ operators of this folder, compiled at first use and kept in the user's cache folder."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from wikigpt.artifacts import cache_folder, fingerprint

NO_MEMORY = -(2**31)  # `kNoMemory` of vectors.h
# Instruction sets by what torch would use here: libraries can be shared by all processors of a kind.
MARCH = {"AVX512": ["-march=x86-64-v4"], "AVX2": ["-march=x86-64-v3"]}


@dataclass(frozen=True)
class Library:
    """The compiled functions, by their C names."""

    functions: ctypes.CDLL
    bf16: bool  # whether torch multiplies small bf16 matrices on this processor


@cache
def load() -> Library | str:
    """The library, built if need be, or why there is none."""
    if not sys.platform.startswith("linux"):
        return f"it was only tried on Linux, and this is {sys.platform}"
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        return "there is no C++ compiler; install g++"
    folder, torch_folder = Path(__file__).parent, Path(torch.__file__).parent
    sources = sorted(folder.glob("*.cpp"))
    command = [compiler, "-O3", "-std=c++20", "-fPIC", "-fopenmp", "-ffp-contract=fast"]
    command += MARCH.get(torch.backends.cpu.get_cpu_capability(), [])
    command += [f"-I{torch_folder / 'include'}"]
    linked = [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    try:
        code = [path.read_text(encoding="utf-8") for path in (*sources, *sorted(folder.glob("*.h")))]
        key = fingerprint(code, torch.__version__, command)
        path = cache_folder() / f"cpu-{key}.so"
        if not path.exists():
            _compile(command, sources, linked, path)
        functions = ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        return str(error)
    types = functions.wikigpt_types()
    return Library(functions, types == 2) if types else "torch has no small matrix products for this processor"


def _compile(command: list[str], sources: list[Path], linked: list[str], library: Path) -> None:
    """Write `library` complete or not at all: processes may race."""

    def run(arguments: list[str]) -> None:
        try:
            subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise OSError(f"{command[0]} failed: {error.stderr.strip()[:500]}") from error

    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = [str(Path(folder) / f"{source.stem}.o") for source in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda source, o: run(["-c", str(source), "-o", o]), sources, objects))
        built = Path(folder) / library.name
        run(["-shared", *objects, *linked, "-o", str(built)])
        built.replace(library)


def available() -> bool:
    """Whether the operators work here; the first call builds them (some seconds, kept in the user's cache folder)."""
    return isinstance(load(), Library)


def unavailable_because() -> str:
    """Why `available` is False, in words; empty where it is True."""
    loaded = load()
    return loaded if isinstance(loaded, str) else ""


def library() -> Library:
    """The library where there is one.

    Raises:
        RuntimeError: it is not `available()`.
    """
    loaded = load()
    if isinstance(loaded, str):
        raise RuntimeError(f"the fused operators cannot be used: {loaded}.")
    return loaded


def product_dtype() -> torch.dtype:
    """What plain torch would multiply fp32 matrices in on a CPU at this moment: autocast's dtype, or fp32."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def call(name: str, dtype: torch.dtype, *arguments: Any) -> int:
    """Call one of the library's functions, with as many threads as torch has.

    Args:
        dtype: of its products; where torch has none in bf16, they are fp32.

    Raises:
        MemoryError: there is not enough for what its threads need.
    """
    loaded = library()
    function = getattr(loaded.functions, f"wikigpt_{name}")
    function.restype = ctypes.c_int64
    bf16 = dtype == torch.bfloat16 and loaded.bf16
    result: int = function(int(bf16), *arguments, torch.get_num_threads())
    if result == NO_MEMORY:
        raise MemoryError(f"not enough memory for {name}")
    return result
