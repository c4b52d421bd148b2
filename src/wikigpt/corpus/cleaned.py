"""What cleaning a shard depends on, and what comes of it; who hands shards out need not load more."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EXAMPLES = 3  # of each kind of left-over markup, per shard
SAMPLES = 8  # articles shown before and after cleaning
PAGE_SECONDS = 60.0

Privacy = Literal["placeholder", "pseudonym"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What cleaning a page depends on; `build_corpus` explains each."""

    lang: str | None = None
    variant: str | None = "zh-hans"
    min_chars: int = 100
    validation_fraction: float = 0.05
    keep_references: bool = False
    keep_tables: bool = False
    keep_dropped: bool = False
    skip_damaged: bool = False
    near_duplicates: float | None = None
    privacy: Privacy | None = None
    templates: Mapping[str, str] = field(default_factory=dict)
    page_seconds: float = PAGE_SECONDS


@dataclass(slots=True)
class Cleaned:
    """A finished shard: Arrow tables or the files that hold them, and the counts that go into the manifest."""

    documents: Any  # the corpus's columns, `page` (the title in the wiki), `length`, `checksum` and `sketch`
    dropped: Any  # documents that were left out, if they are to be kept aside, else None
    facts: dict[str, Any]


def join(first: Cleaned, second: Cleaned) -> Cleaned:
    """Two pieces of a shard as one."""
    import pyarrow as pa

    facts = dict(first.facts)
    for name, value in second.facts.items():
        if isinstance(value, dict) and name != "left_overs":
            facts[name] = dict(Counter(facts[name]) + Counter(value))
        elif name == "left_overs":
            facts[name] = merge_left_overs(facts[name], value)
        elif name == "possible":
            facts[name] = facts[name] + [_moved(entry, first.facts["documents"]) for entry in value]
        else:
            facts[name] = facts[name] + value
    dropped = [side.dropped for side in (first, second) if side.dropped is not None]
    documents = pa.concat_tables([first.documents, second.documents])
    return Cleaned(documents, pa.concat_tables(dropped) if dropped else None, facts)


def _moved(entry: dict[str, Any], by: int) -> dict[str, Any]:
    return entry if entry["document"] is None else {**entry, "document": entry["document"] + by}


def merge_left_overs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Counts of left-over markup added up, with the first examples of each kind."""
    merged = {}
    for mark in dict.fromkeys((*first, *second)):
        a, b = (side.get(mark, {"documents": 0, "examples": []}) for side in (first, second))
        examples = (a["examples"] + b["examples"])[:EXAMPLES]
        merged[mark] = {"documents": a["documents"] + b["documents"], "examples": examples}
    return merged
