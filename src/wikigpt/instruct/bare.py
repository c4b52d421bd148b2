"""Conversations in a language that has no phrasings of its own: questions of names and keys alone.

"Париж?" is answered with the first sentence of its article, "Париж: население?" with the infobox's value. That
is how one types into a search box in any language, and needs no word that the wiki itself does not supply.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from wikigpt.corpus.document import Document
from wikigpt.corpus.sentences import split_sentences

# {title} and {key} are the article's and the infobox's own words.
DEFINITION = ("{title}?", "{title}", "{title}: ?")
FACT = ("{title}: {key}?", "{title} – {key}?", "{title}, {key}")
HELD_OUT_FACT = ("{key} ({title})?", "{key}: {title}")
LONGEST_ANSWER, LONGEST_VALUE, LONGEST_KEY = 300, 60, 30


@dataclass
class BareMaker:
    """Collects one language's documents, then makes its conversations and questions."""

    lang: str
    documents: list[Document] = field(default_factory=list)

    def training(self) -> Iterator[dict[str, Any]]:
        """Definitions and infobox facts of training articles, each in every form."""
        for document in self._of("train"):
            if sentence := first_sentence(document):
                for form in DEFINITION:
                    yield self._conversation("definition", document, form.format(title=document.title), sentence)
            for key, value in facts(document):
                for form in FACT:
                    question = form.format(title=document.title, key=key)
                    yield self._conversation("fact", document, question, f"**{value}**")

    def measuring(self) -> Iterator[dict[str, Any]]:
        """Facts of held-out articles, for the held-out loss."""
        for document in self._of("validation"):
            for key, value in facts(document):
                yield self._conversation(
                    "fact", document, FACT[0].format(title=document.title, key=key), f"**{value}**"
                )

    def questions(self, most: int, rng: Random) -> Iterator[dict[str, Any]]:
        """At most `most` evaluation questions each from memory and on held-out articles, in forms never taught."""
        for task, split in (("closed_book", "train"), ("grounded", "validation")):
            able = [(document, *fact) for document in self._of(split) for fact in facts(document)]
            for document, key, value in rng.sample(able, min(most, len(able))):
                yield {
                    "task": task,
                    "lang": self.lang,
                    "question": rng.choice(HELD_OUT_FACT).format(title=document.title, key=key),
                    "answers": [value],
                    "relation": key,
                    "title": document.title,
                    "id": document.id,
                    "core": task == "closed_book",
                }

    def _of(self, split: str) -> Iterable[Document]:
        return (document for document in self.documents if document.split == split)

    def _conversation(self, task: str, document: Document, question: str, answer: str) -> dict[str, Any]:
        source = {"title": document.title, "id": document.id, "url": document.url, "revision": document.revision}
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {"messages": messages, "task": task, "lang": self.lang, "sources": [source]}


def first_sentence(document: Document) -> str:
    """The first sentence of the lead; "" where there is none of a sensible length."""
    lines = [line for line in document.text.split("\n") if line.strip()]
    if not lines or lines[0].startswith(("#", "- ")):
        return ""
    sentence = split_sentences(lines[0], document.lang)[0]
    return sentence if 15 <= len(sentence) <= LONGEST_ANSWER else ""


def facts(document: Document) -> list[tuple[str, str]]:
    """Infobox pairs short enough to be asked for and said."""
    return [
        (key.replace("_", " ").strip(), value)
        for key, value in document.facts
        if "\n" not in value and 0 < len(value) <= LONGEST_VALUE and 0 < len(key) <= LONGEST_KEY
    ]
