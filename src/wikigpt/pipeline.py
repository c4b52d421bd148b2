"""A build: all stages in a row into one run folder, each skipped when nothing it depends on has changed."""

import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wikigpt import __version__, stages, tune
from wikigpt.artifacts import (
    check_output_folder,
    fingerprint,
    only_writer,
    read_json,
    sha256_file,
    write_atomic,
    write_json,
)
from wikigpt.corpus import build_corpus
from wikigpt.display import Display, summary
from wikigpt.errors import UserError
from wikigpt.instruct import build_conversations
from wikigpt.instruct.extra import check_exist
from wikigpt.instruct.settings import InstructSettings
from wikigpt.knowledge import build_index
from wikigpt.model import FAMILIES
from wikigpt.recipe import SAMPLE, Recipe, dump_recipe, with_settings
from wikigpt.shipped import resolved

RECIPE, STAGES, PLAN = "recipe.toml", "stages.json", "plan.json"
Facts = dict[str, Any]
Progress = stages.Progress


@dataclass(frozen=True)
class Stage:
    """One step of a build."""

    name: str
    needs: tuple[str, ...]  # stages whose output it reads
    settings: Any  # what of the recipe decides its outcome
    output: str  # the file whose presence says that it is complete, relative to the run folder
    run: Callable[[Progress], Facts]
    work: str = ""  # folder of unfinished work, from which an interrupted stage goes on
    version: int = 1  # raise it when the stage's code comes to make something else of the same input


def build_stages(recipe: Recipe, run: Path) -> list[Stage]:
    """The stages of a build, in order; the paths below are the run folder's layout."""
    corpus, tokenizer, tokens = run / "corpus", run / "tokenizer", run / "tokens"
    exercises = run / "exercises"
    row = recipe.pretrain.sequence_length or recipe.model.context_length
    base, model = run / "base", run / "model"
    conversations, knowledge = run / "conversations", run / "knowledge"
    seed, pretrained = recipe.seed, resolved(recipe.base, "base") if recipe.base else None
    adapted = [] if recipe.adapter.method == "full" else [recipe.adapter.model_dump()]

    def take_tokenizer(progress: Progress) -> Facts:
        from wikigpt.model.importing import pretrained_tokenizer

        assert pretrained is not None
        return pretrained_tokenizer(pretrained, tokenizer)

    def make_corpus(progress: Progress) -> Facts:
        settings = recipe.corpus.model_dump(exclude={"inputs"})
        return build_corpus(input_files(recipe, run), corpus, progress=progress, **settings)

    def conversations_of(name: str, settings: InstructSettings, output: Path) -> Stage:
        return Stage(
            name,
            ("corpus",),
            [settings.model_dump(), seed, [_identity(extra.path) for extra in settings.extra]],
            f"{output.name}/instruct.json",
            lambda progress: build_conversations(corpus, output, settings=settings, seed=seed, progress=progress),
        )

    def evaluate(progress: Progress) -> Facts:
        facts = stages.evaluate(
            model,
            conversations,
            knowledge,
            run / "evaluation",
            bits_per_byte=read_stages(run)["pretrain"]["facts"]["bits_per_byte"],
            limits=recipe.evaluate.model_dump(),
            progress=progress,
        )
        return {name: facts["tasks"][name] for name in ("closed_book", "grounded", "unanswerable")}

    return [
        Stage(
            "corpus",
            (),
            [recipe.corpus.model_dump(), [_identity(path) for path in recipe.corpus.inputs]],
            "corpus/corpus.json",
            make_corpus,
            work="corpus.work",
            version=2,
        ),
        Stage(
            "tokenizer",
            ("corpus",),
            recipe.tokenizer.model_dump(),
            "tokenizer/tokenizer.json",
            lambda progress: stages.tokenizer(corpus, tokenizer, settings=recipe.tokenizer, progress=progress),
        )
        if pretrained is None
        else Stage(  # a pretrained model brings its own; what goes on from that model needs no word of it here
            "tokenizer",
            (),
            _identity(str(pretrained)),
            "tokenizer/tokenizer.json",
            take_tokenizer,
        ),
        *([conversations_of("exercises", recipe.exercises, exercises)] if recipe.exercises else []),
        Stage(
            "tokens",
            ("corpus", "tokenizer", *(["exercises"] if recipe.exercises else [])),
            row if recipe.exercises else None,
            "tokens/tokens.json",
            lambda progress: stages.tokens(
                corpus,
                tokenizer,
                tokens,
                exercises=exercises if recipe.exercises else None,
                max_length=row,
                progress=progress,
            ),
        ),
        Stage(
            "pretrain",
            ("tokenizer", "tokens"),
            [recipe.model.model_dump(), recipe.pretrain.model_dump(), seed],
            "base/model.safetensors",
            lambda progress: stages.pretrain(
                tokens,
                tokenizer,
                run / "pretrain",
                base,
                model=recipe.model,
                settings=recipe.pretrain,
                base=pretrained,
                seed=seed,
                progress=progress,
            ),
            work="pretrain",
        ),
        conversations_of("instruct", recipe.instruct, conversations),
        Stage(
            "finetune",
            ("pretrain", "instruct"),
            [recipe.finetune.model_dump(), seed, *adapted],
            "model/model.safetensors",
            lambda progress: tune.finetune(
                base,
                conversations,
                run / "finetune",
                model,
                settings=recipe.finetune,
                adapter=recipe.adapter,
                merge=recipe.adapter.is_adapter,
                seed=seed,
                progress=progress,
            ),
            work="finetune",
        ),
        Stage(
            "knowledge",
            ("corpus",),
            recipe.knowledge.model_dump(),
            "knowledge/index.json",
            lambda progress: build_index(corpus, knowledge, settings=recipe.knowledge, progress=progress),
        ),
        Stage(
            "evaluate",
            ("finetune", "knowledge"),
            recipe.evaluate.model_dump(),
            "evaluation/evaluation.json",
            evaluate,
        ),
    ]


def build(
    recipe: Recipe,
    run: Path,
    *,
    force: tuple[str, ...] = (),
    until: str | None = None,
    told: tuple[str, ...] = (),
    display: Display,
) -> dict[str, Any]:
    """Run every stage whose inputs, settings or code changed since it last ran in this run folder.

    A build that was interrupted, even by kill -9, goes on where it was: finished stages are skipped, and
    training resumes from its last checkpoint.

    Args:
        force: names of stages to repeat although nothing changed.
        until: name of the last stage to run.
        told: names of stages that are not shown when they are unchanged.

    Returns:
        What `evaluation.json` holds (see the documentation), or {} where `until` ends before it.

    Raises:
        UserError: the folder belongs to something else, or an input cannot be used.
    """
    all_stages = build_stages(recipe, run)
    names = _check_names(all_stages, force, until)
    if not FAMILIES[recipe.model.family].causal and (until is None or names.index(until) > names.index("pretrain")):
        raise UserError(
            f"a {recipe.model.family} model fills masks and cannot learn to chat; build it with --until pretrain, then "
            f"try it with `wikigpt fill-mask {run / 'base'} TEXT`."
        )
    input_files(recipe, None)  # refuse a missing dump before anything is written
    check_exist(recipe.instruct.extra)
    if recipe.base:
        from wikigpt.model.importing import check_pretrained

        check_pretrained(resolved(recipe.base, "base"))
    check_output_folder(run, RECIPE)
    with _nothing_left_of_a_false_start(run), only_writer(run):
        write_atomic(run / RECIPE, dump_recipe(recipe))
        write_json(run / "environment.json", environment())
        done = read_stages(run)
        prints: dict[str, str] = {}
        for stage in all_stages:
            needed = [prints[name] for name in stage.needs]
            prints[stage.name] = fingerprint(stage.version, stage.settings, needed)
            entry = done.get(stage.name)
            unchanged = entry and entry["fingerprint"] == prints[stage.name] and (run / stage.output).exists()
            if entry and unchanged and stage.name not in force:
                if stage.name not in told:
                    display.stage(stage.name, "unchanged", entry["seconds"], summary(stage.name, entry["facts"]))
            else:
                if stage.name in force and stage.work:
                    shutil.rmtree(run / stage.work, ignore_errors=True)
                done[stage.name] = _run_stage(stage, prints[stage.name], display)
                write_json(run / STAGES, done)
            if stage.name == until:
                return {}
        return _finish(recipe, run, done)


def _check_names(stages: list[Stage], force: tuple[str, ...], until: str | None) -> list[str]:
    """The stages' names; refuses to repeat or to end at what is none of them."""
    names = [stage.name for stage in stages]
    for name in (*force, *([until] if until else [])):
        if name not in names:
            raise UserError(f"there is no stage {name!r}; the stages are {', '.join(names)}.")
    return names


def build_within(
    minutes: float,
    recipe: Recipe,
    run: Path,
    *,
    kept: Collection[str] = (),
    force: tuple[str, ...] = (),
    until: str | None = None,
    display: Display,
) -> dict[str, Any]:
    """`build` with a model, batches and training times that make the most of so many minutes.

    What the data decide is built first; the plan divides the time that is left. It is written to `plan.json` and
    stands from then on: the same call again goes on with it, whatever the machine is busy with by then.

    Args:
        minutes: for the whole build.
        kept: `section.key` of settings that the plan must leave alone.

    Raises:
        UserError: as `build`; too few minutes; or the folder was planned for another time.
    """
    from wikigpt.train.plan import check_minutes

    check_minutes(minutes)
    check_dial(recipe, kept)
    _check_names(build_stages(recipe, run), force, until)
    path, first = run / PLAN, ("corpus", "tokenizer", "exercises", "tokens")
    told: tuple[str, ...] = ()
    if not path.exists():
        forced = tuple(name for name in force if name in first)
        build(recipe, run, force=forced, until=until if until in first else "tokens", display=display)
        if until in first:
            return {}
        force, told = tuple(name for name in force if name not in first), first
        _write_plan(minutes, recipe, run, fixed_shape=shape_is_set(kept), display=display)
    planned = read_json(path)
    if planned["minutes"] != minutes:
        raise UserError(
            f"{run} was planned for {planned['minutes']:g} minutes, not {minutes:g}; give another --run, or delete "
            f"{path} to plan anew."
        )
    recipe = with_settings(recipe, planned["settings"], kept=kept)
    return build(recipe, run, force=force, until=until, told=told, display=display)


def check_dial(recipe: Recipe, kept: Collection[str]) -> None:
    """Refuse a time for the whole beside a time for a part, and models that the dial does not know."""
    for key in ("pretrain.minutes", "pretrain.steps", "finetune.minutes", "finetune.steps"):
        section, name = key.split(".")
        if key in kept and getattr(getattr(recipe, section), name) is not None:
            raise UserError(f"the recipe sets {key}, which --minutes is to choose; leave one of the two out.")
    if recipe.base:
        raise UserError("--minutes plans models that start from noise; with a base, set pretrain.minutes instead.")
    if not FAMILIES[recipe.model.family].causal:
        raise UserError(
            f"--minutes plans models that predict the next token; for {recipe.model.family} set pretrain.minutes."
        )


def shape_is_set(kept: Collection[str]) -> bool:
    """Whether the user decided on a shape of the model."""
    shape = ("shape", "n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff")
    return any(f"model.{name}" in kept for name in shape)


def finetune_share(recipe: Recipe) -> float:
    """Part of the training time that the recipe gives to fine-tuning."""
    pretrain, finetune = recipe.pretrain, recipe.finetune
    if pretrain.minutes and finetune.minutes:
        return finetune.minutes / (pretrain.minutes + finetune.minutes)
    return 2 / 7  # of the shipped `small`


def _write_plan(minutes: float, recipe: Recipe, run: Path, *, fixed_shape: bool, display: Display) -> None:
    from wikigpt.train.plan import free_memory, measure_speed, plan

    tokens, done = read_json(run / "tokens" / "tokens.json"), read_stages(run)
    languages = [name for name, facts in tokens["splits"].items() if name != "train" and not facts["masked"]]
    model = recipe.model.model_copy(update={"vocab_size": tokens["vocab_size"]})
    memory = free_memory()
    display.stage("plan", "started")
    display.progress(0, 0, "measuring how fast this machine trains")
    begin = time.perf_counter()
    planned = plan(
        minutes,
        measure_speed(model, recipe.pretrain, memory=memory),
        model=model,
        pretrain=recipe.pretrain,
        memory=memory,
        finetune_share=finetune_share(recipe),
        lang=languages[0] if len(languages) == 1 else None,
        unique_tokens=tokens["splits"]["train"]["tokens"],
        spent_seconds=sum(done[name]["seconds"] for name in ("corpus", "tokenizer", "tokens")),
        fixed_shape=fixed_shape,
    )
    facts = planned.as_json()
    settings = planned.settings(recipe.finetune.batch_size)
    if fixed_shape:
        del settings["model"]
    write_json(run / PLAN, {"minutes": minutes, "settings": settings, "expected": facts})
    display.stage("plan", "done", time.perf_counter() - begin, summary("plan", facts))


@contextmanager
def _nothing_left_of_a_false_start(run: Path) -> Iterator[None]:
    """Remove a new run folder if the input turns out unusable before a stage is complete."""
    existed = run.exists()
    try:
        yield
    except UserError:
        if not existed and not (run / STAGES).exists():
            shutil.rmtree(run, ignore_errors=True)
        raise


def _run_stage(stage: Stage, stage_print: str, display: Display) -> dict[str, Any]:
    display.stage(stage.name, "started")
    begin = time.perf_counter()
    try:
        with _terminated_like_ctrl_c():
            facts = stage.run(display.progress)
    except KeyboardInterrupt:
        display.stage(stage.name, "interrupted", time.perf_counter() - begin)
        raise
    seconds = time.perf_counter() - begin
    display.stage(stage.name, "done", seconds, summary(stage.name, facts))
    return {"fingerprint": stage_print, "seconds": round(seconds, 2), "facts": facts}


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM ends a stage as Ctrl-C does, so that it can clean up behind itself."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _finish(recipe: Recipe, run: Path, done: dict[str, Any]) -> dict[str, Any]:
    """Write what concerns the whole run: metrics, evaluation, the recipe that repeats it, the report."""
    from wikigpt.evaluate.report import write_report
    from wikigpt.train import read_metrics

    metrics = []
    for name in ("pretrain", "finetune"):
        entries = read_metrics(run / name / "metrics.jsonl")
        metrics += [json.dumps({"stage": name, **entry}, ensure_ascii=False) + "\n" for entry in entries]
    write_atomic(run / "metrics.jsonl", "".join(metrics))
    evaluation = read_json(run / "evaluation" / "evaluation.json")
    evaluation["seconds"] = {name: entry["seconds"] for name, entry in done.items()}
    evaluation["peak_memory_bytes"] = max(peak_memory(), _earlier_peak(run))
    write_json(run / "evaluation.json", evaluation)
    exact = recipe.model_copy(deep=True)
    for name in ("pretrain", "finetune"):
        section = getattr(exact, name)
        section.minutes, section.steps = None, done[name]["facts"]["steps"]
    write_atomic(run / "recipe.exact.toml", dump_recipe(exact))
    write_report(run, recipe, done, evaluation)
    return evaluation


def read_stages(run: Path) -> dict[str, Any]:
    """What `stages.json` says of the stages that have run; {} in a new folder."""
    path = run / STAGES
    return read_json(path) if path.exists() else {}


def input_files(recipe: Recipe, run: Path | None) -> list[Path]:
    """Paths of the recipe's inputs; the sample wiki is written into the run folder (None: not written)."""
    paths = []
    for name in recipe.corpus.inputs:
        if name == SAMPLE and not Path(SAMPLE).exists():
            if run is not None:
                from wikigpt.sample import write_dumps

                paths += write_dumps(run / "dumps")
        elif not Path(name).exists():
            raise UserError(f"there is no file or folder {name}; give the path of a wiki dump.")
        else:
            paths.append(Path(name))
    return paths


def _identity(name: str) -> Any:
    """What tells one state of an input from another: contents for small files, size and time for large."""
    path = Path(name)
    if not path.exists():
        return [name, __version__]
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [
        sha256_file(file) if file.stat().st_size < 50_000_000 else [file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
    ]


def environment() -> dict[str, Any]:
    """Versions and machine, for whoever wants to repeat the run."""
    from importlib.metadata import version

    import psutil

    return {
        "wikigpt": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {name: version(name) for name in ("torch", "tokenizers", "safetensors", "numpy", "pyarrow")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def peak_memory() -> int:
    """Most memory this process has had, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _earlier_peak(run: Path) -> int:
    path = run / "evaluation.json"
    return int(read_json(path).get("peak_memory_bytes", 0)) if path.exists() else 0
