"""What a masked language model would put in the place of a mask."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from wikigpt.errors import UserError
from wikigpt.model.config import FAMILIES
from wikigpt.model.hub import load_model
from wikigpt.tokens import encode_texts, load_tokenizer
from wikigpt.tokens.tokenizer import END_OF_TEXT, MASK

MASK_NAMES = (MASK, "[MASK]", "<mask>")  # ours, BERT's, RoBERTa's


@dataclass(frozen=True)
class Candidate:
    """One token for one mask."""

    mask: int  # which of the text's masks, from 0
    text: str
    token: int
    probability: float


def mask_token_id(tokenizer: Tokenizer) -> int:
    """Id of the tokenizer's mask token; `UserError` where it has none."""
    for name in MASK_NAMES:
        if (token := tokenizer.token_to_id(name)) is not None:
            return token
    raise UserError(f"this tokenizer has no mask token ({', '.join(MASK_NAMES)}), so nothing can be masked with it.")


def encode_masked(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text with masks in it, opened as in training; `UserError` where it has no mask."""
    mask = mask_token_id(tokenizer)
    *before, last = re.split("|".join(map(re.escape, MASK_NAMES)), text)
    if not before:
        raise UserError(f"there is no mask in the text; write {MASK} where a word is to be found.")
    # Byte-level tokens carry the space before a word, so the mask's token takes it.
    pieces = encode_texts(tokenizer, [*(part.removesuffix(" ") for part in before), last])
    ids = pieces[0] + [token for piece in pieces[1:] for token in (mask, *piece)]
    # As in training: ours begin a text with the end of the one before, BERT's put it into [CLS] and [SEP].
    first, end = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    if first is None:
        first = tokenizer.token_to_id(END_OF_TEXT)
    return [token for token in (first, *ids, end) if token is not None]


@torch.inference_mode()
def fill_mask(folder: Path, text: str, *, top: int = 5) -> list[Candidate]:
    """The `top` most probable tokens for each mask in `text`, the most probable one first.

    Args:
        folder: model folder of a masked language model.
        text: with one or more masks, written `<|mask|>`, `[MASK]` or `<mask>`; each stands for one token.

    Raises:
        UserError: the model is a causal one, or the text has no mask or is too long.
    """
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    if FAMILIES[model.config.family].causal:
        raise UserError(
            f"{folder} is a {model.config.family} model, which goes on with a text and cannot fill masks; give a "
            "masked language model (family bert), or use `wikigpt chat`."
        )
    ids = encode_masked(tokenizer, text)
    if len(ids) > model.config.context_length:
        raise UserError(
            f"the text has {len(ids)} tokens, but this model's context holds {model.config.context_length}."
        )
    tokens = torch.tensor([ids])
    best = model(tokens)[tokens == mask_token_id(tokenizer)].softmax(-1).topk(min(top, model.config.vocab_size))
    return [
        Candidate(number, tokenizer.decode([token]), token, probability)
        for number, (row, probabilities) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        for token, probability in zip(row, probabilities, strict=True)
    ]
