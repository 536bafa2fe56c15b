"""A client of chat completions that judges what it gets, for measurements that count broken answers.

Standard library only; asyncio, plain sockets, a connection for each request. Imported by the scripts beside it.
"""

import asyncio
import contextlib
import dataclasses
import http.client
import io
import json
import re
import time

PATH = "/v1/chat/completions"
DEADLINE_S = 10


@dataclasses.dataclass
class Answer:
    """What became of one request."""

    asked: float
    took: float
    served_by: str
    problem: str
    is_hideable: bool


async def ask(port, tokens, is_streamed, is_bad):
    """One request on a connection of its own, to its end or the client's deadline."""
    question = {"model": "gpt-4o", "stream": is_streamed, "messages": [{"role": "user", "content": "Tell me more."}]}
    if is_bad:
        del question["model"]
    body = json.dumps(question).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: api\r\nUser-Agent: measured\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    asked, got = time.monotonic(), bytearray()

    async def exchange():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(head.encode() + body)
            while piece := await reader.read(1 << 16):
                got.extend(piece)

    problem = None
    try:
        await asyncio.wait_for(exchange(), DEADLINE_S)
    except asyncio.TimeoutError:
        problem = f"no end within {DEADLINE_S} s"
    except OSError as error:
        problem = f"the connection broke: {error.strerror}"
    took = time.monotonic() - asked
    status, served_by, wrong = judge(bytes(got), tokens, is_streamed, is_bad)
    return Answer(asked, took, served_by, problem or wrong, status != 200)


class Received:
    """Bytes as `http.client` wants them."""

    def __init__(self, data):
        self.data = data

    def makefile(self, *_):
        return io.BytesIO(self.data)


def judge(got, tokens, is_streamed, is_bad):
    """Status, who answered, and what is wrong with the answer (`None`: nothing)."""
    if not got:
        return None, "", "no byte"
    try:
        answer = http.client.HTTPResponse(Received(got), method="POST")
        answer.begin()
    except (OSError, http.client.HTTPException) as error:
        return None, "", f"not an answer: {error!r}"
    served_by = answer.headers.get("x-mock", "")
    if is_bad:
        return answer.status, served_by, None if answer.status == 400 else f"status {answer.status} instead of 400"
    if answer.status != 200:
        return answer.status, served_by, f"status {answer.status}"
    try:
        text = answer.read().decode()
        wrong = wrong_with_stream(text, tokens) if is_streamed else wrong_with_completion(json.loads(text))
    except http.client.IncompleteRead:
        wrong = "the answer is cut"
    except (ValueError, LookupError, TypeError) as error:
        wrong = f"not a completion: {type(error).__name__}"
    return 200, served_by, wrong


def wrong_with_stream(text, tokens):
    pieces, is_done = 0, False
    for data in re.findall(r"^data: (.*)$", text, re.M):
        if data == "[DONE]":
            is_done = True
            continue
        event = json.loads(data)
        if "error" in event:
            return "an error in the stream"
        pieces += bool(event["choices"][0]["delta"].get("content"))
    return None if is_done and pieces == tokens else f"{pieces} pieces of {tokens}"


def wrong_with_completion(completion):
    if "error" in completion:
        return "an error with status 200"
    return None if completion["choices"][0]["message"]["content"] else "an empty completion"
