"""Reading the JSON lines that a run logs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of a JSON-lines log; a last line cut off by a crash is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
