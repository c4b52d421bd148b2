"""The one thread that a served model works in: questions wait in line for it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from wikigpt.chat.session import Answer, ChatSession
from wikigpt.errors import UserError
from wikigpt.tokens import Message

MOST_WAITING = 16
Usage = dict[str, int]  # numbers of tokens, by OpenAI's names for them
Piece = str | tuple[Answer, Usage]


class Busy(UserError):
    """So many questions wait already that one more would wait too long."""


class Worker:
    """Answers one question at a time; `session` makes the conversation that each begins with."""

    def __init__(self, session: Callable[[], ChatSession]) -> None:
        self.session = session
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "model")

    async def answer(self, messages: Sequence[Message], settings: dict[str, object]) -> AsyncGenerator[Piece, None]:
        """Yield the answer to the last message piece by piece, then the whole with its numbers of tokens.

        Closed early, as when a client goes away, it stops the model after the token it is at.

        Args:
            settings: fields of `ChatSettings`.

        Raises:
            Busy: too many wait; the other errors are those of the session.
        """
        if self.waiting >= MOST_WAITING:
            raise Busy(f"{self.waiting} questions wait already; try again in a few seconds.")
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        gone = threading.Event()

        def tell(piece: Piece | Exception) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def work() -> None:
            try:
                if gone.is_set():
                    return
                session = self.session()
                for name, value in settings.items():
                    setattr(session.settings, name, value)
                session.take_over(messages[:-1])
                spoken = session.stream(messages[-1]["content"])
                for piece in spoken:
                    if gone.is_set():
                        spoken.close()
                        return
                    tell(piece)
                assert session.last is not None
                asked = session.engine.count_tokens(list(messages))
                said = session.engine.count_tokens(session.last.text) - session.engine.count_tokens("")
                tell((session.last, {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}))
            except Exception as error:  # whatever it is, it belongs to the request and not to this thread
                tell(error)

        self.waiting += 1
        done = self._thread.submit(work)
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(self._one_less))
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if isinstance(piece, tuple):
                    return
        finally:
            gone.set()

    def _one_less(self) -> None:
        self.waiting -= 1
