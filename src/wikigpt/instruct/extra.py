"""Conversations from files, mixed with those that were made from the wiki."""

import hashlib
import heapq
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from wikigpt.errors import UserError
from wikigpt.instruct.foreign import COLUMNS, Conversation, digest, read_rows
from wikigpt.instruct.settings import Extra, Share
from wikigpt.instruct.tables import RowFile
from wikigpt.instruct.talk import sample
from wikigpt.instruct.wording import bare

HELD_OUT, MOST_HELD_OUT = 0.02, 200  # of each file's conversations
FEWEST = 10  # conversations from which on at least one is held out

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class Mixed:
    """What the files give, and for each file what became of its rows."""

    train: list[Conversation] = field(default_factory=list)
    validation: list[Conversation] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Survey:
    """What the first reading of a file keeps, some 30 bytes for a conversation; the arrays are parallel.

    Attributes:
        facts: counts for the manifest.
        total: conversations in the file, duplicates included.
        places: which of them are no duplicates.
        turns: how many questions each of those asks.
        marks: 64 bits for every question, those of one conversation after the other.
    """

    facts: dict[str, Any]
    total: int = 0
    places: "array[int]" = field(default_factory=lambda: array("L"))
    turns: "array[int]" = field(default_factory=lambda: array("L"))
    marks: "array[int]" = field(default_factory=lambda: array("Q"))

    def questions(self) -> "Iterator[tuple[int, array[int]]]":
        """Each conversation's place, with the marks of its questions."""
        start = 0
        for place, turns in zip(self.places, self.turns, strict=True):
            yield place, self.marks[start : start + turns]
            start += turns


def check_exist(extras: Sequence[Extra]) -> None:
    """Raise `UserError` for a file that is not there, before hours are spent on what comes first."""
    for extra in extras:
        if not Path(extra.path).is_file():
            raise UserError(f"instruct.extra: there is no file {extra.path}; give the path of a conversation file.")


def asked(conversation: Conversation) -> Iterator[str]:
    """What the user says in a conversation, as `bare` writes it (as it is, where it has no letters)."""
    return (bare(m["content"]) or m["content"] for m in conversation["messages"] if m["role"] == "user")


def mix(extras: Sequence[Extra], seed: int, taught: set[str], progress: Progress | None = None) -> Mixed:
    """Read the files, hold a share of each out, and take of the others as many as their weight and maximum say.

    A conversation is held out only if nothing that the user says in it is said by a user in training. Duplicates, also
    across files, are taken once. Each file is read twice, so that only what is taken of it is ever in memory.

    Args:
        extras: the files.
        seed: decides what is held out and sampled.
        taught: what users say in the conversations made from the wiki, as `asked` writes it.
        progress: called with conversations read, all of them (0 where unknown) and a word; with 0, 0 and a sentence
            where rows are left out.

    Raises:
        UserError: a file that cannot be read, in which no row is a conversation, or that changes meanwhile.
    """
    check_exist(extras)
    tell = progress or (lambda *_: None)
    seen: set[int] = set()
    surveys = [_survey(extra, seen, tell) for extra in extras]
    held = _held_out(surveys, _mark(f"{seed}/held-out"), set(map(_mark, taught)))
    mixed = Mixed()
    for number, (extra, survey, places) in enumerate(zip(extras, surveys, held, strict=True)):
        able = [place for place in survey.places if place not in places]
        share = Share(weight=extra.weight, maximum=sys.maxsize if extra.maximum is None else extra.maximum)
        times = Counter(place for place, _ in sample(able, share, Random(f"{seed}/extra/{number}")))
        place = -1
        for place, conversation in _conversations(extra, survey.total, tell):
            mixed.train += [conversation] * times[place]
            if place in places:
                mixed.validation.append(conversation)
        if place + 1 != survey.total:
            raise UserError(f"{extra.path} changed while it was read; run the same command again.")
        mixed.counts.append({**survey.facts, "train": times.total(), "validation": len(places)})
    return mixed


def _survey(extra: Extra, seen: set[int], tell: Progress) -> _Survey:
    """Read a file for the first time."""
    path = Path(extra.path)
    rows, pairs, first = 0, 0, ""
    unit = RowFile(path, COLUMNS).unit
    survey = _Survey({"path": extra.path, "weight": extra.weight})
    left_out, languages = 0, Counter[str]()
    for reading in read_rows(path):
        rows += 1
        if reading.reason:
            left_out += 1
            first = first or f"{unit} {reading.row}: {reading.reason}"
        pairs += len(reading.pairs)
        for conversation in reading.conversations:
            mark = digest(conversation)
            if mark not in seen:
                seen.add(mark)
                questions = [_mark(question) for question in asked(conversation)]
                survey.places.append(survey.total)
                survey.turns.append(len(questions))
                survey.marks.extend(questions)
                languages[conversation["lang"]] += 1
            survey.total += 1
            if survey.total % 1000 == 0:
                tell(survey.total, 0, f"reading {path.name}")
    if not survey.total:
        what = f"only {pairs:,} preference pairs, which are no conversations" if pairs else "no conversation"
        raise UserError(f"{path} holds {what} that can be used; `wikigpt instruct --check {path}` says why.")
    if left_out:
        tell(0, 0, f"{path}: {left_out:,} of {rows:,} {unit}s were left out ({first}); --check {path} lists all.")
    duplicates = survey.total - len(survey.places)
    survey.facts |= {"rows": rows, "unusable": left_out, "pairs": pairs, "duplicates": duplicates}
    survey.facts["languages"] = dict(sorted(languages.items()))
    return survey


def _conversations(extra: Extra, total: int, tell: Progress) -> Iterator[tuple[int, Conversation]]:
    place = -1
    for reading in read_rows(Path(extra.path)):
        for conversation in reading.conversations:
            place += 1
            if place % 1000 == 999:
                tell(place, total, f"taking from {Path(extra.path).name}")
            yield place, conversation


def _held_out(surveys: Sequence[_Survey], salt: int, taught: set[int]) -> list[set[int]]:
    """The places of each file's held-out conversations: all that open with one of a few questions."""
    held: list[dict[int, array[int]]] = []
    for survey in surveys:
        number = len(survey.places)
        wanted = min(MOST_HELD_OUT, max(number >= FEWEST, round(HELD_OUT * number)))
        # Marks are hashes, so that xor with a salt puts them in random order.
        openings = set(heapq.nsmallest(wanted, {marks[0] for _, marks in survey.questions()}, key=salt.__xor__))
        group = {place: marks for place, marks in survey.questions() if marks[0] in openings}
        sizes = Counter(marks[0] for marks in group.values())
        for opening in sorted(openings, key=salt.__xor__):
            if sizes[opening] > wanted:
                openings.remove(opening)
            else:
                wanted -= sizes[opening]
        held.append({place: marks for place, marks in group.items() if marks[0] in openings})
    asked = {mark for group in held for marks in group.values() for mark in marks}
    said = asked & taught
    for survey, group in zip(surveys, held, strict=True):
        said.update(m for place, marks in survey.questions() if place not in group for m in marks if m in asked)
    while said:  # what one that goes to training asks may be asked by another one, too
        back = [(group, place) for group in held for place, marks in group.items() if not said.isdisjoint(marks)]
        said = {mark for group, place in back for mark in group.pop(place)}
    return [set(group) for group in held]


def _mark(text: str) -> int:
    """64 bits that tell texts apart."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
