"""What commands print when they are done, as tables."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def print_plans(plans: list[Any], chosen: Any) -> None:
    """Forecasts of pretraining, the chosen one in bold, and what they rest on."""
    from wikigpt.train.plan import MANY_EPOCHS, fitted_law

    law = fitted_law()
    headings = ("minutes", "model", "weights", "steps", "tokens", "tokens/s", "bits per byte", "memory")
    table = Table(*headings, box=None, pad_edge=False)
    for plan in plans:
        table.add_row(
            f"{plan.minutes:g}",
            plan.shape,
            f"{plan.model.n_parameters / 1e6:.1f} M",
            f"{plan.steps:,} of {plan.batch_size} x {plan.sequence_length}",
            f"{plan.tokens / 1e6:.1f} M",
            f"{plan.tokens_per_second:,}",
            f"{plan.bits_per_byte:.2f}",
            f"{plan.memory_bytes / 1e9:.1f} GB",
            style="bold" if plan is chosen else None,
        )
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(table)
    others = " and ".join(f"{bits:.3f} with {shape}" for shape, bits in chosen.runners_up)
    console.print(
        f"\n{chosen.pretrain_seconds / 60:.1f} minutes to pretrain, {chosen.finetune_seconds / 60:.1f} to learn to "
        f"chat, the rest for corpus, index and evaluation."
        + (f"\nThe same time would give {others} instead of {chosen.bits_per_byte:.3f}." if others else "")
        + f"\nBits per byte are of held-out Wikipedia articles: to within {law.error:.2f} up to "
        f"{law.most_tokens / 1e6:.0f} M tokens, a guess beyond. Speed: to within a quarter."
    )
    if chosen.epochs and chosen.epochs > MANY_EPOCHS:
        console.print(
            f"The text is read {chosen.epochs:.0f} times over; beyond {MANY_EPOCHS} times it helps less and less, so "
            "more text would be better."
        )


def print_conversations(languages: dict[str, Any]) -> None:
    """What `instruct` made, by kind and language, and what it left out."""
    if not languages:
        return
    table = Table("made", "kind", *languages, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    titles = {"train": "conversations", "validation": "held out", "questions": "questions", "pairs": "pairs"}
    for part, title in titles.items():
        counts = [counts[part] for counts in languages.values()]
        table.add_row(title, "all", *(f"{sum(count.values()):,}" for count in counts), style="bold")
        for kind in sorted({kind for count in counts for kind in count}):
            table.add_row("", kind, *(f"{count.get(kind, 0):,}" for count in counts))
    console = Console(width=max(80, Console().width), highlight=False)
    console.print(table)
    for lang, by_kind in ((lang, counts["dropped"]) for lang, counts in languages.items()):
        reasons = [f"{kind} {reason} {n:,}" for kind, by in by_kind.items() for reason, n in by.items()]
        if reasons:
            console.print(f"Not good enough ({lang}): {', '.join(reasons)}", soft_wrap=True)


def print_tally(names: tuple[str, str], tally: Any, votes: Path) -> None:
    """Who won how often, how sure that is, and what can be made of the votes."""
    console = Console(highlight=False, soft_wrap=True)
    if not tally.n:
        console.print("No votes.")
        return
    a, b = map(escape, names)
    console.print(f"{escape(str(votes))}: {tally.n:,} votes between {a} and {b}")
    if a != b:
        low, high = tally.interval
        console.print(
            f"{a} won {tally.wins:,}, {b} {tally.losses:,}; as good {tally.ties:,}, neither {tally.both_bad:,}"
        )
        console.print(f"{a} is preferred in {tally.share:.0%} (95 % interval {low:.0%} to {high:.0%}; ties count half)")
    console.print(f"Learn from them:  wikigpt prefer MODEL {escape(str(votes))} -o better")


def print_check(found: Any) -> None:
    """What of a file of conversations can be used, and why the rest cannot."""
    table = Table("format", "holds", "language", "number", box=None, pad_edge=False)
    for holds, by_format in (("conversations", found.conversations), ("preference pairs", found.pairs)):
        for name, counts in by_format.items():
            for lang, number in counts.most_common():
                table.add_row(name, holds, lang, f"{number:,}")
    console = Console(width=max(80, Console().width), highlight=False)
    console.print(f"{escape(found.path)}: {found.usable:,} of {found.rows:,} {found.unit}s can be used", soft_wrap=True)
    if table.row_count:
        console.print()
        console.print(table)
    if found.duplicates:
        console.print(f"\n{found.duplicates:,} are word for word like an earlier one; `instruct` takes them once.")
    if found.unusable:
        console.print(f"\nLeft out, {len(found.unusable):,} {found.unit}s:")
        if len(found.unusable) > 20:
            kinds = Counter(re.sub(r"\d+", "…", reason) for _, reason in found.unusable)
            for reason, number in kinds.most_common(8):
                console.print(f"  {number:>7,} × {escape(reason)}", soft_wrap=True)
            console.print("Of these:")
        for number, reason in found.unusable[:20]:
            console.print(f"  {found.unit} {number}: {escape(reason)}", soft_wrap=True)
        if len(found.unusable) > 20:
            console.print("  … (--json lists them all)")


def print_hits(query: str, hits: Sequence[Any]) -> None:
    """Passages found, with the words that were looked for in bold."""
    from wikigpt.knowledge.text import occurrences, search_terms

    console = Console(highlight=False)
    for number, hit in enumerate(hits, 1):
        heading = f" › {hit.section}" if hit.section else ""
        console.print(f"[{number}] ", f"{hit.title}{heading}  {hit.url}", sep="", markup=False, soft_wrap=True)
        text = Text(f"    {hit.text}".replace("\n", "\n    "))
        for start, end in occurrences(text.plain, search_terms(query)):
            text.stylize("bold yellow", start, end)
        console.print(text, soft_wrap=True)
    if not hits:
        console.print("nothing found")


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """How many held-out questions were answered right."""
    table = Table("task", "", "asked", "exact", "shown", "source", "refused", box=None, pad_edge=False)
    shown = ("n", "exact_match", "contains", "citation", "refused")
    for task, by_lang in evaluation["tasks"].items():
        if task == "by_relation":
            continue
        for lang, scores in by_lang.items():
            cells = [
                "" if m not in scores else str(scores[m]) if m == "n" else f"{scores[m] * 100:.1f} %" for m in shown
            ]
            table.add_row(task.replace("_", "-"), lang, *cells)
    console = Console(width=max(80, Console().width))
    console.print("\nHeld-out questions, answered right:\n")
    console.print(table)
    console.print(
        "\n[dim]exact: the model itself states the fact; shown: the answer shown holds it, quotations included;\n"
        "source: the first source is the right article; refused: says that the wiki does not hold it[/]"
    )
    bits = "  ".join(f"{lang} {value:.3f}" for lang, value in evaluation["bits_per_byte"].items())
    minutes = sum(evaluation["seconds"].values()) / 60
    console.print(
        f"Held-out bits per byte: {bits}.  {minutes:.1f} minutes, {evaluation['peak_memory_bytes'] / 1e9:.1f} GB.",
        highlight=False,
    )


def print_answers(run: Path) -> None:
    """A few held-out questions with the answers shown, in each language, right or wrong."""
    from wikigpt.chat.terminal import plain
    from wikigpt.train.metrics import read_metrics

    answers = list(read_metrics(run / "evaluation" / "answers.jsonl"))
    for lang in sorted({answer["lang"] for answer in answers}):
        for task in ("closed_book", "grounded"):
            group = [a for a in answers if a["task"] == task and a["lang"] == lang]
            for answer in random.Random(1).sample(group, min(3, len(group))):
                right = answer["contains"] if task == "grounded" else answer["exact_match"]
                print(f"\n{'✓' if right else '✗'} {answer['question']}\n  {plain(answer['answer'])}")
