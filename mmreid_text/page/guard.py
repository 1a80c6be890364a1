"""What stands between strangers and Gradio's server, which can do far more than the page needs."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from mmreid_text.page.gallery_search import MAX_UPLOAD

MAX_BODY = MAX_UPLOAD * 4 // 3 + 100_000
"""Bytes of a request: a picture in base64, and the sentences."""
_PATIENCE = 30  # seconds for a request's body
_READ = (
    *("/", "/config", "/favicon.ico", "/logout", "/manifest.json", "/robots.txt", "/theme.css"),
    *(
        "/gradio_api/queue/data",
        "/gradio_api/startup-events",
        "/gradio_api/theme.css",
        "/login_check",
        "/token",
        "/user",
    ),
)
_READ_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_WRITE = ("/login", "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
_HEADERS = {
    # The page's own script is compiled in the browser, and nothing is fetched from or told to another host.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "SAMEORIGIN",
}

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that is not passed on: HTTP status and what it is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """An ASGI application before another, which passes on only what the page needs.

    Gradio's routes that serve or take files, forward to other hosts or run functions by name are not among it. Bodies
    are read here, up to :data:`MAX_BODY`, and those that name files are refused. Requests from pages of other hosts
    are refused as well, and with ``hosts`` those that call this one by another name, as a page does that has bent its
    own name to the address of this machine.

    Args:
        app: The application behind.
        hosts: Names by which it may be called; None for any.
    """

    def __init__(self, app: App, hosts: tuple[str, ...] | None = None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            self._check(scope)
            body = await _body(scope, receive) if scope["method"] == "POST" else None
            if body is not None and scope["path"] != "/login":
                _check_json(body)
        except Refused as refused:
            await _answer(send, refused)
            return
        await self.app(scope, receive if body is None else _replay(body, receive), _with_headers(send))

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            raise Refused(421, f"This page is open on {', '.join(self.hosts)} alone.")
        origin = headers.get("origin", "")
        if origin and origin.partition("://")[2] != host:
            raise Refused(403, "Another site's page may not search here.")
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD"):
            known = path in _READ or path.startswith(_READ_BELOW)
        else:
            known = method == "POST" and path in _WRITE
        if not known or ".." in path or "\\" in path or "\0" in path:
            raise Refused(404, "There is nothing here.")


def _name(host: str) -> str:
    """Host name without its port."""
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


async def _body(scope: Scope, receive: Receive) -> bytes:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise Refused(413, f"A request has at most {MAX_BODY:,} bytes.")
    parts, size = [], 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), _PATIENCE)
        except asyncio.TimeoutError:
            raise Refused(408, "The request took too long.") from None
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended early.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise Refused(413, f"A request has at most {MAX_BODY:,} bytes.")
        if not message.get("more_body"):
            return b"".join(parts)


def _check_json(body: bytes) -> None:
    """Refuse what is no JSON, halves of characters, which no answer could hold, and the mark of Gradio's files.

    Gradio would take a value with that mark for a file, and fetch it.
    """
    try:
        nodes = [json.loads(body)]
    except (ValueError, RecursionError):
        raise Refused(400, "The request is no JSON.") from None
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if "meta" in node:
                raise Refused(400, "Requests name no files here.")
            nodes.extend((*node, *node.values()))
        elif isinstance(node, list):
            nodes.extend(node)
        elif isinstance(node, str) and not _is_unicode(node):
            raise Refused(400, "The request is no Unicode text.")


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in text)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, then what comes after it."""
    parts = [body]

    async def replayed() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return replayed


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*message.get("headers", ()), *ours]
        await send(message)

    return sent


async def _answer(send: Send, refused: Refused) -> None:
    body = f"{refused.reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),  # whole in one piece, before the connection is closed
        (b"connection", b"close"),
    ]
    await _with_headers(send)({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
