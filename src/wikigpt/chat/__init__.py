"""Talking with a model: generation, conversations grounded in the wiki, the terminal.

    from wikigpt.chat import ChatSession, Engine

Importing this package is cheap: torch is loaded with the engine, when that is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wikigpt.chat.answering import Completion
    from wikigpt.chat.engine import Engine
    from wikigpt.chat.session import Answer, ChatSession
    from wikigpt.chat.terminal import ask_once, run_terminal

_HOMES = {
    "Answer": "session",
    "ChatSession": "session",
    "Completion": "answering",
    "Engine": "engine",
    "ask_once": "terminal",
    "run_terminal": "terminal",
}

__all__ = ["Answer", "ChatSession", "Completion", "Engine", "ask_once", "run_terminal"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"wikigpt.chat.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
