"""Shards cleaned on a Ray cluster."""

import os
from collections import deque
from collections.abc import Iterable
from typing import Any

from wikigpt.corpus.cleaned import Cleaned, Settings
from wikigpt.corpus.shards import Shard
from wikigpt.corpus.survivors import Clean, Results, alone
from wikigpt.errors import UserError


def on_ray(shards: Iterable[Shard], settings: Settings, secret: bytes | None, clean: Clean) -> Results:
    """Clean shards by `clean` on the machines that RAY_ADDRESS names; raises `UserError` where Ray is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage unless told otherwise
    try:
        import ray
    except ImportError:
        raise UserError('--executor ray needs Ray: pip install "wikigpt[ray]".') from None
    started = not ray.is_initialized()
    if started:
        # Joins the cluster that RAY_ADDRESS names, or one that runs here; else starts one on this machine.
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    task = ray.remote(clean).options(max_retries=1)

    def attempt(piece: Shard) -> Cleaned | None:
        return _fetched(ray, task.remote(piece, settings, secret))

    waiting: deque[tuple[Shard, Any]] = deque()

    def result() -> tuple[Shard, Cleaned]:
        shard, reference = waiting.popleft()
        cleaned = _fetched(ray, reference)
        return shard, cleaned if cleaned is not None else alone(shard, attempt, settings)

    try:
        for shard in shards:
            shard = shard.with_data()  # another machine may not have the file
            waiting.append((shard, task.remote(shard, settings, secret)))
            if len(waiting) > 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
                yield result()
        while waiting:
            yield result()
    finally:
        for _, reference in waiting:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _fetched(ray: Any, reference: Any) -> Cleaned | None:
    """A task's result; None if its process or machine died. Exceptions of the task's are raised."""
    try:
        cleaned: Cleaned = ray.get(reference)
        return cleaned
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return None
