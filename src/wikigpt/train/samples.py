"""What a model makes of a few fixed prompts, looked at again and again while it trains."""

import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from wikigpt.errors import UserError
from wikigpt.model import FAMILIES, Cache, Transformer
from wikigpt.model.fill_mask import encode_masked, mask_token_id
from wikigpt.tokens import ChatFormat, Shard, encode_texts
from wikigpt.tokens.tokenizer import END_OF_TEXT, IM_END, IM_START

PROMPTS = 4  # taken from the held-out splits, in turn
PROMPT_TOKENS = 16  # of a text's beginning, and 24 of a line with masks
NEW_TOKENS = 40
QUESTION_TOKENS = 64  # a conversation with a longer beginning, such as one with passages in it, is not shown
MASKED_LINE, MASK_EVERY = 24, 6
SHARE = 0.02  # of a run's time, at most, goes into samples while it trains

Sample = dict[str, str]


@dataclass(frozen=True)
class Prompt:
    """Tokens to go on from (or to fill the masks of), and what really follows, where that is known."""

    ids: list[int]
    shown: str
    expected: str = ""
    split: str = ""


class Sampler:
    """Completes a few prompts, always by the likeliest token.

    A run's losses are bit for bit those of a run without samples: no random number is drawn and no weight touched;
    and what is compiled stays so, since it is passed by rather than called with other shapes.

    Args:
        shards: as in `train`; where they hold conversations, a text is a question to be answered.
        texts: prompts; None: the beginnings of the first held-out documents.

    Raises:
        UserError: a text is too long for the model, or has no mask for one that fills masks.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, shards: Mapping[str, Shard], texts: Sequence[str] | None = None
    ):
        self.model, self.tokenizer = model, tokenizer
        self.context_length = model.config.context_length
        self.causal = FAMILIES[model.config.family].causal
        self.chat = self.causal and shards["train"].mask is not None
        if texts is None:
            self.prompts = self._held_out({name: shard for name, shard in shards.items() if name != "train"})
        else:
            self.prompts = [self._given(text) for text in texts]
        self._seconds = self._last = 0.0

    def affordable(self, seconds: float) -> bool:
        """Whether all samples, one more included, take less than 2 % of the `seconds` that the run has taken."""
        return self._seconds + self._last <= SHARE * seconds

    def complete(self) -> list[Sample]:
        """Each prompt with what the model makes of it: `prompt`, `completion`, and where known `expected`, `split`."""
        if not self.prompts:
            return []
        begin = time.perf_counter()
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            completions = self._continued() if self.causal else map(self._filled, self.prompts)
            samples = [
                {"prompt": prompt.shown, "completion": completion, "expected": prompt.expected, "split": prompt.split}
                for prompt, completion in zip(self.prompts, completions, strict=True)
            ]
        self.model.train(was_training)
        self._last = time.perf_counter() - begin
        self._seconds += self._last
        return [{name: text for name, text in sample.items() if text or name == "completion"} for sample in samples]

    def _continued(self) -> list[str]:
        """The next tokens of all prompts at once, as text; what is cut off within a character is left out."""
        device, prompts = self.model.lm_head.weight.device, [prompt.ids for prompt in self.prompts]
        width = max(map(len, prompts))
        length = min(width + NEW_TOKENS, self.context_length)
        padding = torch.tensor([width - len(ids) for ids in prompts], device=device)
        cache = Cache(self.model.config, padding, length, self.model.lm_head.weight.dtype)
        inputs = torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts], device=device)
        chosen = []
        for _ in range(length - width):
            inputs = self.model.lm_head(self.model.model(inputs, cache=cache)[:, -1:]).argmax(-1)
            chosen.append(inputs)
        ends = {self.tokenizer.token_to_id(token) for token in (END_OF_TEXT, IM_END)}
        completions = []
        for ids in torch.cat(chosen, dim=1).tolist():
            end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
            completions.append(self._text(ids[:end]))
        return completions

    def _filled(self, prompt: Prompt) -> str:
        """The prompt with the likeliest token, in brackets, for each mask."""
        ids = torch.tensor([prompt.ids], device=self.model.lm_head.weight.device)
        return self._with_masks(prompt.ids, self.model(ids)[0].argmax(-1).tolist())

    def _given(self, text: str) -> Prompt:
        if self.chat:
            ids = ChatFormat.of(self.tokenizer).encode([{"role": "user", "content": text}], add_generation_prompt=True)[
                0
            ]
        elif self.causal:
            start = self.tokenizer.token_to_id(END_OF_TEXT)
            ids = [*([] if start is None else [start]), *encode_texts(self.tokenizer, [text])[0]]
        else:
            ids = encode_masked(self.tokenizer, text)
        if not 0 < len(ids) < self.context_length:
            raise UserError(
                f"samples: {text[:40]!r} has {len(ids)} tokens, but this model's context holds {self.context_length} "
                "with what follows; give another text."
            )
        return Prompt(ids, text)

    def _held_out(self, shards: Mapping[str, Shard]) -> list[Prompt]:
        """The first suitable documents of each split, in turn."""
        found = [self._of(shards[name]) for name in sorted(shards)]
        prompts: list[Prompt] = []
        while found and len(prompts) < PROMPTS:
            turn = [(documents, next(documents, None)) for documents in found]
            prompts += [prompt for _, prompt in turn if prompt]
            found = [documents for documents, prompt in turn if prompt]
        return prompts[:PROMPTS]

    def _of(self, shard: Shard) -> Iterator[Prompt]:
        if not self.causal:
            return self._lines(shard)
        return self._beginnings(shard) if shard.mask is None else self._questions(shard)

    def _beginnings(self, shard: Shard) -> Iterator[Prompt]:
        for document in _documents(shard):
            ids = document[: 1 + PROMPT_TOKENS].tolist()
            while ids and "\ufffd" in self._decoded(ids)[-1:]:  # do not stop within a character
                ids.pop()
            if 1 < len(ids) < min(len(document), self.context_length):
                following = document[len(ids) : len(ids) + NEW_TOKENS].tolist()
                yield Prompt(ids, self._text(ids), self._text(following), shard.name)

    def _questions(self, shard: Shard) -> Iterator[Prompt]:
        """Conversations up to the first answer."""
        assert shard.mask is not None
        for document, said in zip(_documents(shard), _documents(shard, shard.mask), strict=True):
            begin = int(said.argmax())
            if 0 < begin <= min(QUESTION_TOKENS, self.context_length - NEW_TOKENS // 2):
                answer = document[begin:]
                answer = answer[: int((said[begin:] == 0).argmax()) or len(answer)][:NEW_TOKENS]
                ids = document[:begin].tolist()
                yield Prompt(ids, self._turns(ids), self._text(answer.tolist()), shard.name)

    def _lines(self, shard: Shard) -> Iterator[Prompt]:
        """Beginnings with every sixth token masked, but no part of a character."""
        mask = mask_token_id(self.tokenizer)
        for document in _documents(shard):
            ids = document[: min(MASKED_LINE, self.context_length)].tolist()
            masked = [
                mask if i % MASK_EVERY == MASK_EVERY - 1 and "\ufffd" not in self._decoded([token]) else token
                for i, token in enumerate(ids)
            ]
            if masked != ids:
                shown, full = self._with_masks(masked, ids, hidden=True), self._with_masks(masked, ids)
                yield Prompt(masked, shown, full, shard.name)

    def _with_masks(self, ids: list[int], found: list[int], *, hidden: bool = False) -> str:
        """A text whose masks are replaced by what was found there, in brackets, or by `[…]`."""
        mask, text, begin = mask_token_id(self.tokenizer), "", 0
        for i in [i for i, token in enumerate(ids) if token == mask]:
            word = self._decoded([found[i]])  # carries the space before it
            space = " " if word.startswith(" ") else ""
            text += f"{self._decoded(ids[begin:i])}{space}[{'…' if hidden else word.strip()}]"
            begin = i + 1
        return (text + self._decoded(ids[begin:])).rstrip("\ufffd")

    def _turns(self, ids: list[int]) -> str:
        """The question alone, or where more was said before, all of it with who said it."""
        raw = self.tokenizer.decode(ids, skip_special_tokens=False)
        pattern = rf"{re.escape(IM_START)}(\w+)\n(.*?){re.escape(IM_END)}"
        turns = re.findall(pattern, raw, re.DOTALL)
        return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {content}" for role, content in turns)

    def _text(self, ids: list[int]) -> str:
        return self._decoded(ids).rstrip("\ufffd")

    def _decoded(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _documents(shard: Shard, values: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Each document's tokens, or its share of other values of the shard's tokens."""
    values = shard.tokens if values is None else values
    for begin, end in itertools.pairwise(shard.offsets.tolist()):
        yield values[begin:end]
