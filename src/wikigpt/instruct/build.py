"""The stage `instruct`: from a corpus folder to a folder of conversations and evaluation questions."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from wikigpt.artifacts import atomic_folder, check_output_folder, sha256_file, write_json
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.instruct.articles import gather
from wikigpt.instruct.augment import augmented
from wikigpt.instruct.balance import balanced
from wikigpt.instruct.bare import BareMaker
from wikigpt.instruct.exercises import exercises
from wikigpt.instruct.extra import Mixed, asked, check_exist, mix
from wikigpt.instruct.gate import Gate, last_question
from wikigpt.instruct.make import Maker
from wikigpt.instruct.preference import Pair, preference_pairs
from wikigpt.instruct.questions import Question, questions
from wikigpt.instruct.relations import catalogue
from wikigpt.instruct.sentiment import sentiments
from wikigpt.instruct.settings import InstructSettings, Share
from wikigpt.instruct.talk import Conversation
from wikigpt.instruct.wording import bare

MANIFEST = "instruct.json"
PAIRS, HELD_OUT_PAIRS = "pairs.jsonl", "pairs-validation.jsonl"  # the names under which `wikigpt prefer` finds them
LANGUAGES = ("en", "zh")

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class Made:
    """What was made: conversations to train on and to measure with, evaluation questions, and counts."""

    train: list[Conversation] = field(default_factory=list)
    validation: list[Conversation] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    pairs_validation: list[Pair] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)


def make_conversations(
    documents: Iterable[Document], settings: InstructSettings, seed: int, progress: Callable[[int], None] | None = None
) -> Made:
    """Make conversations and questions from documents, which are read once.

    The same documents (in any order), settings and seed make the same. `progress` is told the documents read so far.

    Raises:
        UserError: a language without phrasings, an unknown relation, or nothing to make conversations from.
    """
    _check(settings)
    others: dict[str, BareMaker] = {}
    documents = _set_aside(documents, others, settings)
    views = gather(documents, settings, catalogue(), settings.passage_bytes, progress)
    views = {lang: view for lang, view in views.items() if view.of("train")}
    made, gate = Made(), Gate()
    for lang, view in views.items():
        maker = Maker(view, settings, catalogue(), seed)
        opinions = sentiments(lang, settings.sentiment, maker.rng("sentiment"))
        made_here = chain(maker.training(), opinions, exercises(maker))
        training = list(gate.passed(augmented(made_here, views, settings, seed)))
        taught = {bare(m["content"]) for c in training for m in c["messages"] if m["role"] == "user"}
        asked = list(questions(maker, views, taught))
        made.train += training
        made.validation += gate.passed(chain(maker.measuring(), exercises(maker, "heldout")))
        most = min(settings.validation_conversations // 6, settings.sentiment.maximum)
        made.validation += sentiments(lang, Share(weight=2, maximum=most), maker.rng("measure sentiment"), heldout=True)
        made.questions += asked
        pairs = preference_pairs(view, settings, catalogue(), seed, gate)
        made.pairs += pairs
        made.pairs_validation += preference_pairs(view, settings, catalogue(), seed, gate, "heldout")
        made.counts[lang] = {
            "articles": {split: len(view.of(split)) for split in ("train", "validation")},
            "core_facts": len(maker.core),
            "other_facts": len(maker.other),
            "core_facts_by_relation": dict(Counter(fact.relation.id for _, fact in maker.core).most_common()),
        }
        _check_no_leak([*training, *pairs], {(a.id, a.title) for a in maker.validation})
    for lang, other in sorted(others.items()):
        made.train += gate.passed(other.training())
        made.validation += gate.passed(other.measuring())
        made.questions += other.questions(settings.grounded_questions, Random(seed))
        made.counts[lang] = {}
    made.train = balanced(made.train, settings.balance, seed)
    if not made.train:
        raise UserError("no training article was found that conversations could be made from; give a larger wiki.")
    _hold_out(made)
    _count(made, gate)
    Random(f"{seed}/order").shuffle(made.train)
    return made


def _hold_out(made: Made) -> None:
    """Leave out of what measures every question that is taught, in whatever kind of conversation or pair."""
    taught = {last_question(entry) for entry in [*made.train, *made.pairs]}
    made.validation = [c for c in made.validation if last_question(c) not in taught]
    made.pairs_validation = [pair for pair in made.pairs_validation if last_question(pair) not in taught]
    made.questions = [question for question in made.questions if bare(question["question"]) not in taught]


def _count(made: Made, gate: Gate) -> None:
    """Count by language and kind what was made, and what the gate let not pass."""
    for lang, counts in made.counts.items():
        for name, entries, kind in (
            ("train", made.train, lambda c: c["task"]),
            ("validation", made.validation, lambda c: c["task"]),
            ("questions", made.questions, _task),
            ("pairs", made.pairs, lambda pair: pair["kind"]),
        ):
            counts[name] = dict(sorted(Counter(kind(e) for e in entries if e["lang"] == lang).items()))
        counts["dropped"] = gate.counts(lang)


def _set_aside(
    documents: Iterable[Document], others: dict[str, BareMaker], settings: InstructSettings
) -> Iterator[Document]:
    """Pass on the documents of languages with phrasings; collect the others, `max_articles` a language."""
    for document in documents:
        if document.lang in LANGUAGES or not settings.other_languages:
            yield document
            continue
        maker = others.setdefault(document.lang, BareMaker(document.lang))
        if len(maker.documents) < settings.max_articles:
            maker.documents.append(document)


def build_conversations(
    corpus: Path | None, output: Path, *, settings: InstructSettings, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Make conversations from the corpus folder `corpus`, mix in those of files, and write them to `output`.

    Without a corpus those of the files `settings.extra` are all there are, and there are no evaluation questions.
    Writes `train.jsonl`, `validation.jsonl`, `questions.jsonl`, preference pairs where there are any (`pairs.jsonl`,
    `pairs-validation.jsonl`) and the manifest `instruct.json`, all or none of them.

    Args:
        progress: called with documents read, documents in all, and a word on what is being done.

    Returns:
        The manifest.

    Raises:
        UserError: `corpus` is no corpus, `output` holds something else, there is nothing to make, or a file of
            conversations cannot be used.
    """
    check_output_folder(output, MANIFEST)
    check_exist(settings.extra)
    made = _made_from(corpus, settings, seed, progress) if corpus else Made()
    mixed = _mix_in(made, settings, seed, progress)
    with atomic_folder(output) as folder:
        written: dict[str, list[Any]] = {
            "train.jsonl": made.train,
            "validation.jsonl": made.validation,
            "questions.jsonl": made.questions,
        }
        if made.pairs:
            written |= {PAIRS: made.pairs, HELD_OUT_PAIRS: made.pairs_validation}
        for name, entries in written.items():
            with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        manifest = {
            "conversations": {"train": len(made.train), "validation": len(made.validation)},
            "questions": len(made.questions),
            "pairs": {"train": len(made.pairs), "validation": len(made.pairs_validation)},
            "languages": made.counts,
            "extra": mixed.counts,
            "seed": seed,
            "settings": settings.model_dump(),
            "sha256": {name: sha256_file(folder / name) for name in written},
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def _made_from(corpus: Path, settings: InstructSettings, seed: int, progress: Progress | None) -> Made:
    from wikigpt.corpus import corpus_manifest, read_corpus  # pyarrow loads with the first document

    total = int(corpus_manifest(corpus)["documents"])

    def read_so_far(number: int) -> None:
        if progress:
            progress(number, total, "reading articles")

    made = make_conversations(read_corpus(corpus), settings, seed, read_so_far)
    if progress:
        progress(total, total, f"{len(made.train):,} conversations")
    return made


def _mix_in(made: Made, settings: InstructSettings, seed: int, progress: Progress | None) -> Mixed:
    """Add the conversations of files; an evaluation question that one of them asks would be no test any more."""
    taught = {question for conversation in made.train for question in asked(conversation)} if settings.extra else set()
    mixed = mix(settings.extra, seed, taught, progress)
    if mixed.train:
        told = {question for conversation in mixed.train for question in asked(conversation)}
        made.questions = [question for question in made.questions if bare(question["question"]) not in told]
        made.validation = [c for c in made.validation if last_question(c) not in told]
        made.pairs_validation = [pair for pair in made.pairs_validation if last_question(pair) not in told]
        made.train += mixed.train
        Random(f"{seed}/mixed").shuffle(made.train)
    made.validation += mixed.validation
    return mixed


def _check(settings: InstructSettings) -> None:
    if unknown := [lang for lang in settings.languages if lang not in LANGUAGES]:
        raise UserError(
            f"instruct.languages: there are no phrasings in {unknown[0]!r}; there are some in {', '.join(LANGUAGES)}."
        )
    known = {relation.id for relation in catalogue().relations}
    if strange := sorted(set(settings.core_relations or ()) - known):
        raise UserError(
            f"instruct.core_relations: there is no relation {strange[0]!r}; known are {', '.join(sorted(known))}."
        )


def _check_no_leak(training: list[dict[str, Any]], heldout: set[tuple[str, str]]) -> None:
    """A held-out article in a training conversation would make the evaluation worthless."""
    for made in training:
        for source in made["sources"]:
            assert (source["id"], source["title"]) not in heldout, f"{source['title']} is held out"


def _task(question: Question) -> str:
    return "closed_book_core" if question["core"] else question["task"]
