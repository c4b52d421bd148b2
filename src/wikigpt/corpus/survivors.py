"""What remains of a shard on which a process dies: all but the page that kills."""

from collections.abc import Callable, Generator

from wikigpt.corpus.cleaned import Cleaned, Settings, join
from wikigpt.corpus.shards import Shard, halves

Clean = Callable[[Shard, Settings, bytes | None], Cleaned]
PutDown = Callable[[int, Cleaned], Cleaned]
Results = Generator[tuple[Shard, Cleaned], None, None]


def alone(shard: Shard, attempt: Callable[[Shard], Cleaned | None], settings: Settings) -> Cleaned:
    """Clean a shard on which a process died, without the page that kills, if there is one."""
    cleaned = attempt(shard)
    if cleaned is not None:
        return cleaned
    parts = halves(shard)
    if parts is None:
        from wikigpt.corpus.clean import skipped_page

        return skipped_page(shard, "the process that cleaned it died", settings)
    first, second = parts
    return join(alone(first, attempt, settings), alone(second, attempt, settings))
