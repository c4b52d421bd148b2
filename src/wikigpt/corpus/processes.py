"""Shards cleaned by several processes of this machine.

Each process has a pipe of its own and a thread here that hands it one shard at a time. Pools whose processes share a
queue (`concurrent.futures`, `multiprocessing.Pool`) wait forever if one dies while it holds the queue's lock or has
sent half a result; here such a pipe just ends, and it is known on which shard the process died.
"""

import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, TypeVar

from wikigpt.corpus.cleaned import Cleaned, Settings
from wikigpt.corpus.shards import Shard
from wikigpt.corpus.survivors import Clean, PutDown, Results, alone

T = TypeVar("T")
_THREADS = "OPENBLAS_NUM_THREADS"
_SPAWN = get_context("spawn")  # works everywhere and does not copy a parent that has threads
_starting = threading.Lock()


def in_processes(
    shards: Iterable[Shard],
    settings: Settings,
    secret: bytes | None,
    workers: int,
    clean: Clean,
    put_down: PutDown | None,
) -> Results:
    """Clean shards by `clean` in so many processes; see `executors.clean_all` for `put_down`."""
    idle = [_Process() for _ in range(workers)]  # as many as there are threads
    threads = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Shard, Future[Cleaned]]] = deque()

    def work(shard: Shard) -> Cleaned:
        process = idle.pop()
        try:
            cleaned = process.call(_clean_and_put_down, shard, settings, secret, clean, put_down)
            if cleaned is None:
                cleaned = alone(shard, lambda piece: process.call(clean, piece, settings, secret), settings)
            return cleaned
        finally:
            idle.append(process)

    def result() -> tuple[Shard, Cleaned]:
        shard, future = waiting.popleft()
        return shard, future.result()

    try:
        for shard in shards:
            waiting.append((shard, threads.submit(work, shard)))
            if len(waiting) > 2 * workers:
                yield result()
        while waiting:
            yield result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
        for process in idle:
            process.end()


def _clean_and_put_down(
    shard: Shard, settings: Settings, secret: bytes | None, clean: Clean, put_down: PutDown | None
) -> Cleaned:
    cleaned = clean(shard, settings, secret)
    return put_down(shard.number, cleaned) if put_down else cleaned


class _Process:
    """Another process that does one thing at a time; it starts with the first one, and anew when it has died."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., T], *arguments: object) -> T | None:
        """What the function returns there; None if the process dies of it. What it raises there is raised here."""
        pipe = self._pipe or self._start()
        try:
            pipe.send((function, arguments))
            returned, raised = pipe.recv()
        except (EOFError, OSError):
            self.end()
            return None
        if raised is not None:
            raise raised
        result: T = returned
        return result

    def end(self) -> None:
        """End the process, which has nothing to do or is dead."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.join()
            self._pipe = None

    def _start(self) -> Connection:
        ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        with _starting, _as_children_start():
            self._process.start()
        theirs.close()  # the process holds the only other one, so that this end hears of its death
        self._pipe = ours
        return ours


def _serve(pipe: Connection) -> None:
    """Call the functions that come out of the pipe, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        returned: Any = None
        raised: Exception | None = None
        try:
            returned = function(*arguments)
        except Exception as error:
            error.add_note(f"in another process:\n{traceback.format_exc()}")
            raised = error
        pipe.send((returned, raised))


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
