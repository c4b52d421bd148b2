"""Conversations made from the wiki itself, and the questions that test what was learnt.

    from wikigpt.instruct import InstructSettings, build_conversations, make_conversations

Importing this package loads neither torch nor pyarrow.
"""

from wikigpt.instruct.build import Made, build_conversations, make_conversations
from wikigpt.instruct.relations import Catalogue, Fact, Relation, catalogue
from wikigpt.instruct.settings import InstructSettings, Share

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
