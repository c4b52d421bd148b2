"""llama.cpp as the backend: the model as a GGUF file, computed by the package `xllamacpp`.

Prompts go over as token ids, so that a model reads the same as with `wikigpt.chat.engine.Engine`. The server inside the
package keeps the keys and values of what it read last: a conversation's next question is computed from where it parts
from the last one.
"""

import queue
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from wikigpt.artifacts import cache_folder, fingerprint
from wikigpt.chat.answering import Completion, Prompt, Prompts, Row
from wikigpt.chat.constraint import grammar
from wikigpt.chat.sampling import Sampling
from wikigpt.errors import UserError
from wikigpt.export.gguf import WeightType, write_gguf
from wikigpt.model.hub import load_config, load_model
from wikigpt.tokens import load_tokenizer

CACHED_TOKENS = 16_384  # of all conversations together: 0.4 GB of keys and values in SmolLM2-135M
MOST_AT_ONCE = 8
SMALL = 50_000_000  # weights
SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]  # transformers' order


class LlamaCppEngine:
    """Generates text as `Engine` does; without adapters, and without scores of given texts.

    Args:
        file: the model's GGUF file.
        threads: of computing; None: llama.cpp's own choice.
    """

    adapters: Sequence[str] = ()
    adapter: str | None = None

    def __init__(self, file: Path, tokenizer: Tokenizer, context_length: int, *, threads: int | None = None) -> None:
        library = _package()
        self.tokenizer, self.context_length = tokenizer, context_length
        self.prompts = Prompts(tokenizer)
        self.at_once = max(1, min(MOST_AT_ONCE, CACHED_TOKENS // context_length))
        params = library.CommonParams()
        params.model.path = str(file)
        params.n_parallel = self.at_once
        params.n_ctx = self.at_once * context_length
        params.warmup = False
        params.verbosity = -1
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        try:
            self._server = library.Server(params)
        except RuntimeError as error:
            raise UserError(f"llama.cpp cannot load {file}: {error}. Use --backend torch.") from None

    @classmethod
    def from_folder(
        cls, folder: Path, *, weights: WeightType | None = None, threads: int | None = None
    ) -> "LlamaCppEngine":
        """Load a model folder by way of a GGUF file, which is kept in the user's cache folder.

        Args:
            weights: of the file; None: fp16 for a small model, which rounding to 8 bits would win little, else those.

        Raises:
            UserError: the package is missing, or llama.cpp has no such family or tokenizer.
        """
        _package()
        tokenizer, config = load_tokenizer(folder), load_config(folder)
        weights = weights or ("f16" if config.n_parameters < SMALL else "q8_0")
        files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
        path = cache_folder("gguf") / f"{fingerprint(str(folder.resolve()), files)}.{weights}.gguf"
        if not path.is_file():
            write_gguf(load_model(folder), tokenizer, path, weights=weights)
        return cls(path, tokenizer, config.context_length, threads=threads)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, as the model sees it."""
        return self.prompts.encode(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt in tokens."""
        return len(self.encode(prompt))

    def use(self, adapter: str | None) -> None:
        """Raise `UserError` for any adapter: this backend has none."""
        if adapter is not None:
            raise UserError(f"there is no adapter {adapter!r}: with llama.cpp there are none. Use --backend torch.")

    def generate(
        self, prompts: Sequence[Prompt], *, seeds: Sequence[int] | None = None, **settings: Any
    ) -> list[Completion]:
        """Answer each prompt, several at a time; takes and raises what `Engine.generate` does."""
        own = [settings if seeds is None else {**settings, "seed": seeds[i]} for i in range(len(prompts))]
        rows = [self._row(prompt, given) for prompt, given in zip(prompts, own, strict=True)]
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self._answer, rows))

    def stream(self, prompt: Prompt, **settings: Any) -> Iterator[str]:
        """Answer a prompt piece by piece, whole characters only; closing the iterator stops the model.

        Takes and raises what `generate` does.
        """
        request = self._request(self._row(prompt, settings)) | {"stream": True}
        news: queue.Queue[str | Exception | None] = queue.Queue()
        gone = threading.Event()

        def heard(chunk: dict[str, Any]) -> bool:
            news.put("".join(choice["text"] for choice in _choices(chunk)))
            return gone.is_set()

        def work() -> None:
            try:
                self._server.handle_completions(request, heard)
                news.put(None)
            except Exception as error:  # whatever it is, it belongs to who reads the stream
                news.put(error)

        thread = threading.Thread(target=work, name="llama.cpp", daemon=True)
        thread.start()
        try:
            while (piece := news.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                if piece:
                    yield piece
        finally:
            gone.set()
            thread.join()

    def _row(self, prompt: Prompt, settings: dict[str, Any]) -> Row:
        return Row(self.prompts, self.encode(prompt), Sampling.checked(**settings), self.context_length)

    def _answer(self, row: Row) -> Completion:
        (choice,) = _choices(self._server.handle_completions(self._request(row)))
        tokens = (choice["logprobs"] or {"content": ()})["content"]
        logprobs = [token["logprob"] for token in tokens]
        return Completion(choice["text"], logprobs, choice["finish_reason"], len(row.prompt))

    def _request(self, row: Row) -> dict[str, Any]:
        sampling = row.sampling
        seed = random.getrandbits(32) if sampling.seed is None else sampling.seed
        request: dict[str, Any] = {
            "prompt": row.prompt,
            "max_tokens": row.most,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repetition_penalty,
            "repeat_last_n": self.context_length,
            "samplers": SAMPLERS,
            "seed": seed % (2**32 - 1),  # whose last number asks for any
            "stop": list(sampling.stop),
            "logprobs": 1,
            "cache_prompt": True,
        }
        if sampling.form:
            request["grammar"] = "%llguidance {}\n" + grammar(sampling)
        return request


def _choices(reply: dict[str, Any]) -> list[dict[str, Any]]:
    if "error" in reply:
        raise UserError(f"llama.cpp: {reply['error']['message']}")
    return reply["choices"]


def is_installed() -> bool:
    """Whether the package is there."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def _package() -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise UserError("the backend llama.cpp needs the package xllamacpp; pip install 'wikigpt[fast]'.") from None
    return xllamacpp
