"""Fact tables and kinds of the sample wiki, read from `facts/KIND.tsv` and `kinds/KIND.toml`.

The format of both files is described at the top of `compose.py`.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

LANGS = ("zh", "en")
T = TypeVar("T")

_PARENTHESIS = re.compile(r" ?[(（][^()（）]*[)）]$")


def draw(seed: str, n: int) -> int:
    """A number in [0, n) that depends on `seed` alone, never on the order of generation."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big") % n


def choose(seed: str, options: Sequence[T]) -> T:
    """One of `options`, chosen by `seed` alone."""
    return options[draw(seed, len(options))]


def base_name(title: str) -> str:
    """A title without its parenthesis: `Mercury (planet)` -> `Mercury`."""
    return _PARENTHESIS.sub("", title)


def first_upper(text: str) -> str:
    """`text` with its first letter in upper case, as MediaWiki writes titles."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a fact table: the facts of one article, in both languages."""

    kind: str
    key: str
    row: dict[str, str]

    @property
    def id(self) -> str:
        """`KIND/KEY`: unique, and the seed of every choice made for this article."""
        return f"{self.kind}/{self.key}"

    def has(self, column: str, lang: str) -> bool:
        return f"{column}_{lang}" in self.row or column in self.row

    def get(self, column: str, lang: str) -> str:
        """The cell of `column_LANG` if the table has that column, else of `column`."""
        return self.row[name] if (name := f"{column}_{lang}") in self.row else self.row[column]

    def title(self, lang: str) -> str:
        return self.row[f"title_{lang}"]

    def name(self, lang: str) -> str:
        return base_name(self.title(lang))

    def noun(self, lang: str) -> str:
        """The name as running text writes it: `lion`, `the Netherlands`."""
        return self.row.get(f"noun_{lang}") or self.name(lang)

    def aliases(self, lang: str) -> list[str]:
        """Other names, which become redirects."""
        names = self.row.get(f"aliases_{lang}", "").split("|")
        if lang == "zh":
            names.append(self.row.get("title_zh_hant", ""))
        return [name for name in names if name]


@dataclass(frozen=True, slots=True)
class Group:
    """One fact in several phrasings."""

    say: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A paragraph; without a heading it continues the one before."""

    groups: tuple[Group, ...]
    heading: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A bulleted list of the entries of another kind that name this article in column `where`."""

    kind: str
    where: str
    heading: tuple[str, ...]
    intro: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edition:
    """How a kind is written in one language."""

    infobox: str
    label: str
    fields: tuple[tuple[str, str], ...]
    lead: Section
    sections: tuple[Section, ...] = ()
    listings: tuple[Listing, ...] = ()
    categories: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    see_also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of article (country, element, …): its facts, their origin, and how they are told."""

    name: str
    source: str
    licence: str
    source_url: str
    editions: dict[str, Edition]
    entries: tuple[Entry, ...] = field(repr=False, default=())


def read_kinds() -> list[Kind]:
    """All kinds of the package, by name.

    Raises:
        ValueError: a table or kind file breaks the format; the message names the file.
    """
    folder = files("wikigpt.sample")
    kinds = sorted((f for f in (folder / "kinds").iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return [_read_kind(file, folder / "facts" / f"{file.name.removesuffix('.toml')}.tsv") for file in kinds]


def _read_kind(file: Traversable, table: Traversable) -> Kind:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        name = data.pop("name")
        return Kind(
            name=name,
            source=data.pop("source"),
            licence=data.pop("licence"),
            source_url=data.pop("source_url", "https://sample.wikigpt.org/facts/" + name),
            editions={lang: _read_edition(name, data.pop(lang)) for lang in LANGS},
            entries=tuple(_read_table(name, table)),
            **data,  # nothing may be left over: a mistyped key is an error
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.name}: {type(error).__name__}: {error}") from error


def _read_edition(kind: str, data: dict[str, Any]) -> Edition:
    fields = [line.partition(" = ") for line in data.pop("fields")]
    return Edition(
        infobox=data.pop("infobox"),
        label=data.pop("label", kind),
        fields=tuple((key.strip(), value) for key, _, value in fields),
        lead=Section(_read_groups(data.pop("lead"))),
        sections=tuple(
            Section(_read_groups(section.pop("sentences")), tuple(section.pop("heading", ())), **section)
            for section in data.pop("section", ())
        ),
        listings=tuple(
            Listing(heading=tuple(listing.pop("heading")), intro=tuple(listing.pop("intro")), **listing)
            for listing in data.pop("listing", ())
        ),
        **{key: tuple(value) for key, value in data.items()},
    )


def _read_groups(groups: list[Any]) -> tuple[Group, ...]:
    return tuple(
        Group(tuple(group["say"]), tuple(group.get("needs", ()))) if isinstance(group, dict) else Group(tuple(group))
        for group in groups
    )


def _read_table(kind: str, table: Traversable) -> Iterator[Entry]:
    lines = table.read_text(encoding="utf-8").rstrip("\n").split("\n")
    columns = lines[0].split("\t")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ValueError(f"{table.name} line {number}: {len(cells)} cells, {len(columns)} columns")
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        if not (row["key"] and row["title_en"] and row["title_zh"]):
            raise ValueError(f"{table.name} line {number}: key, title_en and title_zh must not be empty")
        yield Entry(kind, row["key"], row)
