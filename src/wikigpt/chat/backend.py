"""What a chat asks of whatever computes its model, and the choice between those that can."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from wikigpt.adapt.files import is_adapter
from wikigpt.chat.answering import Completion, Prompt
from wikigpt.chat.engine import Engine
from wikigpt.chat.llama_cpp import LlamaCppEngine, is_installed
from wikigpt.errors import UserError
from wikigpt.export.gguf import check_writable, pre_tokenizer_name
from wikigpt.model.cpu import available
from wikigpt.model.hub import load_config
from wikigpt.tokens import load_tokenizer

BackendName = Literal["auto", "torch", "llama.cpp"]


class Backend(Protocol):
    """A model that answers: `Engine` (torch, the reference) or `LlamaCppEngine`."""

    context_length: int

    @property
    def adapters(self) -> Sequence[str]:
        """Names of the adapters there are."""

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in use."""

    def use(self, adapter: str | None) -> None:
        """Use an adapter by its name from here on; None: the base alone."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt in tokens."""

    def generate(
        self, prompts: Sequence[Prompt], *, seeds: Sequence[int] | None = None, **settings: Any
    ) -> list[Completion]:
        """Answer each prompt."""

    def stream(self, prompt: Prompt, **settings: Any) -> Iterator[str]:
        """Answer a prompt piece by piece."""


def open_backend(folder: Path, adapters: Sequence[Path] = (), *, name: BackendName = "auto") -> Backend:
    """Load a model or adapter folder.

    By itself llama.cpp is taken where it is installed and can run the model, and torch has no operators of ours: with
    them torch is the faster; on two threads by a third for SmolLM2-135M, by far for Wiki-GPT mini (benchmarks).

    Raises:
        UserError: the folder is damaged, or the backend asked for cannot run it.
    """
    adapted = bool(adapters) or is_adapter(folder)
    if name == "llama.cpp":
        if adapted:
            raise UserError(
                "with llama.cpp there are no adapters; train with --merge for a whole model, or use --backend torch."
            )
        return LlamaCppEngine.from_folder(folder)
    if name == "auto" and not (adapted or available()) and is_installed() and _is_writable(folder):
        return LlamaCppEngine.from_folder(folder)
    return Engine.from_folder(folder, adapters)


def _is_writable(folder: Path) -> bool:
    try:
        check_writable(load_config(folder))
        pre_tokenizer_name(load_tokenizer(folder))
    except UserError:
        return False
    return True
