"""Wiki-GPT mini: the base and the chat model that come with the package, laid out as a run folder.

`mini/base` and `mini/model` are model folders with weights of 8 bits, `mini/knowledge` is the index of the sample wiki.
`tools/ship_mini.py` writes them from a run of the recipe `wikigpt-mini`.
"""

from collections.abc import Callable
from pathlib import Path

from wikigpt.artifacts import read_json, sha256_file
from wikigpt.errors import UserError

MINI = "wikigpt-mini"  # its name wherever a run folder or a base may be given
FOLDER = Path(__file__).parent / "mini"
CHECKSUMS = "checksums.json"  # of its files, by their path in the folder


def resolved(name: Path | str, part: str = "") -> Path:
    """The folder of Wiki-GPT mini, or a part of it, where its name is given and nothing here is called so.

    Raises:
        UserError: its files are missing or damaged.
    """
    path = Path(name)
    return mini() / part if str(name) == MINI and not path.exists() else path


def shipped(part: str = "") -> Callable[[Path | None], Path | None]:
    """`resolved` as the callback of a command's argument."""
    return lambda path: None if path is None else resolved(path, part)


def mini() -> Path:
    """The run folder of Wiki-GPT mini, its files compared with their checksums (some 20 MB: 15 ms).

    Raises:
        UserError: files are missing or damaged.
    """
    remedy = "install WikiGPT again (pip install --force-reinstall --no-deps wikigpt), or name a model of your own"
    if not (FOLDER / CHECKSUMS).is_file():
        raise UserError(f"this installation lacks the model {MINI} ({FOLDER} is missing); {remedy}.")
    for name, checksum in read_json(FOLDER / CHECKSUMS).items():
        path = FOLDER / name
        if not path.is_file():
            raise UserError(f"{path} is missing; {remedy}.")
        if sha256_file(path) != checksum:
            raise UserError(f"{path} is damaged: it does not match its checksum; {remedy}.")
    return FOLDER
