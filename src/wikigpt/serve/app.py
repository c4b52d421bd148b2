"""The HTTP server: `/v1/chat/completions`, `/v1/models` and `/health`, as OpenAI's clients and llama-server know them.

Answers stand on the wiki where the model has one. What they stand on comes along as `sources`, and what was worked out
as `tools`, in the message (in the last piece of a stream), which clients that do not know them leave aside;
`"grounded": false` asks for the model alone.
"""

import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, field_validator, model_validator
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from wikigpt.chat.session import Answer, ChatSession
from wikigpt.errors import UserError
from wikigpt.serve.worker import Busy, Piece, Usage, Worker
from wikigpt.tokens import Message

MOST_BYTES = 1_000_000  # of a request: a context of thousands of tokens has some 10 kB
LOCAL = ("127.0.0.1", "localhost", "::1")


class Part(BaseModel):
    """A piece of a message; there are no images here."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message, its content as a string or as parts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> Message:
        """The message as a model is given it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(BaseModel):
    """What a stream ends with."""

    include_usage: bool = False


class Schema(BaseModel):
    """A JSON schema, by OpenAI's name for it."""

    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """The form of an answer: free, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self

    def schema_wanted(self) -> dict[str, Any] | None:
        """The schema to keep to, if any."""
        if self.type == "json_schema" and self.json_schema is not None:
            return self.json_schema.schema_
        return {"type": "object"} if self.type == "json_object" else None


class ChatRequest(BaseModel):
    """The fields of OpenAI's request that mean something here, with its bounds; others are passed over."""

    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    max_tokens: int | None = Field(None, ge=1, le=65_536)
    max_completion_tokens: int | None = Field(None, ge=1, le=65_536)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = Field(None, max_length=400)
    response_format: ResponseFormat | None = None
    grounded: bool | None = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError("the last message has to be the user's")
        return messages

    def settings(self) -> dict[str, Any]:
        """What it changes of `ChatSettings`."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        given = {
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": stop or None,
            "json_schema": self.response_format.schema_wanted() if self.response_format else None,
            "grounded": self.grounded,
        }
        return {name: value for name, value in given.items() if value is not None}


def create_app(session: Callable[[], ChatSession], name: str, *, host: str = LOCAL[0], api_key: str = "") -> FastAPI:
    """The server's application.

    Args:
        session: makes a conversation that nothing was said in yet.
        name: what the model is called.
        host: the address it listens at; a browser that was led here under another name is refused.
        api_key: asked for as a bearer token, unless it is empty.
    """
    app = FastAPI(title="WikiGPT", docs_url=None, redoc_url=None, openapi_url=None)
    worker = Worker(session)
    created = int(time.time())

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if api_key and request.url.path != "/health" and not secrets.compare_digest(given.encode(), api_key.encode()):
            return _error(401, "this server asks for its key, as `Authorization: Bearer KEY`.", "invalid_api_key")
        if request.method == "POST":
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                return _error(411, "the request does not say how long it is (Content-Length).", "length_required")
            if int(length) > MOST_BYTES:
                return _error(413, f"the request has {length} bytes; {MOST_BYTES:,} is the most.", "too_large")
        return await call_next(request)

    if host in LOCAL:  # under any other address it has a key
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"])

    @app.exception_handler(HTTPException)
    async def no_such_page(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, f"{error.detail}.", "not_found" if error.status_code == 404 else "refused")

    @app.exception_handler(RequestValidationError)
    async def not_understood(_: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part != "body") or "the request"
        return _error(400, f"{where}: {problem['msg']}.", "invalid_request")

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> Response:
        if isinstance(error, Busy):
            return _error(429, str(error), "busy", {"Retry-After": "5"})
        return _error(400, str(error), "invalid_request")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": created, "owned_by": "wikigpt"}],
        }

    @app.post("/v1/chat/completions")
    async def complete(body: ChatRequest) -> Response:
        messages = [message.plain() for message in body.messages]
        pieces = worker.answer(messages, body.settings())
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        most = body.max_completion_tokens or body.max_tokens
        if body.stream:
            first = await anext(pieces)  # errors that come before anything was said have a status of their own
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return StreamingResponse(_events(first, pieces, head, most, with_usage), media_type="text/event-stream")
        async for piece in pieces:
            if isinstance(piece, tuple):
                answer, usage = piece
        message = {"role": "assistant", "content": answer.text, **_standing_on(answer)}
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(usage, most), "logprobs": None}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    return app


async def _events(
    piece: Piece,
    pieces: AsyncGenerator[Piece, None],
    head: dict[str, Any],
    most: int | None,
    with_usage: bool,
) -> AsyncGenerator[str, None]:
    """An answer as server-sent events: the role, the pieces, why it ended, and the usage where it was asked for."""
    head = {**head, "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], reason: str | None = None) -> str:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    try:
        yield event({"role": "assistant", "content": ""})
        while isinstance(piece, str):
            yield event({"content": piece})
            piece = await anext(pieces)
        answer, usage = piece
        yield event(_standing_on(answer), _finish_reason(usage, most))
        if with_usage:
            yield _event({**head, "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"
    except UserError as error:
        yield _event(_problem(str(error), "invalid_request", 400))
    finally:
        await pieces.aclose()


def _standing_on(answer: Answer) -> dict[str, Any]:
    """What an answer rests on: passages of the wiki, and what was worked out."""
    return {"sources": [asdict(s) for s in answer.sources], "tools": [asdict(use) for use in answer.tools]}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _finish_reason(usage: Usage, most: int | None) -> str:
    return "length" if most is not None and usage["completion_tokens"] >= most else "stop"


def _problem(message: str, code: str, status: int) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "code": code}}


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(_problem(message, code, status), status, headers)
