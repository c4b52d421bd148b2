"""Answers of a fixed form: JSON of a schema, a regular expression, one of some texts.

Which tokens may come next is worked out by llguidance (an Earley parser over the tokenizer's trie); what is not
allowed is masked before a token is chosen, so every answer that comes to its end is valid.
"""

import json
import re
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.chat.sampling import Sampling

# A small model left free to put spaces between the parts of JSON puts nothing else.
_SPACING: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def grammar(sampling: "Sampling") -> str:
    """The form that the settings prescribe, in llguidance's variant of Lark; `UserError` where it makes no sense."""
    text = _lark(sampling)
    if problem := _package().LLMatcher.validate_grammar(text):
        raise UserError(f"generation setting {sampling.form}: {problem.strip().splitlines()[0]}.")
    return text


def _lark(sampling: "Sampling") -> str:
    if sampling.json_schema is not None:
        return f"start: %json {json.dumps({**sampling.json_schema, 'x-guidance': _SPACING})}"
    if sampling.regex:
        return "start: /" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", sampling.regex) + "/"
    return "start: " + " | ".join(map(_quoted, sampling.choices))


class Constraints:
    """Makes constraints for one tokenizer, whose trie (0.1 s for 8,192 tokens) they share.

    Args:
        n_vocab: width of the model's logits.
        end_tokens: ids of which each ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, n_vocab: int, end_tokens: set[int]) -> None:
        self._library = _package()
        self._tokenizer = self._library.LLTokenizer(tokenizer.to_str(), n_vocab=n_vocab, eos_token=sorted(end_tokens))

    def constraint(self, sampling: "Sampling") -> "Constraint":
        """Return the constraint that the settings ask for; raises `UserError` where it makes no sense."""
        matcher = self._library.LLMatcher(self._tokenizer, grammar(sampling), log_level=0)
        return Constraint(matcher, self._tokenizer.vocab_size)


class Constraint:
    """What one answer may go on with."""

    def __init__(self, matcher: Any, n_vocab: int) -> None:
        self._matcher = matcher
        self._allowed = torch.zeros((n_vocab + 31) // 32, dtype=torch.int32)
        self._bits = torch.arange(32, dtype=torch.int32)

    def masked(self, logits: Tensor) -> Tensor:
        """Return fp32 logits `[n_vocab]` with minus infinity for tokens that are not allowed now."""
        self._matcher.unsafe_compute_mask_ptr(self._allowed.data_ptr(), self._allowed.numel() * 4)
        allowed = ((self._allowed[:, None] >> self._bits) & 1).view(-1)[: len(logits)].bool()
        return logits.masked_fill(~allowed, float("-inf"))

    def take(self, token: int) -> None:
        """Go on by the token that was chosen."""
        self._matcher.consume_token(token)


def _package() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError:
        raise UserError("answers of a fixed form need the package llguidance; pip install 'wikigpt[serve]'.") from None
    return llguidance


def _quoted(text: str) -> str:
    """A string of Lark's grammars."""
    return json.dumps(text, ensure_ascii=False)
