"""Conversations made from the wiki itself, and the questions that test what was learnt.

    from wikigpt.instruct import InstructSettings, build_conversations, make_conversations

Importing this package loads neither torch nor pyarrow, and of its own modules only the settings.
"""

from typing import TYPE_CHECKING

from wikigpt.instruct.settings import InstructSettings, Share
from wikigpt.lazy import lazy

if TYPE_CHECKING:
    from wikigpt.instruct.build import Made, build_conversations, make_conversations
    from wikigpt.instruct.relations import Catalogue, Fact, Relation, catalogue

__all__ = [
    "Catalogue",
    "Fact",
    "InstructSettings",
    "Made",
    "Relation",
    "Share",
    "build_conversations",
    "catalogue",
    "make_conversations",
]
__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("Made", "build_conversations", "make_conversations"), "build"),
        **dict.fromkeys(("Catalogue", "Fact", "Relation", "catalogue"), "relations"),
    },
)
