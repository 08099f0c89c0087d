"""HTTP/1.1 over asyncio, no more than is needed: keep-alive, bodies, streams, connections cut on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

MAXIMUM_BODY = 8 * 1024 * 1024
MAXIMUM_HEAD = 64 * 1024
_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 410: "Gone", 413: "Payload Too Large", 415: "Unsupported Media Type",
    422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """One answer. `stream` is sent in chunks as it comes; `is_cut` drops the connection instead of answering."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    is_cut: bool = False


Answer = Response | Awaitable[Response]
Handler = Callable[[Request], Answer]


class BadRequest(Exception):
    """Bytes that are no HTTP/1.1 request this server reads."""


class Connection(asyncio.Protocol):
    """One client: requests are answered one after the other."""

    def __init__(self, handler: Handler, register: set[Connection]) -> None:
        self._handler = handler
        self._register = register
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._register.add(self)

    def close(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._register.discard(self)
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._task is None and self._transport is not None:
            try:
                request = self._next_request()
            except BadRequest as error:
                self._send(Response(400, str(error).encode(), "text/plain; charset=utf-8"))
                self._transport.close()
                return
            if request is None:
                return
            answer = self._handler(request)
            if isinstance(answer, Response) and answer.stream is None:
                self._send(answer)
                if request.headers.get("connection", "").lower() == "close" and self._transport is not None:
                    self._transport.close()
            else:
                self._task = asyncio.get_running_loop().create_task(self._finish(answer))

    async def _finish(self, answer: Answer) -> None:
        try:
            response = answer if isinstance(answer, Response) else await answer
            if response.stream is None:
                self._send(response)
            else:
                await self._send_stream(response, response.stream)
        finally:
            self._task = None
        self._advance()

    def _next_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAXIMUM_HEAD:
                raise BadRequest("The request's head is too long.")
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3:
            raise BadRequest("The request line is malformed.")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body, after = self._body(headers, end + 4)
        if body is None:
            return None
        del self._buffer[:after]
        split = urlsplit(words[1])
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        return Request(words[0], unquote(split.path), query, headers, body)

    def _body(self, headers: dict[str, str], start: int) -> tuple[bytes | None, int]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked_body(start)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAXIMUM_BODY:
            raise BadRequest("The request's body is too long.")
        end = start + int(length)
        return (bytes(self._buffer[start:end]), end) if len(self._buffer) >= end else (None, 0)

    def _chunked_body(self, start: int) -> tuple[bytes | None, int]:
        out, at = bytearray(), start
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                return None, 0
            try:
                size = int(self._buffer[at:line_end].split(b";")[0], 16)
            except ValueError as error:
                raise BadRequest("A chunk's size is malformed.") from error
            at = line_end + 2
            if len(self._buffer) < at + size + 2:
                return None, 0
            out += self._buffer[at : at + size]
            at += size + 2
            if len(out) > MAXIMUM_BODY:
                raise BadRequest("The request's body is too long.")
            if size == 0:
                return bytes(out), at

    def _send(self, response: Response) -> None:
        transport = self._transport
        if transport is None:
            return
        if response.is_cut:
            transport.abort()
            return
        head = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Status')}"]
        head.append(f"Content-Type: {response.content_type}")
        head.append(f"Content-Length: {len(response.body)}")
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        transport.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + response.body)

    async def _send_stream(self, response: Response, stream: AsyncIterator[bytes]) -> None:
        transport = self._transport
        if transport is None:
            return
        head = f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\nContent-Type: {response.content_type}\r\n"
        transport.write((head + "Transfer-Encoding: chunked\r\n\r\n").encode("latin-1"))
        async for data in stream:
            if self._transport is None:
                return
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._can_write.wait()
        transport.write(b"0\r\n\r\n")
