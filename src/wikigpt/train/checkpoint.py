"""Checkpoints: complete or absent, checked by checksum, without pickle; those of another run are never lost."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from wikigpt.artifacts import atomic_folder, fingerprint, sha256_file, write_json
from wikigpt.errors import UserError
from wikigpt.model import Transformer
from wikigpt.model.hub import read_weights, write_weights
from wikigpt.train.distributed import Parallel
from wikigpt.train.metrics import METRICS
from wikigpt.train.optimizers import optimizer_state, restore_optimizers

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 1  # of these files; raise it when they come to mean something else


@dataclass
class TrainState:
    """Where a run stands; with weights and optimizer, all that is needed to go on bit for bit."""

    step: int = 0  # optimizer steps done; also says which rows come next
    seconds: float = 0.0  # wall-clock time spent so far
    decay_start: int | None = None  # first step of the falling learning rate, once known
    total_steps: int | None = None
    skipped_steps: int = 0  # steps whose loss or gradient was not finite
    skipped_in_a_row: int = 0  # of them, since the last good one
    tokens: int = 0  # positions seen, padding included
    precision: str | None = None  # once chosen, kept: another choice would change the losses
    compiled: bool | None = None
    fused: bool | None = None  # operators of `model.cpu`; likewise
    micro_batch: int | None = None  # rows per forward pass, where memory did not suffice for the settings'
    rollbacks: int = 0  # returns to an earlier checkpoint; each halved the learning rates


def save_checkpoint(
    folder: Path,
    parallel: Parallel,
    optimizers: list[Optimizer],
    state: TrainState,
    *,
    run: str,
    keep: int,
) -> Path:
    """Write `folder/step-N` and remove this run's others but the newest `keep` up to there.

    Later ones go, too: they are damaged, or what the run went back from. Whole tensors are written, by rank 0, so
    that any number of ranks can go on from them; all ranks have to call this and wait for it.

    Args:
        run: fingerprint of settings and data; a checkpoint of another run is not resumed from.
    """
    path = folder / f"step-{state.step}"
    model, tensors = parallel.collect(), parallel.gathered(optimizer_state(optimizers))
    if parallel.world.main:
        _write(path, model, tensors, state, run=run)
        _tidy(folder, state.step, run=run, keep=keep)
    parallel.world.wait()
    return path


def _write(path: Path, model: Transformer, tensors: dict[str, Tensor], state: TrainState, *, run: str) -> None:
    with atomic_folder(path) as target:
        _write_trained(model, target / WEIGHTS)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / OPTIMIZER)
        checksums = {name: sha256_file(target / name) for name in (WEIGHTS, OPTIMIZER)}
        manifest = {"format": FORMAT, "run": run, "state": asdict(state), "sha256": checksums}
        write_json(target / STATE, {**manifest, "fingerprint": fingerprint(manifest)})


def _write_trained(model: Transformer, path: Path) -> None:
    """All weights in transformers' layout, or, where some are frozen, those that are trained under our names."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        write_weights(model, path)
    else:
        save_file({name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}, path)


def _read_trained(model: Transformer, path: Path) -> None:
    if all(parameter.requires_grad for parameter in model.parameters()):
        read_weights(model, path)
    else:
        problems = model.load_state_dict(load_file(path), strict=False)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        if problems.unexpected_keys or trained & {*problems.missing_keys}:
            raise UserError(f"{path} is of another way to train this model; delete its checkpoint.")


def _tidy(folder: Path, step: int, *, run: str, keep: int) -> None:
    ours = [p for p in checkpoints(folder) if _run_of(p) == run]
    kept = [p for p in ours if _step_of(p) <= step][:keep]
    for old in ours:
        if old not in kept:
            gone = old.rename(old.with_name(f".{old.name}.tmp"))  # at once, lest half of it is found later
            shutil.rmtree(gone)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((p for p in folder.glob("step-*") if p.name[5:].isdigit()), key=_step_of, reverse=True)


def restore_newest(
    folder: Path, parallel: Parallel, optimizers: list[Optimizer], *, run: str, before: int | None = None
) -> tuple[TrainState | None, list[str]]:
    """Load the newest valid checkpoint of this run into model and optimizers.

    Rank 0 looks for it, all ranks load it. Returns its state, or None if there is none, and what was found wrong with
    newer ones.

    Args:
        before: only those of earlier steps, to go back to.

    Raises:
        UserError: there are checkpoints to go on from, but every one is damaged.
    """
    path, problems = _newest(folder, run=run, before=before) if parallel.world.main else (None, [])
    name = parallel.world.agree(path and path.name)
    if name is None:
        return None, problems
    path = folder / name
    manifest, weights = _read_manifest(path), path / WEIGHTS
    parallel.distribute(lambda model: _read_trained(model, weights))
    tensors = {
        name: parallel.part_of(tensor, _parameter_of(name, optimizers))
        for name, tensor in load_file(path / OPTIMIZER).items()
    }
    restore_optimizers(optimizers, tensors)
    return TrainState(**manifest["state"]), problems


def _newest(folder: Path, *, run: str, before: int | None) -> tuple[Path | None, list[str]]:
    problems = []
    for path in checkpoints(folder):
        if before is not None and _step_of(path) >= before:
            continue
        try:
            manifest = _read_manifest(path)
            if manifest["run"] != run:
                continue
            for name in (WEIGHTS, OPTIMIZER):
                if sha256_file(path / name) != manifest["sha256"][name]:
                    raise ValueError(f"{name} does not match its checksum")
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        return path, problems
    if problems and before is None:
        raise UserError(
            f"no checkpoint in {folder} can be used ({'; '.join(problems)}); put back a copy of one, or delete that "
            "folder to train from the start."
        )
    return None, problems


def make_room(folder: Path, *, run: str) -> list[str]:
    """Prepare a folder of checkpoints for a run; returns what there is to say of it.

    What a killed process left half written is removed. Checkpoints of another run (settings were changed, or the
    data) move to `folder.RUN`, with its metrics, and come back when its settings do.
    """
    said = []
    for left in list(folder.glob(".step-*")):
        replaced = folder / left.stem[1:]
        if left.suffix == ".old" and not replaced.exists():
            left.rename(replaced)
        else:
            shutil.rmtree(left)
    metrics, runs = folder.with_name(METRICS), [_run_of(path) for path in checkpoints(folder)]
    others = [other for other in runs if other not in (run, None)]
    if others and run not in runs:
        if metrics.exists():
            metrics.replace(folder / METRICS)
        aside = folder.rename(folder.with_name(f"{folder.name}.{others[0]}"))
        said.append(f"the checkpoints here are of other settings or data: moved to {aside} (delete it to free space)")
    aside = folder.with_name(f"{folder.name}.{run}")
    if aside.is_dir() and not checkpoints(folder):
        said.append(f"going on from {aside}, which these settings had led to")
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    if (folder / METRICS).is_file():
        (folder / METRICS).replace(metrics)
    return said


def _parameter_of(name: str, optimizers: list[Optimizer]) -> Tensor:
    """The parameter that a tensor of `optimizer_state` belongs to."""
    optimizer, index, _ = name.split(".", 2)
    parameters = [p for group in optimizers[int(optimizer)].param_groups for p in group["params"]]
    parameter: Tensor = parameters[int(index)]
    return parameter


def _step_of(path: Path) -> int:
    return int(path.name[5:])


def _run_of(path: Path) -> str | None:
    try:
        return str(_read_manifest(path)["run"])
    except (OSError, ValueError):
        return None


def _read_manifest(path: Path) -> dict[str, Any]:
    """What `state.json` holds; raises `ValueError` or `OSError` saying what is wrong with it."""
    try:
        manifest = json.loads((path / STATE).read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise ValueError(f"written by another version of WikiGPT (format {manifest.get('format')}, here {FORMAT})")
        if manifest.pop("fingerprint", None) != fingerprint(manifest):
            raise ValueError(f"{STATE} does not match its checksum")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{STATE} is damaged ({error})") from None
    return dict(manifest)
