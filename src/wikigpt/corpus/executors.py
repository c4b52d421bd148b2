"""Where shards are cleaned: in this process, in several, or on a Ray cluster. The results are the same."""

from collections.abc import Iterable
from typing import Literal

from wikigpt.corpus.cleaned import Cleaned, Settings
from wikigpt.corpus.shards import Shard
from wikigpt.corpus.survivors import Clean, PutDown, Results

Executor = Literal["process", "ray"]


def clean_shard(shard: Shard, settings: Settings, secret: bytes | None = None) -> Cleaned:
    """`clean.clean_shard`, loaded where it is called: the process that hands shards out has no use for it."""
    from wikigpt.corpus import clean

    return clean.clean_shard(shard, settings, secret)


def clean_all(
    shards: Iterable[Shard],
    settings: Settings,
    secret: bytes | None = None,
    *,
    executor: Executor = "process",
    workers: int = 1,
    clean: Clean = clean_shard,
    put_down: PutDown | None = None,
) -> Results:
    """Clean shards by `clean` and yield them with the results, in their order.

    Other processes of this machine give their results to `put_down`, with the shard's number, and send what it
    returns: a process that writes documents to the disk itself need not send them.

    A shard on which a process dies (out of memory, a fault in a library) is tried again alone, then in
    halves, until the page that kills is found and left out.
    """
    if executor == "ray":
        from wikigpt.corpus.cluster import on_ray

        return on_ray(shards, settings, secret, clean)
    if workers <= 1:
        return _here(shards, settings, secret, clean)
    from wikigpt.corpus.processes import in_processes

    return in_processes(shards, settings, secret, workers, clean, put_down)


def _here(shards: Iterable[Shard], settings: Settings, secret: bytes | None, clean: Clean) -> Results:
    for shard in shards:
        yield shard, clean(shard, settings, secret)
