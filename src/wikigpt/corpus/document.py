"""What the corpus is made of: one `Document` per article."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CJK_LANGUAGES = frozenset({"zh", "ja", "yue", "wuu", "gan", "lzh", "zh-classical", "zh-yue"})


@dataclass(frozen=True, slots=True)
class Document:
    """One article as plain text, with what is known about it.

    `text` holds the lead first, paragraphs separated by an empty line, headings as `## Heading` lines and
    list items as `- item` lines; the title is not repeated in it. `facts` are the infobox's pairs in its
    order, `aliases` the titles of redirects, `langlinks` pairs of language code and title.
    """

    id: str
    revision: str
    url: str
    title: str
    text: str
    lang: str
    categories: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    langlinks: tuple[tuple[str, str], ...] = ()
    split: str = "train"


def facts_as_text(facts: Iterable[Sequence[str]], lang: str) -> str:
    """Write infobox facts as lines `key: value` (`key：value` in Chinese and Japanese)."""
    colon = "：" if lang in CJK_LANGUAGES else ": "
    return "\n".join(f"{key.replace('_', ' ')}{colon}{value}" for key, value in facts)


def split_of(lang: str, title: str, langlinks: Iterable[tuple[str, str]], fraction: float) -> str:
    """Say whether an article belongs to "train" or "validation".

    The choice depends on the article alone and is the same for its versions in other languages (as far as
    they link to each other), so that no fact is trained on in one language and tested in another.
    """
    key = min([f"{lang}:{title}", *(f"{code}:{name}" for code, name in langlinks)])
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") / 2**64 < fraction else "train"
