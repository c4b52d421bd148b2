"""What a masked language model has to find: which tokens of which row are hidden, and how.

As with the rows themselves, it is a function of seed and row number alone, so that a resumed run sees the
same masks.
"""

import unicodedata
from collections.abc import Iterator

import numpy as np
import torch
from tokenizers import Tokenizer

from wikigpt.model.fill_mask import mask_token_id
from wikigpt.tokens import Shard
from wikigpt.train.batches import IGNORE, Batch, Packer

MASKED_SHARE = 0.15  # of the tokens (Devlin et al. 2019)


def most_masked(sequence_length: int) -> int:
    """Largest number of masked tokens in a row of `sequence_length` tokens."""
    return max(1, round(MASKED_SHARE * sequence_length))


class Words:
    """Where the words of a row of byte-level BPE tokens begin.

    A word is a run of letters with the space or quote before it, as the pre-tokenizer cuts text. A Chinese
    character, a kana, a Hangul syllable, a digit and a piece of punctuation are each a word of its own, also
    where the tokenizer spells a character in several tokens. A token that holds several characters is never
    divided.
    """

    def __init__(self, tokenizer: Tokenizer):
        tokens = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
        pieces = [bytes(_BYTES.get(character, 0) for character in token) for token in tokens]
        texts = [piece.decode("utf-8", errors="ignore") for piece in pieces]
        # UTF-8: bytes 0x80 to 0xBF go on with a character that another byte began, 0xC3 to 0xDF begin one of
        # two bytes, which are letters but for few.
        halves = [not text and b"\xc3" <= piece[:1] < b"\xe0" for text, piece in zip(texts, pieces, strict=True)]
        self._inside = np.array([b"\x80" <= piece[:1] < b"\xc0" for piece in pieces])
        self._rest = self._inside & np.array([not text for text in texts])
        self._begins = np.array([_is_letter(text[:1]) for text in texts]) | halves
        self._ends = np.array([text == " " or _is_letter(text[-1:]) for text in texts]) | halves

    def first_tokens(self, ids: np.ndarray) -> np.ndarray:
        """For each token of int64 `ids` `[tokens]`, the index of its word's first token."""
        index = np.arange(len(ids))
        began = np.maximum.accumulate(np.where(self._rest[ids], 0, index))  # the character that a rest is of
        goes_on = self._inside[ids]
        goes_on[1:] |= self._ends[ids[began[:-1]]] & self._begins[ids[1:]]
        return np.maximum.accumulate(np.where(goes_on, 0, index))


def _is_letter(character: str) -> bool:
    """Of a script that builds words of letters; combining marks count."""
    name = unicodedata.name(character, "") if character else ""
    return unicodedata.category(character or " ")[0] in "LM" and not name.startswith(_WORDS_BY_THEMSELVES)


_WORDS_BY_THEMSELVES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
# The characters by which byte-level BPE writes bytes (GPT-2's `bytes_to_unicode`): printable Latin-1 ones as
# themselves, the others from U+0100 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(byte): byte for byte in _PRINTABLE}
_BYTES |= {chr(256 + n): byte for n, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))}


class Masking:
    """Hides some tokens of a row (Devlin et al. 2019).

    15 % of the tokens are to be predicted; of these 80 % are replaced by the mask token, 10 % by a random one
    and 10 % stay. Special tokens and padding are never chosen, nor put in.

    Args:
        tokenizer: whose `<|mask|>` or `[MASK]` is used.
        whole_words: choose words instead of tokens, so that no word is given away by a part of it.

    Raises:
        UserError: the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, *, whole_words: bool):
        self.mask_token = mask_token_id(tokenizer)
        self.special = np.zeros(tokenizer.get_vocab_size(), dtype=bool)
        self.special[[i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = True
        self.ordinary = np.flatnonzero(~self.special)
        self.words = Words(tokenizer) if whole_words else None

    def row(self, ids: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of one row, int64 `[tokens]` each.

        Args:
            ids: int64 `[tokens]`.
            real: bool `[tokens]`, False for padding.
        """
        inputs, targets = ids.copy(), np.full_like(ids, IGNORE)
        candidates = np.flatnonzero(real & ~self.special[ids])
        if not len(candidates):
            return inputs, targets
        lots = rng.random(len(ids))
        if self.words is not None:  # all tokens of a word share one lot
            lots = lots[self.words.first_tokens(ids)]
        order = candidates[np.argsort(lots[candidates], kind="stable")]
        budget = max(1, round(MASKED_SHARE * len(order)))
        chosen = order[:budget]
        if budget < len(order):  # a word that does not fit in as a whole stays, unless it is the only one
            whole = chosen[lots[chosen] != lots[order[budget]]]
            chosen = whole if len(whole) else chosen
        targets[chosen] = ids[chosen]
        fate, random = rng.random(len(chosen)), rng.choice(self.ordinary, len(chosen))
        inputs[chosen] = np.select([fate < 0.8, fate < 0.9], [self.mask_token, random], ids[chosen])
        return inputs, targets


class MaskingPacker(Packer):
    """Rows of running text whose targets are the masked tokens: other ones each epoch, as in RoBERTa."""

    def __init__(self, shard: Shard, sequence_length: int, *, seed: int, masking: Masking):
        super().__init__(shard, sequence_length, seed=seed, whole_documents=False)
        self.masking = masking

    def rows(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count` of the endless sequence of epochs, masked."""
        return self._masked(super().rows(first, count), first)

    def first_epoch(self, batch_size: int, max_tokens: int) -> Iterator[Batch]:
        """The first epoch once, for evaluation, with the same masks at every call."""
        for number, batch in enumerate(super().first_epoch(batch_size, max_tokens)):
            yield self._masked(batch, number * batch_size)

    def _masked(self, batch: Batch, first: int) -> Batch:
        ids, real = batch.input_ids.numpy(), batch.document_ids.numpy() >= 0
        # The third number keeps the masks' randomness apart from that of the order of documents.
        generators = [np.random.default_rng((self.seed, first + i, 1)) for i in range(len(ids))]
        rows = [self.masking.row(*row) for row in zip(ids, real, generators, strict=True)]
        inputs, targets = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*rows, strict=True))
        return Batch(inputs, targets, batch.document_ids)
