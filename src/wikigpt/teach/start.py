"""What both stages begin and end with: a model to go on from, and the folder it becomes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from wikigpt.model import Transformer


def load_start(base: Path, work: Path) -> "tuple[Path, Tokenizer, Transformer]":
    """The tokenizer folder, tokenizer and model of a model folder or .gguf file that is to be trained on chats.

    Raises:
        UserError: there is no such model, or it fills masks.
    """
    from wikigpt.model import FAMILIES
    from wikigpt.model.importing import check_pretrained, load_pretrained
    from wikigpt.stages import pretrained_tokenizer
    from wikigpt.tokens import load_tokenizer
    from wikigpt.tokens.tokenizer import CHAT_TEMPLATE
    from wikigpt.train.distributed import main_first

    check_pretrained(base)
    tokenizer, template = base, base / "chat_template.jinja"
    if not template.is_file() or template.read_text(encoding="utf-8") != CHAT_TEMPLATE:
        tokenizer = work / "tokenizer"  # of a model that others trained: it shall say how we format a chat
        main_first(lambda: pretrained_tokenizer(base, tokenizer))
    loaded = load_tokenizer(tokenizer)
    model = load_pretrained(base, loaded)
    if not FAMILIES[model.config.family].causal:
        raise UserError(f"{base} is a {model.config.family} model, which fills masks and cannot learn to chat.")
    return tokenizer, loaded, model


def load_teacher(source: Path) -> "tuple[Tokenizer, Transformer]":
    """Tokenizer and model of a model folder or .gguf file whose answers or probabilities are learned from.

    Raises:
        UserError: there is no such model.
    """
    from wikigpt.model.importing import load_pretrained, save_pretrained_tokenizer
    from wikigpt.tokens import load_tokenizer

    with tempfile.TemporaryDirectory() as temporary:
        save_pretrained_tokenizer(source, Path(temporary))
        loaded = load_tokenizer(Path(temporary))
    return loaded, load_pretrained(source, loaded)


def weights_checksum(source: Path) -> str:
    """Of a model's weights."""
    from wikigpt.artifacts import fingerprint, sha256_file
    from wikigpt.model.importing import weight_files

    return fingerprint(*map(sha256_file, weight_files(source)))


def save(model: "Transformer", output: Path, tokenizer: Path, facts: dict[str, Any]) -> None:
    """Write the trained model, in the main process."""
    from wikigpt.launch import is_main
    from wikigpt.model import save_model
    from wikigpt.stages import _card
    from wikigpt.train.trouble import in_plain_words

    if is_main():
        with in_plain_words(output):
            save_model(model, output, tokenizer=tokenizer, card=_card("chat model", facts))
