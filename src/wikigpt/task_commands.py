"""The commands `task` and `prompts`: parse, call one function, print what came of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wikigpt.errors import UserError
from wikigpt.shipped import shipped

if TYPE_CHECKING:
    from wikigpt.adapt.examples import Row
    from wikigpt.adapt.prompts import Task, Template
    from wikigpt.adapt.search import Tried
    from wikigpt.adapt.tasks import Result
    from wikigpt.chat.engine import Engine

prompts = typer.Typer(
    help="Prompt templates: list and show them, find the best one, make training data by them.", no_args_is_help=True
)

Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="TOML file with templates of your own.", show_default=False)
]
Examples = Annotated[
    Path | None, typer.Option(help="File of texts with answers, to show the like of.", show_default=False)
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Where a file holds what: text=review,label=stars; numbers, where it has no header: text=1,answer=2."
    ),
]
Labels = Annotated[
    str | None, typer.Option(help="Labels to choose from: a,b,c, or as written in the data: 0=negative,1=positive.")
]
Calibrate = Annotated[
    bool | None,
    typer.Option(
        "--calibrate/--no-calibrate", help="Take away how likely a label is for a text without content. [default: no]"
    ),
]
Lang = Annotated[str | None, typer.Option(help="Language of the prompt, en or zh. [default: the text's]")]
To = Annotated[str | None, typer.Option(help="Language to translate into, en or zh. [default: the other one]")]
Var = Annotated[
    list[str] | None, typer.Option("--var", help="Another variable: NAME=VALUE, or NAME=@FILE. Repeatable.")
]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Longest answer. [default: the task's]")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Model = Annotated[
    Path,
    typer.Option("--model", "-m", help="Run folder or model folder.", show_default=False, callback=shipped()),
]


def task(
    name: Annotated[
        str | None, typer.Argument(help="qa, dialogue, summarise, translate, sentiment, classify or write.")
    ] = None,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to do it with.", show_default=False)] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Run folder or model folder.", show_default=False, callback=shipped()),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="File of texts: one a line, or .jsonl, .csv, .tsv, .json; also .gz.")
    ] = None,
    columns: Columns = None,
    prompt: Annotated[str | None, typer.Option(help="Name of a template. [default: the first that suits]")] = None,
    prompts_file: Prompts = None,
    examples: Examples = None,
    example_columns: Annotated[
        str | None, typer.Option(help="As --columns, for --examples. [default: the same]")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples to show. [default: 3 with --examples]")] = None,
    labels: Labels = None,
    calibrate: Calibrate = None,
    lang: Lang = None,
    to: To = None,
    var: Var = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0: always the likeliest word.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show tasks, their variables and templates.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Have a model do a task: qa, dialogue, summarise, translate, sentiment, classify, write.

    Examples:

        wikigpt task sentiment "A gripping film." --model smollm2

        wikigpt task classify 昨晚国足又输了 --labels 体育,财经,娱乐 --model runs/zhwiki

        wikigpt task qa "Who wrote it?" --var context=@page.txt --model smollm2

        wikigpt task translate 你好。 --examples pairs.tsv --columns text=2,answer=1 --shots 4 --model smollm2

        wikigpt task sentiment --file reviews.csv --columns text=review --prompts best.toml --model smollm2 --json
    """
    from wikigpt.adapt.examples import Row, guess_lang, whole
    from wikigpt.adapt.prompts import default_template, find_task, find_template, load_templates
    from wikigpt.adapt.tasks import TaskRunner, parse_labels

    templates = load_templates(prompts_file)
    if list_:
        _print_list([t for t in templates if name in (None, t.task)], as_json)
        return
    if name is None:
        raise UserError("which task? `wikigpt task --list` shows them.")
    what = find_task(name)
    values = _variables(var, what)
    rows = [Row({what.inputs[0]: whole(text)}) for text in texts or []]
    if file is not None:
        rows += _rows(file, what, columns, limit=None, answered=False)
    if not rows or not all(row.values[what.inputs[0]].strip() for row in rows):
        raise UserError(f"there is no text; write one after `wikigpt task {name}`, or give --file FILE.")
    if model is None:
        raise UserError("which model? Give a run folder or a model folder with --model.")
    lang = lang or guess_lang(rows[0].values[what.inputs[0]])
    if prompt is not None:
        template = find_template(templates, prompt, name)
    else:
        own = [t for t in templates if t.task == name][:1] if prompts_file else []
        fields = {*values, *set.intersection(*({*row.values} for row in rows))}
        template = own[0] if own else default_template(templates, what, lang, fields)
    for row in rows:
        template.messages(
            {**dict.fromkeys(what.given, ""), **values, **row.values}
        )  # all there, before the model loads
    shown = _examples(examples, template, what, example_columns or columns)
    runner = TaskRunner(
        open_engine(model),
        template,
        examples=shown,
        shots=(template.shots or 3 if shown else 0) if shots is None else shots,
        labels=parse_labels(labels) if labels else None,
        calibrate=template.calibrate if calibrate is None else calibrate,
        values=values,
        to=to,
        sampling={"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed},
    )
    try:
        _answer(runner, rows, as_json)
    except KeyboardInterrupt:  # what is printed is done; typer would end without a word
        typer.echo("\nwikigpt: interrupted.", err=True)
        raise SystemExit(130) from None


def _answer(runner: Any, rows: Sequence["Row"], as_json: bool) -> None:
    from wikigpt.chat.terminal import plain

    if len(rows) == 1 and not as_json and not runner.task.chosen:
        for piece in runner.stream(rows[0]):
            print(plain(piece), end="", flush=True)
        print()
        return
    for row, result in zip(rows, runner.answer(rows), strict=True):
        if as_json:
            entry = {**row.values, **asdict(result), "prompt": runner.template.name}
            print(json.dumps(entry, ensure_ascii=False), flush=True)
        else:
            print(plain(_line(result)), flush=True)


def _line(result: "Result") -> str:
    if not result.probabilities:
        return result.text.replace("\n", " ")  # one a line, as the file had them
    ordered = sorted(result.probabilities.items(), key=lambda item: -item[1])
    return result.text + "\t" + "  ".join(f"{label} {share:.1%}" for label, share in ordered)


@prompts.command("list")
def list_prompts(
    name: Annotated[str | None, typer.Argument(help="Of this task alone.", show_default=False)] = None,
    prompts_file: Prompts = None,
    as_json: Json = False,
) -> None:
    """Show tasks, their variables and templates.

    Example: `wikigpt prompts list sentiment`
    """
    from wikigpt.adapt.prompts import find_task, load_templates

    if name is not None:
        find_task(name)
    _print_list([t for t in load_templates(prompts_file) if name in (None, t.task)], as_json)


@prompts.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a template.", show_default=False)],
    prompts_file: Prompts = None,
    as_json: Json = False,
) -> None:
    """Show a template as TOML, to copy and change.

    Example: `wikigpt prompts show sentiment-zh > mine.toml`
    """
    import tomli_w

    from wikigpt.adapt.prompts import find_template, load_templates

    template = find_template(load_templates(prompts_file), name)
    entry = template.model_dump(exclude_defaults=True)
    if as_json:
        print(json.dumps({**entry, "variables": sorted(template.variables)}, ensure_ascii=False, indent=2))
    else:
        print(tomli_w.dumps({"template": [entry]}, multiline_strings=True), end="")


@prompts.command()
def search(
    name: Annotated[str, typer.Argument(help="Task.", show_default=False)],
    model: Model,
    dev: Annotated[Path, typer.Option(help="File of texts with answers to measure on.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="TOML file for the best.", show_default=False)],
    columns: Columns = None,
    examples: Examples = None,
    example_columns: Annotated[
        str | None, typer.Option(help="As --columns, for --examples. [default: the same]")
    ] = None,
    shots: Annotated[str, typer.Option(help="Numbers of examples to try, as 0,1,3.")] = "0",
    prompt: Annotated[list[str] | None, typer.Option(help="Only this template. Repeatable.")] = None,
    prompts_file: Prompts = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many texts, drawn at random.")] = 100,
    labels: Labels = None,
    calibrate: Calibrate = None,
    lang: Lang = None,
    to: To = None,
    var: Var = None,
    max_new_tokens: MaxNewTokens = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure every template with every number of examples; write the best for `wikigpt task --prompts`.

    A search that was interrupted goes on where it stopped.

    Example: `wikigpt prompts search sentiment --model smollm2 --dev dev.tsv --columns text=1,label=2
    --labels 0=negative,1=positive --examples train.tsv --shots 0,4 -o best.toml`
    """
    import os

    from wikigpt.adapt.examples import guess_lang
    from wikigpt.adapt.prompts import find_task
    from wikigpt.adapt.search import search_prompts, write_winner
    from wikigpt.adapt.tasks import parse_labels
    from wikigpt.cli import _display

    what, counts = find_task(name), _numbers(shots)
    values = _variables(var, what)
    rows = _rows(dev, what, columns, limit=limit, answered=True)
    lang = lang or guess_lang(rows[0].values[what.inputs[0]])
    fields = {*values, *what.given, *set.intersection(*({*row.values} for row in rows))}
    templates = _chosen_templates(what, prompts_file, prompt, lang, fields)
    shown = _rows(examples, what, example_columns or columns, limit=None, answered=True) if examples else []
    if max(counts) and not shown:
        raise UserError("--shots above 0 needs examples to show; give a file of them with --examples FILE.")
    words = parse_labels(labels) if labels else None
    partial = output.with_name(output.name + ".partial.json")
    tried: list[Tried] = []
    engine = open_engine(model)
    try:
        with _display(quiet or as_json) as display:
            display.stage("search", "started")
            found = search_prompts(
                engine,
                templates,
                rows,
                examples=shown,
                shots=counts,
                partial=partial,
                progress=display.progress,
                origin=_origin(model),
                labels=words,
                calibrate=bool(calibrate),
                values=values,
                to=to,
                sampling={"max_new_tokens": max_new_tokens},
            )
            for result in found:
                tried.append(result)
                line = (
                    f"{result.template}, {result.shots} shots: {result.metric} {result.score:.3f} ± {result.error:.3f}"
                )
                display.progress(0, 0, line)
    except BaseException:
        if tried and not quiet:
            _print_tried(tried, as_json)
        raise
    best = max(tried, key=lambda result: result.score)
    template = next(t for t in templates if t.name == best.template)
    settings: dict[str, Any] = {"calibrate": bool(calibrate), "examples": "", "columns": {}}
    if words:
        settings["labels"] = {label: template.words.get(word, word) for label, word in words.items()}
    if best.shots and examples:
        settings["examples"] = os.path.relpath(examples, output.parent).replace(os.sep, "/")
        settings["columns"] = _pairs(example_columns or columns, "--columns")
    write_winner(output, best, template, **settings)
    partial.unlink(missing_ok=True)
    if not quiet:
        _print_tried(tried, as_json)
    if not (quiet or as_json):
        print(f"\n{output}: {best.template} with {best.shots} shots.  wikigpt task {name} … --prompts {output}")


@prompts.command()
def export(
    name: Annotated[str, typer.Argument(help="Task.", show_default=False)],
    data: Annotated[Path, typer.Option(help="File of texts with answers.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File x.jsonl; or a folder, with train and validation.", show_default=False
        ),
    ],
    columns: Columns = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Only this template. Repeatable.")] = None,
    prompts_file: Prompts = None,
    labels: Labels = None,
    lang: Lang = None,
    to: To = None,
    var: Var = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many texts, drawn at random.")] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share held out, in a folder.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Decides which wording each text gets.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn texts with answers into conversations, in several wordings, for `wikigpt finetune` to learn the task.

    Example: `wikigpt prompts export sentiment --data train.tsv --columns text=1,label=2
    --labels 0=negative,1=positive -o conversations`
    """
    import random

    from wikigpt.adapt.examples import guess_lang
    from wikigpt.adapt.prompts import find_task
    from wikigpt.adapt.tasks import export_conversations, parse_labels
    from wikigpt.artifacts import atomic_folder, check_output_folder, write_atomic, write_json

    what = find_task(name)
    if output.suffix != ".jsonl":
        check_output_folder(output, "prompts.json")
    values = _variables(var, what)
    rows = _rows(data, what, columns, limit=limit, answered=True)
    lang = lang or guess_lang(rows[0].values[what.inputs[0]])
    fields = {*values, *what.given, *(name for row in rows for name in row.values)}
    templates = _chosen_templates(what, prompts_file, prompt, lang, fields)
    words = parse_labels(labels) if labels else None
    made = export_conversations(rows, templates, seed=seed, labels=words, values=values, to=to)
    lines = [json.dumps(conversation, ensure_ascii=False) + "\n" for conversation in made]
    facts: dict[str, Any] = {"task": name, "prompts": [t.name for t in templates], "conversations": len(lines)}
    if output.suffix == ".jsonl":
        write_atomic(output, "".join(lines))
    else:
        random.Random(seed).shuffle(lines)
        held = round(len(lines) * validation)
        facts |= {"train": len(lines) - held, "validation": held}
        with atomic_folder(output) as folder:
            (folder / "train.jsonl").write_text("".join(lines[held:]), encoding="utf-8")
            (folder / "validation.jsonl").write_text("".join(lines[:held]), encoding="utf-8")
            write_json(folder / "prompts.json", facts)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    elif not quiet:
        print(f"{output}: {len(lines):,} conversations by {', '.join(facts['prompts'])}")


def open_engine(path: Path) -> "Engine":
    """The model of a run folder, or a model or adapter folder. Raises `UserError` where there is none."""
    from wikigpt.adapt.files import chat_folder
    from wikigpt.chat.engine import Engine

    return Engine.from_folder(chat_folder(path))


def _origin(path: Path) -> list[Any]:
    """What tells this model from another: its files' names, sizes and times."""
    model = path / "model" if (path / "model").is_dir() else path
    files = (file for file in sorted(model.iterdir()) if file.is_file())
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _rows(path: Path, what: "Task", columns: str | None, *, limit: int | None, answered: bool) -> "list[Row]":
    import random

    from wikigpt.adapt.examples import read_rows

    rows = read_rows(path, what, _pairs(columns, "--columns"), answered=answered)
    return random.Random(0).sample(rows, limit) if limit is not None and limit < len(rows) else rows


def _examples(path: Path | None, template: "Template", what: "Task", columns: str | None) -> "list[Row]":
    """Those of --examples, else those that the template names."""
    from wikigpt.adapt.examples import read_rows

    if path is not None:
        return _rows(path, what, columns, limit=None, answered=True)
    if template.examples and template.shots:
        return read_rows(Path(template.examples), what, template.columns, answered=True)
    return []


def _chosen_templates(
    what: "Task", path: Path | None, names: list[str] | None, lang: str, fields: set[str]
) -> "list[Template]":
    """Those that were named; else all of the task and language that the data has the variables for."""
    from wikigpt.adapt.prompts import find_template, load_templates

    templates = load_templates(path)
    if names:
        return [find_template(templates, name, what.name) for name in names]
    usable = [t for t in templates if t.task == what.name and t.lang == lang and t.variables <= fields]
    if not usable:
        raise UserError(f"no prompt of {what.name} in {lang!r} does with {', '.join(sorted(fields))} alone.")
    # Where the data has passages, a prompt that leaves them out asks for something else.
    wanted = [t for t in usable if {*what.optional} & fields <= t.variables]
    return wanted or usable


def _pairs(text: str | None, option: str) -> dict[str, str]:
    """{"text": "review"} from "text=review". Raises `UserError` where it is not of that form."""
    pairs = {}
    for part in (text or "").split(",") if text else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise UserError(f"{option} {text!r}: write it as NAME=COLUMN,NAME=COLUMN.")
        pairs[name] = value
    return pairs


def _variables(given: list[str] | None, what: "Task") -> dict[str, str]:
    """What `--var` gives; @FILE stands for the text of a file."""
    values = {}
    for part in given or []:
        name, equals, value = part.partition("=")
        possible = (*what.inputs, *what.optional)
        if not equals or name not in possible:
            raise UserError(f"--var {part!r}: write NAME=VALUE; {what.name} has {', '.join(possible)}.")
        if value.startswith("@"):
            try:
                value = Path(value[1:]).read_text(encoding="utf-8-sig").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"--var {part!r}: the file cannot be read ({error}).") from None
        values[name] = value
    return values


def _numbers(text: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = [-1]
    if numbers[0] < 0:
        raise UserError(f"--shots {text!r}: write numbers as 0,1,3.")
    return numbers


def _print_list(templates: "Sequence[Template]", as_json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from wikigpt.adapt.prompts import TASKS

    if as_json:
        print(json.dumps([t.model_dump(exclude_defaults=True) for t in templates], ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for what in TASKS.values():
        mine = [t for t in templates if t.task == what.name]
        if mine:
            optional = "".join(f" [{name}]" for name in what.optional)
            taken = escape(" ".join(what.inputs) + optional)
            console.print(
                f"[bold]{what.name}[/]  {what.about}  [dim]({taken} → {'label' if what.chosen else 'text'})[/]"
            )
        for template in mine:
            first = " ⏎ ".join(line for line in template.user.splitlines() if line)
            console.print(f"  {template.name:<22} {escape(first)}", markup=True)


def _print_tried(tried: "Sequence[Tried]", as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    tried = sorted(tried, key=lambda result: -result.score)
    if as_json:
        print(json.dumps([asdict(result) for result in tried], ensure_ascii=False, indent=2))
        return
    first = tried[0]
    table = Table("template", "shots", first.metric, "±", *first.others, "n", "s", box=None, pad_edge=False)
    for result in tried:
        others = [f"{value:.3f}" for value in result.others.values()]
        cells = (f"{result.score:.3f}", f"{result.error:.3f}", *others, str(result.n), f"{result.seconds:.0f}")
        table.add_row(result.template, str(result.shots), *cells)
    Console(width=max(80, Console().width), highlight=False).print(table)
