"""What opencc takes as a whole, as its own dictionaries list it: all else `native` can convert by the character."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

# All that a configuration of one round of conversion consists of (opencc 1.2 to 1.4).
_SETTINGS = {"name", "normalization", "segmentation", "conversion_chain"}
_TYPES = {"mmseg", "group", "ocd2"}


def phrases(config: str) -> frozenset[str] | None:
    """The phrases of an opencc configuration, and the single characters that it replaces before it looks for them.

    None if they cannot be known: the package lacks its `opencc_dict` (all wheels since 1.2 have it), the
    configuration converts in several rounds, or it is of a kind that is not known here.
    """
    import opencc

    package = Path(opencc.__file__).parent / "clib"
    reader = shutil.which("opencc_dict", path=package / "bin")
    try:
        settings = json.loads((package / "share" / "opencc" / f"{config}.json").read_text(encoding="utf-8"))
        if reader is None or settings.keys() - _SETTINGS or len(settings["conversion_chain"]) != 1:
            return None
        before = set(_files(settings.pop("normalization", [])))
        after = set(_files(settings))
        files = sorted(before | after)
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
            dictionaries = [package / "share" / "opencc" / file for file in files]
            outputs = [Path(folder) / str(number) for number in range(len(files))]
            words = dict(zip(files, threads.map(partial(_words, reader), dictionaries, outputs), strict=True))
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None
    if any(len(word) > 1 for file in before for word in words[file]):  # what they become could begin a phrase
        return None
    return frozenset(word for file in files for word in words[file] if len(word) > 1 or file in before)


def _files(node: Any) -> Iterator[str]:
    """The dictionaries named in a part of a configuration; raises ValueError for what is neither one nor a group."""
    if isinstance(node, list):
        for each in node:
            yield from _files(each)
    elif isinstance(node, dict):
        if node.get("type", "group") not in _TYPES:
            raise ValueError(node["type"])
        if "file" in node:
            yield node["file"]
        for each in node.values():
            yield from _files(each)


def _words(reader: str, dictionary: Path, output: Path) -> list[str]:
    command = [reader, "--input", str(dictionary), "--output", str(output), "--from", "ocd2", "--to", "text"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [line.partition("\t")[0] for line in output.read_text(encoding="utf-8").splitlines()]
