"""Answers in the making: what every backend does alike, before and after its model computes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from wikigpt.chat.sampling import Sampling
from wikigpt.errors import UserError
from wikigpt.tokens import ChatFormat, Message, encode_texts
from wikigpt.tokens.tokenizer import END_OF_TEXT

Prompt = str | Sequence[Message]


class Prompts:
    """Turns prompts into token ids, as models were trained on them, and knows how an answer ends.

    A prompt is a text to go on from, or a list of messages to be answered.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.chat = ChatFormat.of(tokenizer)
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        self.start = [] if end_of_text is None else [end_of_text]  # every article was opened by it
        self.end_tokens = {*self.start, self.chat.im_end}

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""
        if isinstance(prompt, str):
            return [*self.start, *encode_texts(self.tokenizer, [prompt])[0]]
        return self.chat.encode(prompt, add_generation_prompt=True)[0]


@dataclass
class Completion:
    """What the model said to one prompt."""

    text: str
    token_logprobs: list[float]  # natural logarithm, before temperature and filters
    finish_reason: str  # "stop": it ended by itself or at a stop text; "length": it was cut
    prompt_tokens: int


@dataclass
class Row:
    """One prompt being answered.

    Raises:
        UserError: the prompt leaves no room in a context of so many tokens.
    """

    prompts: Prompts
    prompt: list[int]
    sampling: Sampling
    context_length: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""

    def __post_init__(self) -> None:
        # Gives out text only when its last character is whole: a Chinese one may span three tokens.
        self._decoder = DecodeStream(skip_special_tokens=True)
        if len(self.prompt) >= self.context_length:
            raise UserError(
                f"the prompt has {len(self.prompt)} tokens, but this model's context holds {self.context_length} "
                "with the answer; shorten it."
            )

    @property
    def most(self) -> int:
        """Tokens that the answer may have."""
        return min(self.sampling.max_new_tokens, self.context_length - len(self.prompt))

    def take(self, token: int, logprob: float) -> None:
        """Append a token; sets `finish_reason` where the answer ends with it."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.prompts.end_tokens:
            self.finish_reason = "stop"
            return
        self.text += self._decoder.step(self.prompts.tokenizer, token) or ""
        cuts = [at for stop in self.sampling.stop if stop and (at := self.text.find(stop)) >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
            self.finish_reason = "stop"
        elif len(self.ids) == self.most:
            self.finish_reason = "length"

    @property
    def safe_length(self) -> int:
        """How much of the text cannot turn out to be the beginning of a stop text."""
        if self.finish_reason:
            return len(self.text)
        held = max((len(stop) - 1 for stop in self.sampling.stop), default=0)
        for n in range(min(held, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-n:]) for stop in self.sampling.stop):
                return len(self.text) - n
        return len(self.text)

    @property
    def completion(self) -> Completion:
        """The answer as far as it has come."""
        return Completion(self.text, self.logprobs, self.finish_reason, len(self.prompt))
