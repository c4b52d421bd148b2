"""Held-out questions put to the chat model, and how often it was right."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wikigpt.chat.engine import Engine
from wikigpt.chat.session import Answer, ChatSession
from wikigpt.errors import UserError
from wikigpt.evaluate.judge import contains, exact_match, refused
from wikigpt.knowledge import Index

Progress = Callable[[int, int, str], None]
Question = dict[str, Any]
CHUNK = 64  # questions answered together; progress is shown after each chunk


def read_questions(path: Path, limits: dict[str, int]) -> list[Question]:
    """Questions of a `questions.jsonl`: at most `limits[task]` of each task and language, a fixed sample."""
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with `wikigpt instruct`.")
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        groups[question["task"], question["lang"]].append(question)
    chosen = []
    for (task, _), questions in sorted(groups.items()):
        limit = limits.get(task, 0)
        chosen += random.Random(0).sample(questions, limit) if len(questions) > limit else questions
    return chosen


def run_tasks(
    engine: Engine,
    index: Index,
    questions: Path,
    *,
    limits: dict[str, int],
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Answer the questions, judge the answers.

    Closed-book questions are answered from memory, the others as the chat answers them, grounded.

    Returns:
        Scores as `{task: {lang: {measure: share, "n": count}}}`, and every question with its answer.
    """
    asked = read_questions(questions, limits)
    judged: list[dict[str, Any]] = []
    for grounded in (False, True):
        group = [q for q in asked if (q["task"] != "closed_book") == grounded]
        session = ChatSession(engine, index, grounded=grounded)
        for i in range(0, len(group), CHUNK):
            chunk = group[i : i + CHUNK]
            answers = session.answer_all([q["question"] for q in chunk])
            judged += [judge(q, a) for q, a in zip(chunk, answers, strict=True)]
            if progress:
                progress(len(judged), len(asked), f"{len(judged)} of {len(asked)} questions")
    return summarise(judged), judged


def judge(question: Question, answer: Answer) -> dict[str, Any]:
    """The question, the answer, and what was right about it."""
    lang, golds = question["lang"], question["answers"]
    verdict: dict[str, Any] = {**question, "answer": answer.text, "said_by_model": answer.said_by_model}
    if question["task"] == "unanswerable":
        verdict["refused"] = answer.refused or refused(answer.text, lang)
        return verdict
    verdict["exact_match"] = exact_match(answer.said_by_model, golds, lang)
    if question["task"] == "grounded":
        verdict["contains"] = contains(answer.text, golds, lang)
        verdict["citation"] = bool(answer.sources) and answer.sources[0].title == question["title"]
        verdict["quoted"] = answer.quoted
        verdict["refused"] = answer.refused
    return verdict


MEASURES = {
    "closed_book": ("exact_match",),
    "grounded": ("exact_match", "contains", "citation", "quoted", "refused"),
    "unanswerable": ("refused",),
}


def summarise(judged: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Shares of each measure by task and language.

    `closed_book` counts the core facts, which conversations teach by heart; `closed_book_all` every fact
    asked for; `by_relation` tells both apart by what was asked.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    relations: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for verdict in judged:
        task, lang = verdict["task"], verdict["lang"]
        if task == "closed_book":
            groups["closed_book_all", lang].append(verdict)
        if task != "closed_book" or verdict["core"]:
            groups[task, lang].append(verdict)
        relations[f"{task}.{lang}"][verdict["relation"]].append(verdict)
    report: dict[str, Any] = {"closed_book": {}, "grounded": {}, "unanswerable": {}}
    for (task, lang), verdicts in sorted(groups.items()):
        measures = MEASURES[task.removesuffix("_all")]
        report.setdefault(task, {})[lang] = _shares(verdicts, measures)
    report["by_relation"] = {
        group: {
            relation: _shares(verdicts, MEASURES[group.split(".")[0]]) for relation, verdicts in sorted(by_name.items())
        }
        for group, by_name in sorted(relations.items())
    }
    return report


def _shares(verdicts: list[dict[str, Any]], measures: tuple[str, ...]) -> dict[str, Any]:
    shares = {m: round(sum(map(bool, (v[m] for v in verdicts))) / len(verdicts), 4) for m in measures}
    return {**shares, "n": len(verdicts)}
