"""`wikigpt serve`: a real server, asked by the client that everybody uses."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from conftest import served

QUESTION = {"role": "user", "content": "What is the capital of France?"}


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served(run) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=address + "/v1", api_key="any", max_retries=0)


def test_a_grounded_answer_comes_with_its_sources(client, run):
    reply = client.chat.completions.create(model="any", messages=[QUESTION])
    message = reply.choices[0].message.model_dump()
    assert message["sources"][0]["title"] == "France" and "revision" in message["sources"][0]
    assert reply.choices[0].finish_reason == "stop" and reply.usage.prompt_tokens > 5 < reply.usage.completion_tokens
    assert [model.id for model in client.models.list()] == [run.name]


def test_a_stream_says_the_same_and_ends_as_clients_expect(client):
    asked = {"model": "any", "messages": [QUESTION], "extra_body": {"grounded": False}, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    chunks = [*client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})]
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert chunks[0].choices[0].delta.role == "assistant" and len(deltas) > 5
    assert "".join(deltas) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_stop_and_length_end_an_answer(client):
    free = {"model": "any", "messages": [QUESTION], "extra_body": {"grounded": False}}
    cut = client.chat.completions.create(**free, max_tokens=3).choices[0]
    assert cut.finish_reason == "length"
    said = client.chat.completions.create(**free, max_tokens=30).choices[0].message.content
    stopped = client.chat.completions.create(**free, max_tokens=30, stop=said[5:8]).choices[0].message.content
    assert stopped == said[: said.index(said[5:8])]


def test_a_follow_up_finds_its_subject_in_the_messages(client):
    told = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And its currency?"},
    ]
    sources = client.chat.completions.create(model="any", messages=told).choices[0].message.model_dump()["sources"]
    assert [source["title"] for source in sources] == ["France"]
    alone = client.chat.completions.create(model="any", messages=told[2:]).choices[0].message.model_dump()["sources"]
    assert not alone


def test_an_answer_is_json_of_the_schema_that_was_asked_for(client):
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
        "required": ["capital", "sure"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    reply = client.chat.completions.create(model="any", messages=[QUESTION], response_format=wanted)
    told = json.loads(reply.choices[0].message.content)
    assert isinstance(told.pop("capital"), str) and isinstance(told.pop("sure"), bool) and not told
    streamed = client.chat.completions.create(model="any", messages=[QUESTION], response_format=wanted, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in streamed]
    assert "".join(pieces) == reply.choices[0].message.content


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, "the last message has to be the user's"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "the question is empty"),
        ({"messages": [{"role": "user", "content": "word " * 3000}], "extra_body": {"grounded": False}}, "Shorten it"),
        ({"temperature": -1}, "temperature"),
        ({"n": 2}, "n: "),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "odd"}}}},
            "json_schema: .*odd",
        ),
    ],
)
def test_what_is_wrong_is_said(client, changed, says):
    with pytest.raises(openai.BadRequestError, match=says):
        client.chat.completions.create(**{"model": "any", "messages": [QUESTION]} | changed)
    with pytest.raises(openai.BadRequestError, match=says):
        client.chat.completions.create(**{"model": "any", "messages": [QUESTION], "stream": True} | changed)


def test_requests_that_are_none(address):
    def status(path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]["message"]

    assert status("/health") == (200, '{"status":"ok"}')
    assert status("/v2")[0] == 404
    assert status("/v1/chat/completions", b"{not json")[0] == 400
    assert status("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "\xff"}]}')[0] == 400
    for head, code in (
        (b"GET /v1/models HTTP/1.1\r\nHost: evil.example", 400),  # a page that has its name point here
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001", 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", 411),
    ):
        with socket.create_connection(("127.0.0.1", int(address.split(":")[-1]))) as raw:
            raw.sendall(head + b"\r\nContent-Type: application/json\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 %d" % code)


def test_a_client_that_goes_away_lets_the_next_one_in(client):
    free = {"model": "any", "messages": [QUESTION], "extra_body": {"grounded": False}, "temperature": 2}
    for _ in range(20):  # more than may wait
        stream = client.chat.completions.create(**free, stream=True, max_tokens=60_000)
        next(iter(stream))
        stream.close()
    begin = time.monotonic()
    client.chat.completions.create(model="any", messages=[QUESTION])
    assert time.monotonic() - begin < 10


def test_a_key_is_asked_for(run):
    with served(run, "--api-key", "secret") as address:
        with pytest.raises(openai.AuthenticationError, match="asks for its key"):
            openai.OpenAI(base_url=address + "/v1", api_key="wrong", max_retries=0).models.list()
        assert [*openai.OpenAI(base_url=address + "/v1", api_key="secret").models.list()]


def test_where_it_cannot_listen(run):
    def said(*options: str) -> str:
        command = [sys.executable, "-m", "wikigpt", "serve", str(run), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "needs a key" in said("--host", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "give another --port" in said("--port", str(taken.getsockname()[1]))
