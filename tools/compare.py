"""Compare settings of pretraining: the same model on the same tokens, held-out bits per byte.

    python tools/compare.py --data FOLDER --heads 2 --thousands 512 learning_rate=0.01,0.02,0.04 warmup_steps=30,100

trains one model for each combination of the values and prints a row for each. FOLDER and the rest are as for
scaling_grid.py, whose runs these are: the recipe `small` but for what is named. A setting takes any value that a
recipe takes (`schedule="cosine"`).
"""

import argparse
import itertools
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from scaling_grid import prepare, run


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="NAME=VALUE,VALUE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--lang", default="en")
    parser.add_argument("--heads", type=int, default=2, help="the model has heads of 64 and two layers more than heads")
    parser.add_argument("--thousands", type=int, default=512, help="of tokens to train on")
    options = parser.parse_args()
    names = [setting.partition("=")[0] for setting in options.settings]
    values = [_values(setting.partition("=")[2]) for setting in options.settings]
    prepare(options.lang, options.data, options.work)
    print(f"{options.lang}, {options.heads} heads, {options.thousands} x 1,024 tokens")
    print("| " + " | ".join([*names, "steps", "bits per byte"]) + " |")
    print("|---" * (len(names) + 2) + "|")
    for chosen in itertools.product(*values):
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            changes = dict(zip(names, chosen, strict=True))
            point = run(options.lang, options.heads, options.thousands, options.work, Path(folder), **changes)
        print("| " + " | ".join(str(x) for x in [*chosen, point["steps"], point["bits_per_byte"]]) + " |", flush=True)


def _values(text: str) -> list[Any]:
    found: list[Any] = tomllib.loads(f"values = [{text}]")["values"]
    return found


if __name__ == "__main__":
    main()
