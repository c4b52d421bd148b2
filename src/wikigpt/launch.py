"""Whether a launcher such as torchrun started this process beside others; known without loading torch."""

import os


def launched() -> bool:
    """Whether torchrun, or another launcher with its environment, started this process beside others.

    A cluster may set WORLD_SIZE for all that it runs; only a launcher tells each process its RANK, too.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_main() -> bool:
    """Whether this process is the one that writes and shows things: the only one, or rank 0."""
    return not launched() or os.environ["RANK"] == "0"
