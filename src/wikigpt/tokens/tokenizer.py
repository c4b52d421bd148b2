"""The tokenizer: byte-level BPE whose pre-tokenizer is the one llama.cpp calls `qwen2`."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from wikigpt.artifacts import atomic_folder, sha256_file
from wikigpt.errors import UserError

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
MASK = "<|mask|>"
PAD = "<|pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END, MASK, PAD, *(f"<|reserved_{i}|>" for i in range(3)))

# Qwen2's pattern, word for word: GGUF files with `pre=qwen2` tokenize equally only with exactly this one.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# While learning merges only: one Han character, kana or Hangul syllable is a word of its own, so that no
# token swallows a whole phrase (the pattern above takes a run of Han characters for one word).
CJK_CHARACTER = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

# What answers are written with (bold facts, citations): given some weight, so that each is one token.
ANSWER_MARKUP = (
    "**Fact**.",
    " **Fact** [1].",
    "**Fact**, ",
    "**1**。",
    "**1**[1]。",
    "**1**，",
    " [1]",
    " [2]\n[3]",
)

# ChatML. `{% generation %}` marks what the assistant says, for trainers that read it from the template.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    split_cjk: bool = True,
    max_token_length: int | None = 16,
    show_progress: bool = False,
) -> Tokenizer:
    """Learn a byte-level BPE of `vocab_size` tokens, special ones included.

    Args:
        texts: any number of strings, NFC already.
        split_cjk: never merge two Chinese, Japanese or Korean characters into one token. Best for
            vocabularies below about 16,000 tokens: phrasings never seen are then made of known tokens.
        max_token_length: longest token in bytes; None for no limit.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise UserError(f"tokenizer.vocab_size is {vocab_size}; the bytes and special tokens need {smallest}.")
    words = Regex(f"{CJK_CHARACTER}|{QWEN2_PATTERN}" if split_cjk else QWEN2_PATTERN)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer(words, split_cjk_first=split_cjk)
    tokenizer.train_from_iterator(
        itertools.chain(_with_rare_characters(texts, vocab_size), ANSWER_MARKUP * 1000),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=max_token_length,
            min_frequency=2,
            show_progress=show_progress,
        ),
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(Regex(QWEN2_PATTERN))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.encode_special_tokens = True
    return tokenizer


def _with_rare_characters(texts: Iterable[str], vocab_size: int) -> Iterator[str]:
    """Pass the texts on, then the CJK characters that cover 99.9 % of them, each as if seen 1,000 times more.

    Merges are learned by frequency; without this, thousands of characters that are rare in a small wiki
    (the names of elements, say) would fall apart into bytes (compare SentencePiece's character coverage).
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_CJK.findall(text))
        yield text
    enough, covered = counts.total() * 0.999, 0
    for character, count in counts.most_common(vocab_size // 2):
        if covered > enough or count < 2:
            break
        covered += count
        yield character * 1000


def _pre_tokenizer(words: Regex, split_cjk_first: bool = False) -> pre_tokenizers.PreTokenizer:
    steps: list[Any] = [pre_tokenizers.Split(words, "isolated")]
    if split_cjk_first:
        # `[^\r\n\p{L}\p{N}]?\p{L}+` may still take several characters after a leading quote or bracket.
        steps.insert(0, pre_tokenizers.Split(Regex(CJK_CHARACTER), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(steps)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, context_length: int = 2048) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into an existing folder."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": PAD,
        "mask_token": MASK,
        "additional_special_tokens": [IM_START, IM_END],
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        # transformers.js reads the template from here, transformers from the jinja file.
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def build_tokenizer(
    texts: Iterable[str],
    output: Path,
    *,
    vocab_size: int,
    split_cjk: bool,
    max_token_length: int | None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Train a tokenizer on `texts` and write it to the folder `output`, atomically.

    Returns the facts about it that the run records: vocabulary size, bytes per token on the training text.
    """
    seen = {"bytes": 0, "documents": 0}
    sample: list[str] = []

    def counted() -> Iterator[str]:
        for text in texts:
            seen["bytes"] += len(text.encode())
            seen["documents"] += 1
            if len(sample) < 500:
                sample.append(text)
            if progress and seen["documents"] % 500 == 0:
                progress(seen["documents"], 0, f"{seen['bytes'] / 1e6:.1f} MB read")
            yield text

    tokenizer = train_tokenizer(
        counted(), vocab_size=vocab_size, split_cjk=split_cjk, max_token_length=max_token_length
    )
    if not seen["documents"]:
        raise UserError("there is no text to train a tokenizer on: the corpus has no training articles.")
    with atomic_folder(output) as folder:
        save_tokenizer(tokenizer, folder)
    n_tokens = sum(len(e.ids) for e in tokenizer.encode_batch(sample, add_special_tokens=False))
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "training_bytes": seen["bytes"],
        "bytes_per_token": round(sum(len(t.encode()) for t in sample) / max(n_tokens, 1), 3),
    }


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` from a tokenizer or model folder."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no tokenizer.json; give a folder written by `wikigpt tokenizer`.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception
        raise UserError(f"{path} is damaged ({error}); build the tokenizer again.") from None
    # Words such as `<|im_end|>` in a text stay text: control tokens are only ever placed by their id.
    tokenizer.encode_special_tokens = True
    return tokenizer


def tokenizer_sha256(folder: Path) -> str:
    """Checksum of a folder's tokenizer.json: what ties token shards and models to their tokenizer."""
    return sha256_file(folder / "tokenizer.json")


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of plain texts, without any special token."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
