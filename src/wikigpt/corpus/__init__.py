"""From a wiki dump to clean documents.

    from wikigpt.corpus import build_corpus, clean_wikitext, read_corpus

Importing this package is cheap: what is used is loaded when it is.
"""

from typing import TYPE_CHECKING

from wikigpt.lazy import lazy

if TYPE_CHECKING:
    from wikigpt.corpus.build import build_corpus
    from wikigpt.corpus.document import Document, facts_as_text
    from wikigpt.corpus.sentences import split_sentences
    from wikigpt.corpus.wikitext import Article, clean_wikitext, read_wikitext
    from wikigpt.corpus.write import corpus_manifest, read_corpus

__all__ = [
    "Article",
    "Document",
    "build_corpus",
    "clean_wikitext",
    "corpus_manifest",
    "facts_as_text",
    "read_corpus",
    "read_wikitext",
    "split_sentences",
]
__getattr__ = lazy(
    __name__,
    {
        "build_corpus": "build",
        **dict.fromkeys(("Document", "facts_as_text"), "document"),
        "split_sentences": "sentences",
        **dict.fromkeys(("Article", "clean_wikitext", "read_wikitext"), "wikitext"),
        **dict.fromkeys(("corpus_manifest", "read_corpus"), "write"),
    },
)
