"""The command line: each command parses its arguments, calls one function and prints what came of it.

Heavy imports stand inside the commands, so that `wikigpt --help` is instant.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from wikigpt import __version__, task_commands
from wikigpt.errors import UserError
from wikigpt.launch import is_main, launched
from wikigpt.shipped import FOLDER, MINI, resolved, shipped

app = typer.Typer(
    name="wikigpt",
    help="Turn a wiki dump into a small ChatGPT of your own. 把维基变成你自己的小型 ChatGPT。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)]
Corpus = Annotated[Path, typer.Argument(help="Folder that `wikigpt corpus` wrote.", show_default=False)]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="Recipe whose settings are used.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of the recipe: section.key=value. May be repeated."),
]

Base = Annotated[
    Path | None,
    typer.Option(
        "--base",
        help="Pretrained model to go on from: wikigpt-mini, a model folder or a .gguf file; none: from noise.",
        show_default=False,
    ),
]


MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="What is trained: full, lora, dora, ia3, freeze, soft-prompt or prefix. [default: the recipe's, full]",
    ),
]
RankOption = Annotated[
    int | None, typer.Option("--rank", help="lora, dora: rank of the changes. [default: the recipe's, 8]")
]
MergeOption = Annotated[
    bool, typer.Option("--merge", help="Write a whole model with the adapter in its weights, not the adapter.")
]

BackendOption = Annotated[
    Literal["auto", "torch", "llama.cpp"],
    typer.Option(
        "--backend", help="What computes the model. [auto: torch; llama.cpp (wikigpt[fast]) where there is no g++]"
    ),
]

TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write events for TensorBoard, too: OUTPUT.work/tensorboard.")
]


def main() -> None:
    """Entry point: mistakes of the user's end with one sentence and status 2, failures with status 1."""
    # Threads that wait sleep instead of spinning: beside another busy program training is 5 times as fast
    # so. Read once, when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if hasattr(sys.stdout, "reconfigure"):  # Chinese must print wherever the locale says ASCII
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except BrokenPipeError:
        sys.exit(1)
    except MemoryError:
        _fail("out of memory; take a smaller batch_size or model.", 1)
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}.", 1)
    except RuntimeError as error:
        from wikigpt.train import TrainingError

        if not isinstance(error, TrainingError):
            raise
        _fail(str(error), 1)


def _fail(message: str, status: int) -> None:
    if not launched() or _first_to_speak():
        print(f"wikigpt: {message}", file=sys.stderr)
    sys.exit(status)


def _first_to_speak() -> bool:
    from wikigpt.train.distributed import first_to_speak

    return first_to_speak()


def _version(asked: bool) -> None:
    if asked:
        print(f"wikigpt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    pass


@app.command()
def build(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name of a shipped recipe or a TOML file. [default: demo; small with --dump]"),
    ] = None,
    dump: Annotated[
        list[Path] | None,
        typer.Option("--dump", help="Wiki dump (XML, JSON lines, parquet; compressed or not). May be repeated."),
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Language of a dump that does not say it.")] = None,
    run: Annotated[Path, typer.Option(help="Run folder; an interrupted build in it goes on.")] = Path("runs/demo"),
    base: Base = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time for the whole; model and training are chosen to fit.", show_default=False),
    ] = None,
    set_: Set = None,
    force: Annotated[list[str] | None, typer.Option(help="Repeat this stage although nothing changed.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a chat model from a wiki: all stages in one command.

    Examples:

        wikigpt build                                             # the embedded sample wiki, on wikigpt-mini

        wikigpt build --base none                                 # the same from noise

        wikigpt build --dump zhwiki-latest-pages-articles.xml.bz2 --run runs/zhwiki

        wikigpt build --dump my.xml --minutes 45 --run runs/mine  # the model that makes the most of 45 minutes

        wikigpt build small --dump my.xml --set pretrain.minutes=60 --run runs/mine

        wikigpt build small --dump my.xml --base SmolLM2-135M-Instruct.gguf --run runs/mine
    """
    from functools import partial

    from wikigpt.pipeline import build as run_build
    from wikigpt.pipeline import build_within
    from wikigpt.recipe import keys_set, load_recipe, shipped_recipes

    name = recipe or ("small" if dump else "demo")
    if minutes is not None and base is None and name in shipped_recipes():
        base = Path("none")  # a time for the whole is planned for models that start from noise
    chosen = load_recipe(name, _with_base(set_, base))
    if minutes is not None:
        run_build = partial(build_within, minutes, kept=keys_set(name, set_))
    if launched():
        raise UserError("a build is one process; start only `wikigpt pretrain` and `wikigpt finetune` by torchrun.")
    if dump:
        chosen.corpus.inputs = [str(path) for path in dump]
    if lang:
        chosen.corpus.lang = lang
    if not chosen.corpus.inputs:
        raise UserError("there is nothing to build from; give a wiki dump with --dump FILE.")
    with _display(quiet or as_json) as display:
        evaluation = run_build(chosen, run, force=tuple(force or ()), until=until, display=display)
    if as_json:
        print(json.dumps(evaluation, ensure_ascii=False, indent=2))
    elif evaluation and not quiet:
        from wikigpt import tables

        tables.print_evaluation(evaluation)
        tables.print_answers(run)
        print(f"\nReport: {run / 'report.html'}\nChat:   wikigpt chat {run}")


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="Recipe whose vocabulary, context and family are used.")] = "small",
    minutes: Annotated[float, typer.Option(help="Time for a whole build.")] = 10,
    memory: Annotated[
        str | None, typer.Option(help="Most that training may take, as 4GB. [default: four fifths of what is free]")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(help="Language of the wiki. [default: mean of English and Chinese]")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Folder that `wikigpt corpus` wrote, for its size.", show_default=False)
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """What this machine can train in so many minutes: measures it for some seconds, builds nothing.

    Examples:

        wikigpt plan --minutes 30 --lang zh

        wikigpt plan --minutes 60 --memory 4GB --corpus corpus --json
    """
    from wikigpt.pipeline import check_dial, finetune_share, shape_is_set
    from wikigpt.recipe import keys_set, load_recipe
    from wikigpt.train import plan as dial

    chosen, kept = load_recipe(recipe, set_), keys_set(recipe, set_)
    check_dial(chosen, kept)
    model = chosen.model.model_copy(update={"vocab_size": chosen.tokenizer.vocab_size})
    most = dial.free_memory() if memory is None else dial.parse_memory(memory)
    lang = lang or chosen.corpus.lang
    dial.check_minutes(minutes)
    unique = None if corpus is None else dial.corpus_tokens(corpus, lang)
    speed = dial.measure_speed(model, chosen.pretrain, memory=most)

    def planned(time: float) -> dial.Plan:
        return dial.plan(
            time,
            speed,
            model=model,
            pretrain=chosen.pretrain,
            memory=most,
            finetune_share=finetune_share(chosen),
            lang=lang,
            unique_tokens=unique,
            fixed_shape=shape_is_set(kept),
        )

    this = planned(minutes)
    plans = [this, planned(2 * minutes)]
    with contextlib.suppress(UserError):  # half the time may be too little
        plans.insert(0, planned(minutes / 2))
    if as_json:
        neighbours = [other.as_json() for other in plans if other is not this]
        print(json.dumps({**this.as_json(), "neighbours": neighbours}, ensure_ascii=False, indent=2))
    else:
        from wikigpt import tables

        tables.print_plans(plans, this)


@app.command()
def corpus(
    inputs: Annotated[
        list[Path], typer.Argument(help="Wiki dumps, folders of them, or - for standard input.", show_default=False)
    ],
    output: Output,
    lang: Annotated[str | None, typer.Option(help="Language of a dump that does not say it.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Chinese script: zh-hans, zh-hant, zh-cn, zh-tw, zh-hk, or none.")
    ] = None,
    min_chars: Annotated[int | None, typer.Option(min=0, help="Drop shorter articles.")] = None,
    max_documents: Annotated[int | None, typer.Option(min=1, help="Stop after so many articles.")] = None,
    keep_tables: Annotated[bool, typer.Option("--keep-tables", help="Keep tables as lines of text.")] = False,
    keep_references: Annotated[bool, typer.Option("--keep-references", help="Keep See also, References, …")] = False,
    keep_dropped: Annotated[bool, typer.Option("--keep-dropped", help="Write dropped articles to dropped/.")] = False,
    near_duplicates: Annotated[
        float | None, typer.Option(min=0.5, max=1, help="Similarity from which an article is a copy.")
    ] = None,
    privacy: Annotated[
        str | None, typer.Option(help="Replace private data: placeholder or pseudonym.", show_default=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Encrypt the corpus with this age key file; made if absent.", show_default=False)
    ] = None,
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Leave out what cannot be read.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write report.html: counts, reasons, samples.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core]")] = None,
    executor: Annotated[
        Literal["process", "ray"], typer.Option(help="Where to clean: here, or on the Ray cluster of RAY_ADDRESS.")
    ] = "process",
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn wiki dumps into clean articles. A build that was interrupted goes on where it stopped.

    Examples:

        wikigpt corpus zhwiki.xml.bz2 -o corpus --report

        zstdcat wiki.xml.zst | wikigpt corpus - -o corpus --lang de

        wikigpt corpus intranet.xml -o corpus --privacy pseudonym --key wiki.key

        wikigpt corpus enwiki.xml.bz2 -o corpus --set 'corpus.templates={"my box"="{1} ({2})"}'
    """
    from wikigpt.corpus import build_corpus
    from wikigpt.recipe import load_recipe

    given = {
        "lang": lang,
        "variant": variant,
        "min_chars": min_chars,
        "max_documents": max_documents,
        "near_duplicates": near_duplicates,
        "privacy": privacy,
        "key": None if key is None else str(key),
    }
    switches = {
        "keep_tables": keep_tables,
        "keep_references": keep_references,
        "keep_dropped": keep_dropped,
        "skip_damaged": skip_damaged,
    }
    settings = load_recipe(recipe, set_).corpus.model_dump(exclude={"inputs", "report"})
    settings |= {name: value for name, value in given.items() if value is not None}
    settings |= {name: True for name, on in switches.items() if on}
    if settings["variant"] == "none":
        settings["variant"] = None
    facts = _one_stage(
        "corpus",
        quiet or as_json,
        lambda progress: build_corpus(
            inputs, output, **settings, report=report, workers=workers, executor=executor, progress=progress
        ),
    )
    _result(facts, as_json)


@app.command()
def download(
    wiki: Annotated[str, typer.Argument(help="zhwiki, enwiki, simplewiki, …", show_default=False)],
    output: Output,
    date: Annotated[str, typer.Option(help="Date of the dump, as 20261101.")] = "latest",
    mirror: Annotated[str | None, typer.Option(help="Address of a mirror of dumps.wikimedia.org.")] = None,
    quiet: Quiet = False,
) -> None:
    """Download a wiki's dump; a broken download goes on where it stopped.

    Example: `wikigpt download simplewiki -o dumps`
    """
    from wikigpt.corpus.download import download as fetch

    paths: list[Path] = []

    def run(progress: Callable[[int, int, str], None]) -> dict[str, Any]:
        paths.append(fetch(wiki, output, date=date, mirror=mirror, progress=progress))
        return {}

    _one_stage("download", quiet, run)
    if not quiet:
        print(f"{paths[0]}\nGo on:  wikigpt build --dump {paths[0]} --run runs/{wiki}")


@app.command()
def tokenizer(
    corpus: Corpus, output: Output, recipe: RecipeOption = "small", set_: Set = None, quiet: Quiet = False
) -> None:
    """Train a tokenizer on a corpus.

    Example: `wikigpt tokenizer corpus -o tokenizer --set tokenizer.vocab_size=16000`
    """
    from wikigpt import stages
    from wikigpt.recipe import load_recipe

    settings = load_recipe(recipe, set_).tokenizer
    _one_stage(
        "tokenizer", quiet, lambda progress: stages.tokenizer(corpus, output, settings=settings, progress=progress)
    )


@app.command()
def pretrain(
    corpus: Corpus,
    output: Output,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder that `wikigpt tokenizer` wrote; a base has its own.", show_default=False)
    ] = None,
    base: Base = None,
    exercises: Annotated[
        Path | None,
        typer.Option(
            help="Folder of conversations to learn from as well, in pretrain.exercise_share of the rows.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of the model by name, as gpt2-mini or bert-mini. [default: the recipe's]"),
    ] = None,
    tensorboard: TensorBoard = False,
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a base model, from scratch or on from one; checkpoints lie in OUTPUT.work, from where it resumes.

    Examples:

        wikigpt pretrain corpus --tokenizer tokenizer -o base --set pretrain.minutes=30

        wikigpt pretrain corpus --tokenizer tokenizer -o base --shape gpt2-mini

        wikigpt pretrain corpus --base SmolLM2-135M-Instruct.gguf -o base

        torchrun --nproc-per-node 8 -m wikigpt pretrain corpus --tokenizer tokenizer -o base   # docs/scaling.md
    """
    from wikigpt import stages
    from wikigpt.model.importing import pretrained_tokenizer
    from wikigpt.recipe import load_recipe
    from wikigpt.train.distributed import main_first

    base = None if base is None or str(base) == "none" else resolved(base, "base")
    if (tokenizer is None) == (base is None):
        raise UserError("give either --tokenizer, to train from scratch, or --base, which has its own tokenizer.")
    if shape is not None and base is not None:
        raise UserError("a base has a shape already; leave --shape out.")
    overrides = [] if shape is None else [f"model.shape={shape}"]
    overrides += ["pretrain.tensorboard=true"] if tensorboard else []
    chosen = load_recipe(recipe, _with_base([*overrides, *(set_ or [])], base))
    work = output.with_name(output.name + ".work")

    def run(progress: Callable[[int, int, str], None]) -> dict[str, Any]:
        with_tokenizer = tokenizer or work / "tokenizer"

        def prepare() -> None:
            if base is not None:
                pretrained_tokenizer(base, with_tokenizer)
            stages.tokens(
                corpus,
                with_tokenizer,
                work / "tokens",
                exercises=exercises,
                max_length=chosen.pretrain.sequence_length or chosen.model.context_length,
                reuse=True,
                progress=progress,
            )

        main_first(prepare)
        return stages.pretrain(
            work / "tokens",
            with_tokenizer,
            work,
            output,
            base=base,
            model=chosen.model,
            settings=chosen.pretrain,
            seed=chosen.seed,
            progress=progress,
        )

    _one_stage("pretrain", quiet, run, page=work / "report.html")


@app.command()
def instruct(
    corpus: Annotated[
        Path | None, typer.Argument(help="Folder that `wikigpt corpus` wrote; not needed with --add.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.", show_default=False)] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="FILE[=WEIGHT]", help="Mix in conversations of a file. May be repeated."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Only say what of a file can be used, and why not.")
    ] = None,
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make conversations and held-out questions from a corpus, from files of conversations, or from both.

    Files may be in the formats Alpaca, ShareGPT, OpenAI messages, prompt and completion, or OASST.

    Examples:

        wikigpt instruct corpus -o conversations

        wikigpt instruct --check my.jsonl

        wikigpt instruct corpus --add my.jsonl --add others.parquet=0.5 -o conversations
    """
    if check is not None:
        _check_conversations(check, quiet, as_json)
        return
    from wikigpt.instruct import build_conversations
    from wikigpt.recipe import load_recipe

    if output is None:
        raise UserError("say with -o which folder to write.")
    chosen = load_recipe(recipe, set_)
    settings = chosen.instruct
    settings = settings.model_copy(update={"extra": [*settings.extra, *map(_added, add or [])]})
    if corpus is None and not settings.extra:
        raise UserError("give a corpus that `wikigpt corpus` wrote, or a file of conversations with --add.")
    facts = _one_stage(
        "instruct",
        quiet or as_json,
        lambda progress: build_conversations(corpus, output, settings=settings, seed=chosen.seed, progress=progress),
    )
    _result(facts, as_json)
    if not (quiet or as_json):
        from wikigpt import tables

        tables.print_conversations(facts["languages"])


def _added(text: str) -> Any:
    """The file and weight of `--add FILE[=WEIGHT]`."""
    from wikigpt.instruct import Extra

    path, equals, weight = text.rpartition("=")
    if not equals or Path(text).is_file():
        return Extra(path=text)
    try:
        return Extra(path=path, weight=float(weight))
    except ValueError:
        raise UserError(f"--add {text}: the weight is to be a number above 0, as in --add my.jsonl=0.5.") from None


def _check_conversations(path: Path, quiet: bool, as_json: bool) -> None:
    from wikigpt.instruct import check_file

    found = check_file(path)
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    elif not quiet:
        from wikigpt import tables

        tables.print_check(found)
    if not found.usable:
        raise typer.Exit(2)


@app.command()
def finetune(
    base: Annotated[
        Path,
        typer.Argument(help="Model folder or .gguf file to start from.", show_default=False, callback=shipped("base")),
    ],
    conversations: Annotated[Path, typer.Argument(help="Folder that `wikigpt instruct` wrote.", show_default=False)],
    output: Output,
    method: MethodOption = None,
    rank: RankOption = None,
    train: Annotated[
        str | None, typer.Option(help="freeze: the parts to train, as last:2,head. [default: last:2,head]")
    ] = None,
    merge: MergeOption = False,
    tensorboard: TensorBoard = False,
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
) -> None:
    """Make a chat model of a base model; checkpoints lie in OUTPUT.work, from where it resumes.

    Examples:

        wikigpt finetune base conversations -o model --set finetune.minutes=10

        wikigpt finetune base conversations -o adapter --method lora --rank 16     # then: wikigpt chat adapter

        wikigpt finetune base conversations -o model --method freeze --train last:2,head
    """
    from wikigpt import tune

    given = {"method": method, "rank": rank, "train": train}
    chosen = _tuning_recipe("finetune", {"tensorboard": tensorboard or None}, given, base, recipe, set_)
    work = output.with_name(output.name + ".work")
    _one_stage(
        "finetune",
        quiet,
        lambda progress: tune.finetune(
            base,
            conversations,
            work,
            output,
            settings=chosen.finetune,
            adapter=chosen.adapter,
            merge=merge,
            seed=chosen.seed,
            progress=progress,
        ),
        page=work / "report.html",
    )


@app.command()
def distill(
    conversations: Annotated[Path, typer.Argument(help="Folder that `wikigpt instruct` wrote.", show_default=False)],
    output: Output,
    teacher: Annotated[
        str, typer.Option(help="Model folder, .gguf file, or URL of an OpenAI-compatible server.", show_default=False)
    ],
    student: Annotated[
        Path,
        typer.Option(help="Model folder or .gguf file to train.", show_default=False, callback=shipped("base")),
    ],
    teacher_model: Annotated[
        str | None, typer.Option(help="What the server calls the teacher; its key: WIKIGPT_TEACHER_KEY.")
    ] = None,
    kind: Annotated[
        Literal["forward", "reverse", "sequence", "hidden", "on-policy"] | None,
        typer.Option(help="What is learned from the teacher: its probabilities, or its answers (sequence)."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of both models' probabilities.")] = None,
    mix: Annotated[float | None, typer.Option(help="Share of the teacher in the loss; the rest is the data's.")] = None,
    method: MethodOption = None,
    rank: RankOption = None,
    merge: MergeOption = False,
    tensorboard: TensorBoard = False,
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a student on conversations with the help of a teacher; resumes from OUTPUT.work.

    Examples:

        wikigpt distill conversations --teacher large --student small -o model --set distill.minutes=10

        wikigpt distill conversations --teacher https://host/v1 --teacher-model NAME --kind sequence --student base -o m
    """
    from wikigpt import tune

    given = {"kind": kind, "temperature": temperature, "mix": mix, "tensorboard": tensorboard or None}
    chosen = _tuning_recipe("distill", given, {"method": method, "rank": rank}, student, recipe, set_)
    work = output.with_name(output.name + ".work")
    _one_stage(
        "distill",
        quiet,
        lambda progress: tune.distill(
            teacher,
            student,
            conversations,
            work,
            output,
            settings=chosen.distill,
            teacher_model=teacher_model,
            adapter=chosen.adapter,
            merge=merge,
            seed=chosen.seed,
            progress=progress,
        ),
        page=work / "report.html",
    )


@app.command()
def prefer(
    model: Annotated[
        Path,
        typer.Argument(
            help="Chat model to go on from: folder or .gguf file.", show_default=False, callback=shipped("model")
        ),
    ],
    pairs: Annotated[
        Path,
        typer.Argument(help="Folder with pairs.jsonl, or a file of pairs in any common format.", show_default=False),
    ],
    output: Output,
    beta: Annotated[float | None, typer.Option(help="How much a gain in likelihood counts.")] = None,
    reference_free: Annotated[
        bool, typer.Option("--reference-free", help="Compare likelihoods themselves, not with the model's at first.")
    ] = False,
    method: MethodOption = None,
    rank: RankOption = None,
    merge: MergeOption = False,
    tensorboard: TensorBoard = False,
    recipe: RecipeOption = "small",
    set_: Set = None,
    quiet: Quiet = False,
) -> None:
    """Make the better of two answers likelier (DPO); resumes from OUTPUT.work.

    Example: `wikigpt prefer model pairs.jsonl -o better --set prefer.minutes=5`
    """
    from wikigpt import tune

    given = {"beta": beta, "reference_free": reference_free or None, "tensorboard": tensorboard or None}
    chosen = _tuning_recipe("prefer", given, {"method": method, "rank": rank}, model, recipe, set_)
    work = output.with_name(output.name + ".work")
    _one_stage(
        "prefer",
        quiet,
        lambda progress: tune.prefer(
            model,
            pairs,
            work,
            output,
            settings=chosen.prefer,
            adapter=chosen.adapter,
            merge=merge,
            seed=chosen.seed,
            progress=progress,
        ),
        page=work / "report.html",
    )


def _tuning_recipe(
    section: str, given: dict[str, Any], adapter: dict[str, Any], base: Path, recipe: str, set_: list[str] | None
) -> Any:
    """The recipe with the options of a command that trains `base` on, those of its section and those of `adapter`."""
    from wikigpt.model.importing import origin_of
    from wikigpt.recipe import load_recipe

    sections = ((section, given), ("adapter", adapter))
    settings = [(f"{name}.{key}", value) for name, values in sections for key, value in values.items()]
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings if value is not None]
    return load_recipe(recipe, _with_base([*overrides, *(set_ or [])], base if origin_of(base) else None))


@app.command("import")
def import_(
    path: Annotated[str, typer.Argument(help="Hugging Face model folder, or .gguf file.", show_default=False)],
    output: Output,
    download: Annotated[
        bool, typer.Option("--download", help="PATH is a name on huggingface.co: fetch it from there.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a model folder of a model that others trained: to chat with, to train on, to fine-tune.

    Examples:

        wikigpt import SmolLM2-135M-Instruct.gguf -o smollm2

        wikigpt import HuggingFaceTB/SmolLM2-135M -o smollm2 --download
    """
    from wikigpt.model import importing

    def run(progress: Callable[[int, int, str], None]) -> dict[str, Any]:
        if download:
            return importing.import_model(importing.download(path), output, name=path)
        return importing.import_model(Path(path), output)

    _result(_one_stage("import", quiet or as_json, run), as_json)


@app.command()
def index(
    corpus: Corpus,
    output: Output,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Begin anew even if only some articles changed.")] = False,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Embedding model (sentence-transformers, BERT) to search by meaning, too.", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build the search index that grounded answers stand on, or bring one up to date.

    An index that is there already is kept, but for the articles that came, changed or went. A server that reads it
    takes the new one with the next question.

    Example: `wikigpt index corpus -o knowledge`
    """
    from wikigpt.knowledge import KnowledgeSettings, build_index

    settings = KnowledgeSettings(embeddings=str(embeddings.resolve()) if embeddings else "")
    facts = _one_stage(
        "knowledge",
        quiet or as_json,
        lambda progress: build_index(corpus, output, settings=settings, update=not rebuild, progress=progress),
    )
    _result(facts, as_json)


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="Folder that `wikigpt index` wrote.", show_default=False)],
    query: Annotated[str, typer.Argument(help="What to look for; without it, the index is checked.")] = "",
    k: Annotated[int, typer.Option(min=1, help="Most passages.")] = 5,
    as_json: Json = False,
) -> None:
    """Search the wiki, or check the index.

    Examples:

        wikigpt search runs/demo/knowledge 长江的长度

        wikigpt search runs/demo/knowledge      # is it whole?
    """
    from dataclasses import asdict

    from wikigpt import tables
    from wikigpt.knowledge import Index

    opened = Index(index)
    if not query.strip():
        if problems := opened.problems():
            raise UserError(f"{index} is damaged: {'; '.join(problems)}. Make it again with `wikigpt index --rebuild`.")
        if as_json:
            _result(opened.meta, as_json)
        else:
            print(f"{index} is whole: {opened.meta['articles']:,} articles, {opened.meta['passages']:,} passages.")
        return
    from wikigpt.knowledge.spelling import corrected

    read_as = corrected(opened, query)
    hits = opened.search(read_as, k=k)
    if read_as != query and not as_json:
        print(f"Read as: {read_as}\n")
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=2))
    else:
        tables.print_hits(read_as, hits)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of a build.", show_default=False)],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a built model the held-out questions again and show how it does.

    Example: `wikigpt evaluate runs/demo`
    """
    from wikigpt.pipeline import RECIPE
    from wikigpt.pipeline import build as run_build
    from wikigpt.recipe import load_recipe

    if not (run / RECIPE).is_file():
        raise UserError(f"{run} is not a run folder: it has no {RECIPE}. Make one with `wikigpt build`.")
    with _display(quiet or as_json) as display:
        evaluation = run_build(load_recipe(str(run / RECIPE)), run, force=("evaluate",), display=display)
    if as_json:
        print(json.dumps(evaluation, ensure_ascii=False, indent=2))
    elif not quiet:
        from wikigpt import tables

        tables.print_evaluation(evaluation)


@app.command()
def chat(
    run: Annotated[
        Path,
        typer.Argument(help="Run folder of a build, a model folder, or an adapter's.", callback=shipped()),
    ] = Path(MINI),
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Adapter over that model; of several, /adapter NAME chooses.", show_default=False),
    ] = None,
    ask: Annotated[str | None, typer.Option(help="Answer this one question and exit.")] = None,
    grounded: Annotated[
        bool | None,
        typer.Option("--grounded/--no-grounded", help="Answer from the wiki, with sources. [default: if there is one]"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    backend: BackendOption = "auto",
    key: Annotated[
        Path | None, typer.Option(help="age key that /save encrypts with; made if it is not there.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Chat with a model in the terminal.

    Examples:

        wikigpt chat                        # the model that comes with WikiGPT

        wikigpt chat runs/demo

        wikigpt chat runs/demo --ask "法国的首都是哪里？"

        wikigpt chat runs/demo/base --adapter friendly --adapter terse
    """
    from wikigpt.chat.terminal import ask_once, run_terminal
    from wikigpt.encryption import load_key

    session = open_session(run, adapters=adapter or [], grounded=grounded, system=system, backend=backend)
    if key is not None:
        session.key = load_key(key, create=True)
    if ask is not None:
        if not ask.strip():
            raise UserError("the question is empty; write something after --ask.")
        ask_once(session, ask, as_json)
    else:
        run_terminal(session)


def open_session(
    run: Path,
    *,
    adapters: Sequence[Path] = (),
    grounded: bool | None,
    system: str | None,
    backend: Literal["auto", "torch", "llama.cpp"] = "auto",
) -> Any:
    """A chat with the model of a run folder, grounded in its wiki, or with a bare model or adapter folder."""
    from wikigpt.adapt.files import chat_folder
    from wikigpt.chat.backend import open_backend
    from wikigpt.chat.session import ChatSession
    from wikigpt.knowledge import Index

    model = chat_folder(run)
    knowledge = run / "knowledge"
    has_index = (knowledge / "index.json").is_file()
    if grounded and not has_index:
        raise UserError(f"{knowledge} is missing, so answers cannot be grounded; make it with `wikigpt index`.")
    return ChatSession(
        open_backend(model, adapters, name=backend),
        Index(knowledge) if has_index else None,
        grounded=has_index if grounded is None else grounded,
        system=system,
    )


@app.command()
def serve(
    run: Annotated[
        Path,
        typer.Argument(help="Run folder of a build, a model folder, or an adapter's.", callback=shipped()),
    ] = Path(MINI),
    host: Annotated[str, typer.Option(help="Address to listen at; another than this machine's own needs a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8000,
    api_key: Annotated[
        str, typer.Option(envvar="WIKIGPT_API_KEY", help="Key that clients have to give.", show_default=False)
    ] = "",
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Adapter over that model; the first is used.", show_default=False)
    ] = None,
    grounded: Annotated[
        bool | None,
        typer.Option("--grounded/--no-grounded", help="Answer from the wiki, with sources. [default: if there is one]"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    backend: BackendOption = "auto",
) -> None:
    """Serve a model to any client of OpenAI's protocol, at http://127.0.0.1:8000/v1.

    Examples:

        wikigpt serve                       # the model that comes with WikiGPT

        wikigpt serve runs/demo --port 8080

        curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
             -d '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    """
    try:
        from wikigpt.serve.server import serve as run_server
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs the package {error.name}; pip install 'wikigpt[serve]'.") from None

    opened = open_session(run, adapters=adapter or [], grounded=grounded, system=system, backend=backend)
    run_server(opened, MINI if run.resolve() == FOLDER else run.resolve().name, host=host, port=port, api_key=api_key)


@app.command()
def arena(
    model_a: Annotated[
        Path,
        typer.Argument(help="Run folder, model folder or adapter folder.", show_default=False, callback=shipped()),
    ],
    model_b: Annotated[Path, typer.Argument(help="What to compare it with.", show_default=False, callback=shipped())],
    questions: Annotated[
        Path | None,
        typer.Option(
            help="One question a line, or .jsonl, .csv, .tsv with a column question. [default: you type them]",
            show_default=False,
        ),
    ] = None,
    votes: Annotated[Path, typer.Option("--votes", "-o", help="File of votes to go on with.")] = Path("votes.jsonl"),
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="0: the likeliest words; above, drawn by chance.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Draws which answer stands first.")] = 0,
) -> None:
    """Compare two models blindly: you see two answers, and vote. `wikigpt prefer` learns from the votes.

    The models answer from what they have learnt, without the wiki's passages. One model twice, with a temperature,
    gives pairs of its own answers.

    Examples:

        wikigpt arena runs/a runs/b --questions questions.txt

        wikigpt arena model model --temperature 0.8 && wikigpt prefer model votes.jsonl -o better
    """
    from wikigpt import tables
    from wikigpt.adapt.examples import read_rows
    from wikigpt.adapt.prompts import find_task
    from wikigpt.evaluate.arena import Votes, run_arena

    if model_a.resolve() == model_b.resolve() and not temperature:
        raise UserError("both are the same model and would say the same; give another, or a --temperature above 0.")
    asked = None if questions is None else [row.values["question"] for row in read_rows(questions, find_task("qa"))]
    kept = Votes(votes)
    sessions = [open_session(path, grounded=False, system=None) for path in (model_a, model_b)]
    for session in sessions:
        session.settings.temperature = temperature
    names = str(model_a), str(model_b)
    tally = run_arena(names, (sessions[0], sessions[1]), kept, asked, seed=seed)
    tables.print_tally(names, tally, votes)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Run folder of a build, or OUTPUT of `pretrain` or `finetune`.", show_default=False)
    ],
    quiet: Quiet = False,
) -> None:
    """Make the pages and plots of a run again from its logs, also while it trains or after it was killed.

    Examples:

        wikigpt report base           # base.work/report.html and base.work/plots

        wikigpt report runs/demo      # and its pretrain/report.html and finetune/report.html
    """
    from wikigpt.artifacts import read_json
    from wikigpt.evaluate.report import write_report
    from wikigpt.pipeline import RECIPE, read_stages
    from wikigpt.recipe import load_recipe
    from wikigpt.train.report import write_training_report

    training = [folder / "pretrain", folder / "finetune", Path(f"{folder}.work")]
    training = [path for path in training if (path / "metrics.jsonl").is_file()] or [folder]
    pages = [write_training_report(path) for path in training]
    if (folder / RECIPE).is_file() and (folder / "evaluation.json").is_file():
        evaluation = read_json(folder / "evaluation.json")
        pages.append(write_report(folder, load_recipe(str(folder / RECIPE)), read_stages(folder), evaluation))
    if not quiet:
        print(*pages, sep="\n")


@app.command("fill-mask")
def fill_mask_(
    model: Annotated[Path, typer.Argument(help="Folder of a masked language model.", show_default=False)],
    text: Annotated[str, typer.Argument(help="Text with <|mask|> or [MASK] in it.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Most candidates for each mask.")] = 5,
    as_json: Json = False,
) -> None:
    """What a masked language model (family bert) would put in the place of a mask.

    Example: `wikigpt fill-mask base "Paris is the <|mask|> of France."`
    """
    from dataclasses import asdict

    from wikigpt.model.fill_mask import fill_mask

    candidates = fill_mask(model, text, top=top)
    if as_json:
        print(json.dumps([asdict(candidate) for candidate in candidates], ensure_ascii=False, indent=2))
        return
    for i, candidate in enumerate(candidates):
        if candidate.mask and candidate.mask != candidates[i - 1].mask:
            print()
        print(f"{candidate.probability:6.1%}  {candidate.text.strip() or repr(candidate.text)}")


app.command()(task_commands.task)
app.add_typer(task_commands.prompts, name="prompts")


@contextmanager
def _display(quiet: bool) -> Iterator[Any]:
    from wikigpt.display import QuietDisplay, TerminalDisplay

    try:
        if quiet or not is_main():
            yield QuietDisplay()
        else:
            with TerminalDisplay() as display:
                yield display
    except KeyboardInterrupt:  # typer would end without a word
        _fail("interrupted; run the same command again to go on where it stopped.", 130)


def _one_stage(
    name: str, quiet: bool, run: Callable[[Callable[[int, int, str], None]], Any], *, page: Path | None = None
) -> Any:
    import time

    from wikigpt.display import summary

    with _display(quiet) as display, _joined():
        display.stage(name, "started")
        begin = time.perf_counter()
        facts = run(display.progress)
        display.stage(name, "done", time.perf_counter() - begin, summary(name, facts))
        if page is not None:
            display.progress(0, 0, f"report: {page}")
    return facts


def _joined() -> AbstractContextManager[Any]:
    """The process group of a run in several processes; torch is not imported for it in one."""
    if not launched():
        return nullcontext()
    from wikigpt.train.distributed import joined

    return joined()


def _with_base(overrides: list[str] | None, base: Path | None) -> list[str]:
    """Overrides of a recipe, and the base if there is one (a JSON string is a TOML string, too), or "none"."""
    named = [] if base is None else ["base=none" if str(base) == "none" else f"base={json.dumps(str(base))}"]
    return [*(overrides or []), *named]


def _result(facts: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
