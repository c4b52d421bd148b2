"""Generation: prompts in, text out, whole or streamed, one or many at a time."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from wikigpt.adapt.files import Adapter, base_of, is_adapter
from wikigpt.adapt.switch import Switch, load_adapters
from wikigpt.chat.answering import Completion, Prompt, Prompts, Row
from wikigpt.chat.constraint import Constraint, Constraints
from wikigpt.chat.sampling import Sampling, choose_token
from wikigpt.errors import UserError
from wikigpt.model import FAMILIES, Cache, Transformer, load_model
from wikigpt.model.cpu import Decoding
from wikigpt.model.rounding import round_in_place
from wikigpt.tokens import encode_texts, load_tokenizer

BATCH_ROWS = 64  # prompts generated together; beyond this the cache of a small model leaves the CPU's
SCORED_TOKENS = 16_384  # of prompts and continuations scored together: 0.8 GB of keys and values in SmolLM2-135M


@dataclass
class _Row(Row):
    """What the choice of its tokens needs."""

    generator: torch.Generator = field(default_factory=torch.Generator)
    constraint: Constraint | None = None

    @property
    def seen(self) -> list[int]:
        """Tokens that a repetition penalty falls on."""
        return [] if self.sampling.repetition_penalty == 1.0 else self.prompt + self.ids

    def take(self, token: int, logprob: float) -> None:
        """Append a token."""
        super().take(token, logprob)
        if self.constraint:
            self.constraint.take(token)


class Engine:
    """Generates text with a model and its tokenizer. Not safe for use from two threads at once.

    A prompt is a text to go on from, or a list of messages to be answered.

    Args:
        adapters: changes of the model by name; the first one is in use from the start.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, adapters: Mapping[str, Adapter] | None = None):
        if not FAMILIES[model.config.family].causal:
            raise UserError(
                f"this is a {model.config.family} model, which fills masks (`wikigpt fill-mask`) and cannot go on "
                "with a text."
            )
        self.model, self.tokenizer = model.eval(), tokenizer
        self.prompts = Prompts(tokenizer)
        self.context_length = model.config.context_length
        self._switch = Switch(self.model, adapters or {})
        if adapters:
            self.use(next(iter(adapters)))

    @classmethod
    def from_folder(cls, folder: Path, adapters: Sequence[Path] = (), *, int8: bool = False) -> "Engine":
        """Load a model folder (see `wikigpt.model.load_model`), or an adapter's over the base that it names.

        Args:
            adapters: folders of more adapters.
            int8: keep matrices rounded to 8 bits (see `wikigpt.model.rounding`): a quarter of the memory, and as much
                faster where memory is what a model waits for.

        Raises:
            UserError: the folder is damaged; or there are adapters, which change weights that are not rounded.
        """
        if is_adapter(folder):
            folder, adapters = base_of(folder), [folder, *adapters]
        if int8 and adapters:
            raise UserError("adapters change weights that are not rounded; leave out either them or int8.")
        model = load_model(folder)
        if int8:
            round_in_place(model)
        return cls(model, load_tokenizer(folder), load_adapters(folder, [*adapters]))

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters there are."""
        return [*self._switch.adapters]

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in use."""
        return self._switch.name

    def use(self, adapter: str | None) -> None:
        """Use an adapter by its name from here on; None: the base alone. Raises `UserError` where there is none."""
        self._switch.use(adapter)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, as the model sees it."""
        return [*self._switch.virtual_tokens, *self.prompts.encode(prompt)]

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt in tokens."""
        return len(self.encode(prompt))

    def generate(
        self, prompts: Sequence[Prompt], *, seeds: Sequence[int] | None = None, **settings: Any
    ) -> list[Completion]:
        """Answer each prompt; prompts of similar length are computed together.

        Args:
            seeds: one for each prompt; a single `seed` would throw the same dice for all.
            settings: fields of `Sampling`.

        Raises:
            UserError: a prompt leaves no room in the context, or a setting is out of range.
        """
        own = [settings if seeds is None else {**settings, "seed": seeds[i]} for i in range(len(prompts))]
        rows = [self._row(self.encode(prompt), given) for prompt, given in zip(prompts, own, strict=True)]
        by_length = sorted(rows, key=lambda row: len(row.prompt))
        for i in range(0, len(by_length), BATCH_ROWS):
            for _ in self._decode(by_length[i : i + BATCH_ROWS]):
                pass
        return [row.completion for row in rows]

    def stream(self, prompt: Prompt, **settings: Any) -> Iterator[str]:
        """Answer a prompt piece by piece, whole characters only; closing the iterator stops the model.

        Takes and raises what `generate` does.
        """
        row = self._row(self.encode(prompt), settings)
        given = 0
        for _ in self._decode([row]):
            if row.safe_length > given:
                yield row.text[given : row.safe_length]
                given = row.safe_length

    def score(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]], *, ended: bool = False
    ) -> list[list[float]]:
        """How likely each continuation is after its prompt: the sum of its tokens' log-probabilities, in nats.

        A prompt is computed once for all its continuations. They are encoded apart from it, so that a token never
        spans both; after messages, a continuation is what the assistant would say.

        Args:
            continuations: for each prompt, the texts to score.
            ended: count the token, too, that ends an answer; where one continuation begins another, this alone
                makes them comparable.

        Raises:
            UserError: a continuation is empty, or does not fit into the context with its prompt.
        """
        jobs: list[tuple[int, list[int], list[list[int]]]] = []
        for i, (prompt, texts) in enumerate(zip(prompts, continuations, strict=True)):
            ids = self.encode(prompt)
            end = ([self.prompts.chat.im_end] if not isinstance(prompt, str) else self.prompts.start) if ended else []
            tails = [[*tail, *end] for tail in encode_texts(self.tokenizer, list(texts))]
            if not ids or not all(texts):
                raise UserError("there is nothing to score: a prompt or a continuation is empty.")
            if tails and len(ids) + max(map(len, tails)) > self.context_length:
                raise UserError(
                    f"the prompt has {len(ids)} tokens and its longest continuation {max(map(len, tails))}, but this "
                    f"model's context holds {self.context_length}; shorten them."
                )
            jobs.append((i, ids, tails))
        scores: list[list[float]] = [[] for _ in jobs]
        jobs = sorted((job for job in jobs if job[2]), key=lambda job: len(job[1]))
        while jobs:
            # Sorted, the last of a batch is the longest: its length is what each row of the batch takes.
            most, cells = 0, 0
            for n, (_, ids, tails) in enumerate(jobs, 1):
                cells = max(cells, len(tails) * (len(ids) + max(map(len, tails))))
                if n > 1 and n * cells > SCORED_TOKENS:
                    break
                most = n
            batch, jobs = jobs[:most], jobs[most:]
            for (i, _, _), row in zip(batch, self._score([(ids, tails) for _, ids, tails in batch]), strict=True):
                scores[i] = row
        return scores

    @torch.inference_mode()
    def _score(self, rows: list[tuple[list[int], list[list[int]]]]) -> list[list[float]]:
        """Log-probabilities of each row's continuations: one pass over the prompts, one over the continuations."""
        width = max(len(prompt) for prompt, _ in rows)
        tails = [tail for _, tails in rows for tail in tails]
        longest = max(map(len, tails))
        padding = torch.tensor([width - len(prompt) for prompt, _ in rows])
        cache = Cache(self.model.config, padding, width + longest - 1, self.model.model.stream_dtype)
        inputs = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in rows])
        last = self.model.model(inputs, cache=cache)[:, -1:]
        owners = torch.tensor([i for i, (_, tails) in enumerate(rows) for _ in tails])
        # Padding stands on the right here: what follows a token cannot change it.
        targets = torch.tensor([tail + [0] * (longest - len(tail)) for tail in tails])
        hidden = last[owners]
        if longest > 1:
            cache.keep(owners)
            hidden = torch.cat([hidden, self.model.model(targets[:, :-1], cache=cache)], 1)
        sums = []
        for states, target, tail in zip(hidden, targets, tails, strict=True):  # by row: the vocabulary is wide
            logprobs = self.model.lm_head(states[: len(tail)]).float().log_softmax(-1)
            sums.append(float(logprobs.gather(1, target[: len(tail), None]).sum()))
        taken = iter(sums)
        return [[next(taken) for _ in tails] for _, tails in rows]

    def _row(self, prompt: list[int], settings: dict[str, Any]) -> "_Row":
        row = _Row(self.prompts, prompt, Sampling.checked(**settings), self.context_length)
        row.generator.manual_seed(random.getrandbits(63) if row.sampling.seed is None else row.sampling.seed)
        if row.sampling.form:
            row.constraint = self._constraints.constraint(row.sampling)
        return row

    @cached_property
    def _constraints(self) -> Constraints:
        return Constraints(self.tokenizer, self.model.lm_head.weight.shape[0], self.prompts.end_tokens)

    @torch.inference_mode()
    def _decode(self, rows: list[_Row]) -> Iterator[None]:
        """Extend all rows token by token until each has finished; yields after every step."""
        if not rows:
            return
        width = max(len(row.prompt) for row in rows)
        longest = width + max(row.sampling.max_new_tokens for row in rows)
        padding = torch.tensor([width - len(row.prompt) for row in rows])
        cache = Cache(self.model.config, padding, longest, self.model.model.stream_dtype)
        inputs = torch.tensor([[0] * (width - len(row.prompt)) + row.prompt for row in rows])
        decoding = Decoding.of(self.model, longest)
        while rows:
            if decoding and cache.length:
                logits = decoding.step(inputs[:, 0], cache)
            else:
                logits = self.model.lm_head(self.model.model(inputs, cache=cache)[:, -1]).float()
            logprobs = logits.log_softmax(-1)
            for row, row_logits, row_logprobs in zip(rows, logits, logprobs, strict=True):
                allowed = row.constraint.masked(row_logits) if row.constraint else row_logits
                token = choose_token(allowed, row.seen, row.sampling, row.generator)
                row.take(token, float(row_logprobs[token]))
            yield
            going = [i for i, row in enumerate(rows) if not row.finish_reason]
            if len(going) < len(rows):
                cache.keep(torch.tensor(going, dtype=torch.long))
                rows = [rows[i] for i in going]
            inputs = torch.tensor([[row.ids[-1]] for row in rows])
