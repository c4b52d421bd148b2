"""What a build shows while it runs."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

Facts = dict[str, Any]

LOG_SECONDS = 15  # between lines where the output is a file


class Display(Protocol):
    """Shows the user how a build goes; the command line's draws bars, a test's may collect."""

    def stage(self, name: str, state: str, seconds: float = 0.0, summary: str = "") -> None:
        """A stage is "started", "done", "unchanged" or "interrupted"."""

    def progress(self, done: int, total: int, message: str) -> None:
        """How far the running stage is; `total` 0 where that is not known."""


class QuietDisplay:
    """Shows nothing."""

    def stage(self, name: str, state: str, seconds: float = 0.0, summary: str = "") -> None:
        """Ignore."""

    def progress(self, done: int, total: int, message: str) -> None:
        """Ignore."""


class TerminalDisplay:
    """A line for each finished stage, a moving bar for the one at work; plain lines into a file."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<10}"),
            BarColumn(bar_width=20 if self._console.width > 120 else 8),
            # On a narrow terminal the message is cut, not the times: it alone has a ratio, so it gets what is left.
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
            console=self._console,
            transient=True,
            expand=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", stage="", visible=False, total=None)
        self._stage = ""
        self._last_line = 0.0

    def __enter__(self) -> "TerminalDisplay":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, name: str, state: str, seconds: float = 0.0, summary: str = "") -> None:
        """Begin or close a stage's line."""
        self._stage = name
        if state == "started":
            self._bar.reset(self._task, total=None, stage=name, description="", visible=True)
            self._last_line = time.monotonic()
            return
        self._bar.update(self._task, visible=False)
        mark = {"done": "[green]✓[/]", "unchanged": "[dim]=[/]", "interrupted": "[yellow]…[/]"}[state]
        note = {"unchanged": "unchanged", "interrupted": "interrupted"}.get(state, f"{seconds:.1f} s")
        self._console.print(f"{mark} {name:<10} {note:>10}  {summary}", soft_wrap=True)

    def progress(self, done: int, total: int, message: str) -> None:
        """Move the bar, or now and then print a line; a message alone (`done` and `total` 0) is a line of its own."""
        if not done and not total:
            self._console.print(f"  {self._stage:<10} {message}", soft_wrap=True, markup=False)
            return
        self._bar.update(self._task, completed=done, total=total or None, description=escape(message))
        if not self._console.is_terminal and time.monotonic() - self._last_line > LOG_SECONDS:
            self._last_line = time.monotonic()
            share = f"{done / total:4.0%} " if total else ""
            left = self._bar.tasks[0].time_remaining
            rest = "" if left is None else f"  {timedelta(seconds=round(left))} left"
            self._console.print(f"  {self._stage:<10} {share}{message}{rest}", soft_wrap=True, markup=False)


def summary(name: str, facts: Facts) -> str:
    """One line about what a stage made."""
    try:
        return _SUMMARIES[name](facts)
    except (KeyError, TypeError, IndexError):  # an older run's facts may lack a key
        return ""


def _scores(facts: Facts) -> str:
    return ", ".join(
        f"{task.replace('_', '-')} {lang} {next(iter(scores.values())):.0%}"
        for task, by_lang in facts.items()
        for lang, scores in by_lang.items()
    )


def _trained(facts: Facts) -> str:
    losses = ", ".join(f"{name} {loss:.2f}" for name, loss in facts["held_out_loss"].items())
    return (
        f"{facts['parameters'] / 1e6:.1f} M weights, {facts['steps']:,} steps, {facts['tokens'] / 1e6:.1f} M tokens, "
        f"{facts['tokens_per_second']:,} tokens/s ({facts['precision']}); held-out loss {losses}"
    )


_SUMMARIES: dict[str, Callable[[Facts], str]] = {
    "corpus": lambda f: f"{f['documents']:,} articles",
    "tokenizer": lambda f: (
        f"{f['vocab_size']:,} tokens, "
        + (f"those of {f['base']}" if "base" in f else f"{f['bytes_per_token']} bytes each")
    ),
    "import": lambda f: (
        f"{f['family']}, {f['parameters'] / 1e6:.1f} M weights, {f['vocab_size']:,} tokens, "
        f"context of {f['context_length']:,}"
    ),
    "tokens": lambda f: f"{sum(s['tokens'] for s in f['splits'].values()):,} tokens",
    "plan": lambda f: (
        f"{f['shape']}, {f['parameters'] / 1e6:.1f} M weights, about {f['steps']:,} steps, {f['tokens'] / 1e6:.1f} M "
        f"tokens in {f['pretrain_minutes']:g} minutes; {f['bits_per_byte']:.2f} bits per byte expected"
    ),
    "pretrain": _trained,
    **dict.fromkeys(("instruct", "exercises"), lambda f: f"{f['conversations']['train']:,} conversations"),
    "finetune": _trained,
    "distill": _trained,
    "prefer": lambda f: (
        f"{f['steps']:,} steps ({f['precision']}); held-out pairs in which the chosen answer gained more: "
        + (", ".join(f"{name} {m['accuracy']:.0%}" for name, m in f["preference"].items()) or "none held out")
    ),
    "knowledge": lambda f: f"{f['passages']:,} passages",
    "evaluate": _scores,
}
