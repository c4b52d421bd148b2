"""How soon `wikigpt --help` answers, against a bare `python -c pass` on the same machine."""

import subprocess
import sys
import time
from pathlib import Path

from common import arguments, report, result


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Measure alternately, print, write."""
    options = arguments(__doc__, rounds=11)
    ours = [str(Path(sys.executable).with_name("wikigpt")), "--help"]
    bare = [sys.executable, "-c", "pass"]
    seconds(ours)
    pairs = [(seconds(ours), seconds(bare)) for _ in range(options.rounds)]
    a, b = zip(*pairs, strict=True)
    report([result("wikigpt --help (target: under 0.4 s)", a, b, peer_name="python -c pass", unit="s")], options.json)


if __name__ == "__main__":
    main()
