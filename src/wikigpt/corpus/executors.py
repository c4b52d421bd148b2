"""Where shards are cleaned: in this process, in several, or on a Ray cluster. The results are the same."""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from types import ModuleType
from typing import Any, Literal

from wikigpt.corpus.clean import Cleaned, Settings, clean_shard, join, skipped_page
from wikigpt.corpus.shards import Shard, halves
from wikigpt.errors import UserError

_THREADS = "OPENBLAS_NUM_THREADS"

Clean = Callable[[Shard, Settings, bytes | None], Cleaned]
Executor = Literal["process", "ray"]
PutDown = Callable[[int, Cleaned], Cleaned]
Results = Generator[tuple[Shard, Cleaned], None, None]


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
        return _on_ray(shards, settings, secret, clean)
    if workers <= 1:
        return _here(shards, settings, secret, clean)
    return _in_processes(shards, settings, secret, workers, clean, put_down)


def _here(shards: Iterable[Shard], settings: Settings, secret: bytes | None, clean: Clean) -> Results:
    for shard in shards:
        yield shard, clean(shard, settings, secret)


def _in_processes(
    shards: Iterable[Shard],
    settings: Settings,
    secret: bytes | None,
    workers: int,
    clean: Clean,
    put_down: PutDown | None,
) -> Results:
    waiting: deque[tuple[Shard, Future[Cleaned]]] = deque()
    pool = _pool(workers)

    def submit(shard: Shard) -> None:
        try:
            with _as_children_start():
                task = pool.submit(_clean_referred, shard.reference(), settings, secret, clean, put_down)
                waiting.append((shard, task))
        except BrokenProcessPool:  # a shard before it has killed a process meanwhile
            waiting.append((shard, _broken()))

    def result() -> tuple[Shard, Cleaned]:
        nonlocal pool
        shard, future = waiting.popleft()
        try:
            return shard, future.result()
        except BrokenProcessPool:
            # Nobody knows which of the shards under way did it: this one goes alone, the others start anew.
            pool.shutdown(wait=True, cancel_futures=True)
            pool = _pool(workers)
            others = [later for later, _ in waiting]
            waiting.clear()
            cleaned = _alone(shard, lambda piece: _in_one_process(piece, settings, secret, clean), settings)
            for other in others:
                submit(other)
            return shard, cleaned

    try:
        for shard in shards:
            submit(shard)
            if len(waiting) > 2 * workers:
                yield result()
        while waiting:
            yield result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    # "spawn" works everywhere and does not copy a parent that has threads.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt)


def _clean_referred(
    shard: Shard, settings: Settings, secret: bytes | None, clean: Clean, put_down: PutDown | None
) -> Cleaned:
    cleaned = clean(shard.with_data(), settings, secret)
    return put_down(shard.number, cleaned) if put_down else cleaned


def _broken() -> "Future[Cleaned]":
    future: Future[Cleaned] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _in_one_process(shard: Shard, settings: Settings, secret: bytes | None, clean: Clean) -> Cleaned | None:
    """Clean a shard in a process of its own; None if that dies."""
    with _pool(1) as pool, _as_children_start():
        try:
            return pool.submit(clean, shard, settings, secret).result()
        except BrokenProcessPool:
            return None


def _alone(shard: Shard, attempt: Callable[[Shard], Cleaned | None], settings: Settings) -> Cleaned:
    """Clean a shard on which a process died, without the page that kills, if there is one."""
    cleaned = attempt(shard)
    if cleaned is not None:
        return cleaned
    parts = halves(shard)
    if parts is None:
        return skipped_page(shard, "the process that cleaned it died", settings)
    first, second = parts
    return join(_alone(first, attempt, settings), _alone(second, attempt, settings))


@contextmanager
def _as_children_start() -> Iterator[None]:
    """Keep processes that start here from running the caller's script again, and from starting NumPy's threads.

    "spawn" imports the parent's main module in each child, so that a script without an
    `if __name__ == "__main__"` guard, or one read from stdin, would fail. Ours need nothing from it. The threads are
    OpenBLAS's, which nothing here calls; waiting for work from the first on, they take 50 ms of a core.
    """
    main, before = sys.modules["__main__"], os.environ.get(_THREADS)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def _ignore_interrupt() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_ray(shards: Iterable[Shard], settings: Settings, secret: bytes | None, clean: Clean) -> Results:
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
        return shard, cleaned if cleaned is not None else _alone(shard, attempt, settings)

    try:
        for shard in shards:
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
