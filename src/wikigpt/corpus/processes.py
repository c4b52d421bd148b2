"""Shards cleaned by several processes of this machine."""

import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from types import ModuleType

from wikigpt.corpus.cleaned import Cleaned, Settings
from wikigpt.corpus.shards import Shard
from wikigpt.corpus.survivors import Clean, PutDown, Results, alone

_THREADS = "OPENBLAS_NUM_THREADS"


def in_processes(
    shards: Iterable[Shard],
    settings: Settings,
    secret: bytes | None,
    workers: int,
    clean: Clean,
    put_down: PutDown | None,
) -> Results:
    """Clean shards by `clean` in so many processes; see `executors.clean_all` for `put_down`."""
    waiting: deque[tuple[Shard, Future[Cleaned]]] = deque()
    pool = _pool(workers)

    def submit(shard: Shard) -> None:
        try:
            with _as_children_start():
                task = pool.submit(_clean_and_put_down, shard, settings, secret, clean, put_down)
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
            cleaned = alone(shard, lambda piece: _in_one_process(piece, settings, secret, clean), settings)
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


def _clean_and_put_down(
    shard: Shard, settings: Settings, secret: bytes | None, clean: Clean, put_down: PutDown | None
) -> Cleaned:
    cleaned = clean(shard, settings, secret)
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
