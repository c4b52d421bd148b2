"""Conversations as token ids, in ChatML, with the mask of what the assistant says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from tokenizers import Tokenizer

from wikigpt.errors import UserError
from wikigpt.tokens.tokenizer import IM_END, IM_START, encode_texts


class Message(TypedDict):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Turns messages into ids exactly as the chat template does, control tokens placed by id only."""

    tokenizer: Tokenizer
    im_start: int
    im_end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "ChatFormat":
        """Raises `UserError` where the tokenizer has no ChatML tokens."""
        start, end = tokenizer.token_to_id(IM_START), tokenizer.token_to_id(IM_END)
        if start is None or end is None:
            raise UserError(f"this tokenizer has no {IM_START}/{IM_END} tokens, so it cannot hold a chat.")
        return cls(tokenizer, start, end)

    def encode(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[int]]:
        """Ids and, for each, 1 where the assistant says it (its closing `<|im_end|>` included), else 0."""
        roles = [message["role"] for message in messages]
        if unknown := set(roles) - set(ROLES):
            raise UserError(f"a message has the role {sorted(unknown)[0]!r}; roles are {', '.join(ROLES)}.")
        # One call for all pieces: role headers, contents and the line break are separate pre-tokens anyway.
        pieces = [part for m in messages for part in (m["role"] + "\n", m["content"])]
        encoded = encode_texts(self.tokenizer, [*pieces, "\n", "assistant\n"])
        *encoded, newline, assistant = encoded
        ids: list[int] = []
        mask: list[int] = []
        for i, role in enumerate(roles):
            header, content = [self.im_start, *encoded[2 * i]], [*encoded[2 * i + 1], self.im_end]
            ids += header + content + newline
            mask += [0] * len(header) + [int(role == "assistant")] * len(content) + [0] * len(newline)
        if add_generation_prompt:
            ids += [self.im_start, *assistant]
            mask += [0] * (1 + len(assistant))
        return ids, mask
