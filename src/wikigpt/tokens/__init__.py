"""Text and conversations to token ids: the tokenizer, the chat format, the token shards on disk."""

from wikigpt.tokens.chat import ChatFormat, Message
from wikigpt.tokens.shards import Shard, open_shards, write_chat_tokens, write_text_tokens
from wikigpt.tokens.tokenizer import (
    build_tokenizer,
    encode_texts,
    load_tokenizer,
    save_tokenizer,
    tokenizer_sha256,
    train_tokenizer,
)

__all__ = [
    "ChatFormat",
    "Message",
    "Shard",
    "build_tokenizer",
    "encode_texts",
    "load_tokenizer",
    "open_shards",
    "save_tokenizer",
    "tokenizer_sha256",
    "train_tokenizer",
    "write_chat_tokens",
    "write_text_tokens",
]
