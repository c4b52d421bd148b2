"""Checkpoints: complete or absent, checked by checksum, without pickle."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from wikigpt.artifacts import atomic_folder, sha256_file, write_json
from wikigpt.model import Transformer
from wikigpt.model.hub import read_weights, write_weights
from wikigpt.train.optimizers import optimizer_state, restore_optimizers

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class TrainState:
    """Where a run stands; with weights and optimizer, all that is needed to go on bit for bit."""

    step: int = 0  # optimizer steps done; also says which rows come next
    seconds: float = 0.0  # wall-clock time spent so far
    decay_start: int | None = None  # first step of the falling learning rate, once known
    total_steps: int | None = None
    skipped_steps: int = 0  # steps whose loss or gradient was not finite
    tokens: int = 0  # positions seen, padding included
    precision: str | None = None  # once chosen, kept: another choice would change the losses
    compiled: bool | None = None
    fused_attention: bool | None = None  # likewise


def save_checkpoint(
    folder: Path,
    model: Transformer,
    optimizers: list[Optimizer],
    state: TrainState,
    *,
    run: str,
    keep: int,
) -> Path:
    """Write `folder/step-N` and remove all but the newest `keep`.

    Args:
        run: fingerprint of settings and data; a checkpoint of another run is not resumed from.
    """
    path = folder / f"step-{state.step}"
    with atomic_folder(path) as target:
        write_weights(model, target / WEIGHTS)
        save_file({k: v.contiguous() for k, v in optimizer_state(optimizers).items()}, target / OPTIMIZER)
        checksums = {name: sha256_file(target / name) for name in (WEIGHTS, OPTIMIZER)}
        write_json(target / STATE, {"run": run, "state": asdict(state), "sha256": checksums})
    kept = [p for p in checkpoints(folder) if _run_of(p) == run][:keep]
    for old in checkpoints(folder):
        if old not in kept:  # surplus, or left by a run with other settings
            shutil.rmtree(old)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    found = [p for p in folder.glob("step-*") if p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]), reverse=True)


def restore_newest(
    folder: Path, model: Transformer, optimizers: list[Optimizer], *, run: str
) -> tuple[TrainState | None, list[str]]:
    """Load the newest valid checkpoint of this run into model and optimizers.

    Returns its state, or None if there is none, and what was found wrong with newer ones.
    """
    problems = []
    for path in checkpoints(folder):
        problem, manifest = _check(path, run)
        if problem:
            problems.append(f"{path.name}: {problem}")
            continue
        read_weights(model, path / WEIGHTS)
        restore_optimizers(optimizers, load_file(path / OPTIMIZER))
        return TrainState(**manifest["state"]), problems
    return None, problems


def _run_of(path: Path) -> str | None:
    try:
        run: str = json.loads((path / STATE).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError):
        return None
    return run


def _check(path: Path, run: str) -> tuple[str | None, dict[str, Any]]:
    try:
        manifest = json.loads((path / STATE).read_text(encoding="utf-8"))
        if manifest["run"] != run:
            return "it belongs to a run with other settings or data", {}
        for name, checksum in manifest["sha256"].items():
            if sha256_file(path / name) != checksum:
                return f"{name} does not match its checksum", {}
    except (OSError, ValueError, KeyError) as error:
        return f"unreadable ({error})", {}
    return None, manifest
