"""What the index can be told."""

from pydantic import BaseModel, ConfigDict, Field


class KnowledgeSettings(BaseModel):
    """Settings of the search index."""

    model_config = ConfigDict(extra="forbid")

    embeddings: str = ""
    """Folder of an embedding model, as sentence-transformers writes it, to search by meaning, too; empty: none."""
    passage_bytes: int = Field(default=480, ge=80, le=20_000)
    """Length of a passage in bytes of UTF-8: about 480 English letters or 160 Chinese characters."""
