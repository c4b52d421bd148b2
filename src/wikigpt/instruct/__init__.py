"""Conversations made from the wiki itself, and the questions that test what was learnt; those of other people's files.

    from wikigpt.instruct import InstructSettings, build_conversations, make_conversations
    from wikigpt.instruct import check_file, read_conversations, read_pairs

Importing this package loads neither torch nor pyarrow, and of its own modules only the settings.
"""

from typing import TYPE_CHECKING

from wikigpt.instruct.settings import Extra, InstructSettings, Share
from wikigpt.lazy import lazy

if TYPE_CHECKING:
    from wikigpt.instruct.build import Made, build_conversations, make_conversations
    from wikigpt.instruct.foreign import CheckReport, check_file, read_conversations, read_pairs
    from wikigpt.instruct.relations import Catalogue, Fact, Relation, catalogue

__all__ = [
    "Catalogue",
    "CheckReport",
    "Extra",
    "Fact",
    "InstructSettings",
    "Made",
    "Relation",
    "Share",
    "build_conversations",
    "catalogue",
    "check_file",
    "make_conversations",
    "read_conversations",
    "read_pairs",
]
__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("Made", "build_conversations", "make_conversations"), "build"),
        **dict.fromkeys(("CheckReport", "check_file", "read_conversations", "read_pairs"), "foreign"),
        **dict.fromkeys(("Catalogue", "Fact", "Relation", "catalogue"), "relations"),
    },
)
