"""What the ten-minute demo's model answers, against the figures that we set out to reach.

Builds the `demo` recipe in a temporary folder, or reads a finished run with `--run FOLDER`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, report, result

TARGETS = [
    # (task, measure, target share)
    ("closed_book", "exact_match", 0.80),
    ("grounded", "exact_match", 0.90),  # said by the model itself
    ("grounded", "contains", 0.80),  # said or quoted
    ("grounded", "citation", 0.90),
]


def main() -> None:
    """Build if need be, read evaluation.json, print, write."""
    options = arguments(__doc__, run="")
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(options.run or Path(temporary) / "demo")
        if not options.run:
            command = [str(Path(sys.executable).with_name("wikigpt")), "build", "demo", "--run", str(run)]
            subprocess.run(command, check=True)
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    results = []
    for task, measure, target in TARGETS:
        for lang, scores in evaluation["tasks"][task].items():
            name = f"demo, {task.replace('_', '-')} {measure.replace('_', ' ')}, {lang} ({scores['n']} questions)"
            results.append(result(name, [scores[measure]], [target], peer_name="target, at least", unit="share"))
    minutes = sum(evaluation["seconds"].values()) / 60
    gigabytes = evaluation["peak_memory_bytes"] / 1e9
    results.append(result("demo, build time", [minutes], [12.0], peer_name="target, at most", unit="minutes"))
    results.append(result("demo, peak memory", [gigabytes], [4.0], peer_name="target, at most", unit="GB"))
    report(results, options.json)


if __name__ == "__main__":
    main()
