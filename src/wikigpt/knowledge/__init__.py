"""The search index over a wiki: passages, names, and the sentence that answers a question.

    from wikigpt.knowledge import Index, build_index

Importing this package loads neither torch nor pyarrow.
"""

from wikigpt.knowledge.build import build_index, index_documents
from wikigpt.knowledge.index import Hit, Index
from wikigpt.knowledge.settings import KnowledgeSettings

__all__ = ["Hit", "Index", "KnowledgeSettings", "build_index", "index_documents"]
