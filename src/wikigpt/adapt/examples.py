"""Texts with or without answers, from tables and JSON; and the examples that are most like a text."""

import csv
import gzip
import json
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from wikigpt.adapt.prompts import Task
from wikigpt.errors import UserError

LONGEST_FIELD = 1 << 24  # characters; csv's own limit of 131,072 is less than a long article
NGRAMS = (1, 2, 3)  # characters: single ones carry meaning in Chinese, three tell English words apart
_SPACE = re.compile(r"\s+")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Row:
    """A text of a task: its variables, and the answers that are right, if known; `where` is its file and line."""

    values: dict[str, str]
    answers: tuple[str, ...] = ()
    where: str = field(default="", compare=False)


def guess_lang(text: str) -> str:
    """ "zh" where at least a quarter of the letters are Chinese characters, else "en"."""
    letters = sum(map(str.isalpha, text))
    return "zh" if letters and len(_HAN.findall(text)) * 4 >= letters else "en"


def read_rows(path: Path, task: Task, columns: Mapping[str, str] | None = None, *, answered: bool = False) -> list[Row]:
    """The rows of a file of a task, by its name: `.jsonl`, `.csv`, `.tsv`, `.json` (a list, or SQuAD's form), each
    also with `.gz`; of any other name, each line is a text.

    Args:
        columns: variable to column, where they are not called alike: a name, or a number from 1 of a table without a
            header. "answer" (or "label") is what is to be answered.
        answered: refuse rows without an answer.

    Raises:
        UserError: the file cannot be read, or a row lacks a variable; file and line are named.
    """
    columns = dict(columns or {})
    if "label" in columns:
        columns["answer"] = columns.pop("label")
    possible = (*task.inputs, *task.optional, "answer")
    if unknown := sorted(set(columns) - set(possible)):
        raise UserError(f"--columns: {task.name} has no {unknown[0]!r}; it has {', '.join(possible)}.")
    kind = Path(path.name.removesuffix(".gz")).suffix
    rows = []
    with _opened(path) as file:
        for number, record in _records(file, path, kind, columns, task):
            where = f"{path}, {'entry' if kind == '.json' else 'line'} {number}"
            rows.append(_row(record, task, columns, where, answered))
    if not rows:
        raise UserError(f"{path} holds no texts.")
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from None


def _records(
    file: TextIO, path: Path, kind: str, columns: Mapping[str, str], task: Task
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and content of each record; columns without a header are called "1", "2", …"""
    if kind == ".jsonl":
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}")
    elif kind == ".json":
        content = _parsed(file.read(), str(path))
        if isinstance(content, dict) and isinstance(content.get("data"), list):
            yield from enumerate(_squad(content["data"], path), 1)
        elif isinstance(content, list):
            for number, entry in enumerate(content, 1):
                yield number, _object(entry, f"{path}, entry {number}")
        else:
            raise UserError(f"{path}: a list of objects is needed, or SQuAD's {{'data': [...]}}.")
    elif kind in (".csv", ".tsv"):
        csv.field_size_limit(LONGEST_FIELD)
        # Quotes in .tsv files are text: SST-2 and Tatoeba have lone ones.
        reader = csv.reader(file) if kind == ".csv" else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        headless = bool(columns) and all(column.isdigit() for column in columns.values())
        header: list[str] | None = None
        try:
            for cells in reader:
                if not headless and header is None:
                    header = cells
                elif cells:
                    names = header or [str(i) for i in range(1, len(cells) + 1)]
                    yield reader.line_num, dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}.") from None
    else:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, {columns.get(task.inputs[0], task.inputs[0]): line.strip()}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}).") from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: an object is needed, such as {{'text': …, 'answer': …}}.")
    return value


def _squad(articles: list[Any], path: Path) -> Iterator[dict[str, Any]]:
    """Questions of SQuAD's form, which XQuAD, CMRC 2018 and DRCD share."""
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = [answer["text"] for answer in qa.get("answers", [])]
                    yield {"question": qa["question"], "context": paragraph["context"], "answer": answers}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not in SQuAD's form ({error!r}).") from None


def _row(record: Mapping[str, Any], task: Task, columns: Mapping[str, str], where: str, answered: bool) -> Row:
    values = {}
    for name in (*task.inputs, *task.optional):
        column = columns.get(name, name)
        if record.get(column) is not None:
            values[name] = _text(record[column], f"{where}, {column}")
        elif name in task.inputs or name in columns:
            has = ", ".join(str(key) for key in record)
            raise UserError(f"{where}: no {column!r}; it has {has}. Say which column it is: --columns {name}=…")
    column = columns.get("answer") or ("label" if "answer" not in record and task.chosen else "answer")
    given = record.get(column)
    several = given if isinstance(given, list) else [] if given is None else [given]
    answers = tuple(dict.fromkeys(_text(answer, f"{where}, {column}") for answer in several))
    if answered and not any(answers):
        raise UserError(f"{where}: no {column!r}, which says what is right; name its column: --columns answer=…")
    return Row(values, answers, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return whole(value).strip()
    if isinstance(value, (int, float)):
        return str(value)
    raise UserError(f"{where}: text is needed, not {type(value).__name__}.")


def whole(text: str) -> str:
    """The text with a question mark for each lone surrogate, which JSON and shells let through and UTF-8 does not."""
    return text.encode("utf-8", "replace").decode()


class Similar:
    """Finds the texts that are most like another: cosine of TF-IDF over character n-grams.

    It needs no words, so Chinese and English are alike. Weights are (1 + log tf) · idf with the smoothed
    idf = 1 + log((1 + N) / (1 + df)).
    """

    def __init__(self, texts: Sequence[str]):
        self.n = len(texts)
        counts = [_ngrams(text) for text in texts]
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for i, grams in enumerate(counts):
            for gram, count in grams.items():
                postings[gram].append((i, 1 + np.log(count)))
        self._idf = {gram: 1 + np.log((1 + self.n) / (1 + len(found))) for gram, found in postings.items()}
        self._postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        norms = np.zeros(self.n)
        for gram, found in postings.items():
            rows = np.array([row for row, _ in found])
            weights = np.array([weight for _, weight in found]) * self._idf[gram]
            norms[rows] += weights**2
            self._postings[gram] = (rows, weights)
        self._norms = np.sqrt(np.maximum(norms, 1e-12))

    def scores(self, text: str) -> np.ndarray:
        """Cosine with each text: float64 `[n]`, 0 to 1."""
        scores = np.zeros(self.n)
        square = 0.0
        unseen = 1 + np.log(1 + self.n)
        for gram, count in _ngrams(text).items():
            weight = (1 + np.log(count)) * self._idf.get(gram, unseen)
            square += weight**2
            if gram in self._postings:
                rows, weights = self._postings[gram]
                scores[rows] += weight * weights
        return scores / self._norms / max(square, 1e-12) ** 0.5

    def nearest(self, text: str, k: int) -> list[int]:
        """Indices of the `k` most similar texts, the nearest first; of equals the earlier one."""
        return np.argsort(-self.scores(text), kind="stable")[:k].tolist()


def _ngrams(text: str) -> Counter[str]:
    folded = f" {_SPACE.sub(' ', unicodedata.normalize('NFKC', text).casefold()).strip()} "
    return Counter(folded[i : i + n] for n in NGRAMS for i in range(len(folded) - n + 1) if folded[i : i + n] != " ")
