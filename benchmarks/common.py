"""What benchmarks share: the form of a result, and writing it down."""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data")


def result(name: str, ours: Sequence[float], peer: Sequence[float], *, peer_name: str, unit: str) -> dict[str, Any]:
    """Compare runs that were measured alternately: medians, and the spread of the ratios of neighbours."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name,
        "ours": round(statistics.median(ours), 3),
        "peer": round(statistics.median(peer), 3),
        "peer_name": peer_name,
        "unit": unit,
        "ratio": round(statistics.median(ratios), 3),
        "n": len(ratios),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def report(results: list[dict[str, Any]], file: Path | None) -> None:
    """Print the results as a table; write them as JSON if a file is given."""
    for r in results:
        print(
            f"{r['name']}: ours {r['ours']:,} {r['unit']}, {r['peer_name']} {r['peer']:,}; "
            f"ratio {r['ratio']} ({r['min']} to {r['max']}, n={r['n']})"
        )
    if file:
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def arguments(description: str | None, **extra: Any) -> argparse.Namespace:
    """Parse `--json FILE` and `--name DEFAULT` for each extra option; one that is False by default is a switch."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    for name, default in extra.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def in_fresh_process(function: Callable[..., T], *inputs: Any) -> T:
    """What `function(*inputs)` returns in a new interpreter, which shares no memory and no settings with this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *inputs).result()
