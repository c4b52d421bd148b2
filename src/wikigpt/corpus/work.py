"""The folder in which an unfinished build keeps what it has."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from wikigpt.artifacts import write_atomic
from wikigpt.corpus.cleaned import Cleaned
from wikigpt.corpus.write import read_arrow, table_of_dropped, write_arrow

if TYPE_CHECKING:
    from wikigpt.encryption import Key


class Work:
    """The folder of finished shards: for each the facts, its documents and what was dropped.

    A shard is finished when its facts are there; they are written last.
    """

    def __init__(self, folder: Path, key: "Key | None") -> None:
        self.folder, self.key = folder, key
        folder.mkdir(parents=True, exist_ok=True)

    def belongs_to(self, origin: str) -> None:
        """Remove what was made with other settings than those whose fingerprint is `origin`, or put down in vain."""
        for left in self.folder.glob("put-*"):
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                left.unlink(missing_ok=True)
        path = self.folder / "origin"
        if path.is_file() and path.read_text() == origin:
            return
        for shard in self.folder.glob("shard-*"):
            shard.unlink()
        write_atomic(path, origin)

    def finished(self, number: int, identity: str) -> dict[str, Any] | None:
        """The facts of shard `number` if it is finished and was made from the same bytes."""
        if not self._path(number, "json").is_file():
            return None
        try:
            facts = self.facts(number)
        except ValueError:  # damaged, or written under another key
            return None
        return facts if facts["identity"] == identity else None

    def facts(self, number: int) -> dict[str, Any]:
        """The facts of a finished shard."""
        path = self._path(number, "json")
        data = path.read_bytes()
        facts: dict[str, Any] = json.loads(self.key.decrypt(data, path) if self.key else data)
        return facts

    def put_down(self, number: int, cleaned: Cleaned) -> Cleaned:
        """Write the tables of shard `number` to files for `write` to take up, where this has not been done."""

        def put(content: Any, suffix: str) -> Path | None:
            if content is None or isinstance(content, Path):
                return content
            # A process that outlives a killed build must not write over what the next one has.
            path = self.folder / f"put-{os.getpid()}-{number}.{suffix}"
            write_arrow(content, path, self.key)
            return path

        return replace(
            cleaned, documents=put(cleaned.documents, "arrow"), dropped=put(cleaned.dropped, "dropped.arrow")
        )

    def write(self, number: int, identity: str, cleaned: Cleaned) -> dict[str, Any]:
        """Keep a shard's result; return its facts."""
        facts = {**cleaned.facts, "identity": identity}
        cleaned = self.put_down(number, cleaned)
        for path, suffix in ((cleaned.documents, "arrow"), (cleaned.dropped, "dropped.arrow")):
            if path is not None:
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
                path.replace(self._path(number, suffix))
        data = json.dumps(facts, ensure_ascii=False).encode()
        # If a power cut leaves nothing or half of these, the shard does not count as finished.
        write_atomic(
            self._path(number, "json"), self.key.encrypt(data) if self.key else data, survives_power_cuts=False
        )
        return facts

    def documents(self, number: int) -> Any:
        """The documents of a finished shard as an Arrow table."""
        return read_arrow(self._path(number, "arrow"), self.key)

    def dropped(self, number: int) -> Any:
        """What the shard's pages gave that is no document."""
        path = self._path(number, "dropped.arrow")
        return read_arrow(path, self.key) if path.is_file() else table_of_dropped([])

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"shard-{number:06d}.{suffix}"
