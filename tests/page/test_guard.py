"""The guard against requests of every bad kind, before an application that says yes to all."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.page import guard
from mmreid_text.page.guard import MAX_BODY, Guard

JOIN = "/gradio_api/queue/join"


def ask(path, method="GET", body=b"{}", headers=(), hosts=None, parts=None):
    """Status, headers, body and what reached the application behind: None, or the body that it got."""
    reached, sent = [], []

    async def behind(scope, receive, send):
        message = await receive() if method == "POST" else {}
        reached.append(message.get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    pieces = [body] if parts is None else list(parts)
    messages = [
        {"type": "http.request", "body": piece, "more_body": i + 1 < len(pieces)} for i, piece in enumerate(pieces)
    ]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    named = [(b"host", b"127.0.0.1:7860"), *((name.encode(), value.encode()) for name, value in headers)]
    scope = {"type": "http", "method": method, "path": path, "headers": named}
    asyncio.run(Guard(behind, hosts)(scope, receive, send))
    got = dict(sent[0]["headers"])
    return sent[0]["status"], got, sent[1]["body"], reached[0] if reached else None


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/data", "/theme.css"])
def test_what_the_page_needs_is_passed_on_with_a_policy(path):
    status, headers, body, _ = ask(path)
    assert (status, body) == (200, b"yes")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/gradio_api/file=/etc/passwd", "GET"),
        ("/gradio_api/file/etc/passwd", "GET"),
        ("/file=/etc/passwd", "GET"),
        ("/gradio_api/proxy=http://127.0.0.1:22/", "GET"),
        ("/gradio_api/upload", "POST"),
        ("/gradio_api/run/predict", "POST"),
        ("/gradio_api/call/search", "POST"),
        ("/gradio_api/component_server", "POST"),
        ("/gradio_api/vibe-edit", "POST"),
        ("/gradio_api/stream/1/2/3/playlist.m3u8", "GET"),
        ("/monitoring/summary", "GET"),
        ("/assets/../../../../etc/passwd", "GET"),
        ("/static/..\\..\\secret", "GET"),
        ("/svelte/\0", "GET"),
        ("/config", "PUT"),
        (JOIN, "GET"),
    ],
)
def test_all_else_is_not_there(path, method):
    status, _, body, reached = ask(path, method)
    assert (status, reached) == (404, None)
    assert body == b"There is nothing here.\n"


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_no_other_path_is_passed_on(path):
    known = path in guard._READ or (path.startswith(guard._READ_BELOW) and ".." not in path)
    assert ask(f"/{path}" if known else f"/gradio_api/file={path}")[0] == 404


def test_bodies_arrive_as_they_were_sent():
    body = json.dumps({"data": ["a"], "fn_index": 1}).encode()
    assert ask(JOIN, "POST", body)[3] == body
    assert ask(JOIN, "POST", rb'["\ud83d\ude00 \u00e9"]')[0] == 200
    assert ask(JOIN, "POST", parts=[body[:5], body[5:], b""])[3] == body


def test_large_bodies_are_refused_by_what_they_state_and_by_what_they_are():
    assert ask(JOIN, "POST", headers=[("content-length", str(50_000_000))])[::3] == (413, None)
    assert ask(JOIN, "POST", headers=[("content-length", "-1")])[::3] == (413, None)
    assert ask(JOIN, "POST", parts=[b" " * 1_000_000] * (MAX_BODY // 1_000_000 + 1))[::3] == (413, None)
    fits = b'{"data": "' + b"a" * (MAX_BODY - 12) + b'"}'
    assert ask(JOIN, "POST", fits, [("content-length", str(len(fits)))])[3] == fits


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1',
        rb'["\ud800"]',
        rb'{"a": {"\udfff": 1}}',
        b'"' + b"\xed\xa0\x80" + b'"',
    ],
)
def test_what_is_no_json_is_refused(body):
    assert ask(JOIN, "POST", body)[::3] == (400, None)


@pytest.mark.parametrize(
    "value",
    [
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://10.0.0.1/", "me\\u0074a": {"_type": "gradio.FileData"}},
        [[[{"x": {"path": "/etc/passwd", "url": "x", "meta": 1}}]]],
    ],
)
def test_requests_that_name_files_are_refused(value):
    body = json.dumps({"data": [value]}).replace("\\\\u", "\\u").encode()
    assert ask(JOIN, "POST", body)[::3] == (400, None)


def test_a_body_that_ends_early_or_never_is_refused(monkeypatch):
    assert ask(JOIN, "POST", parts=())[::3] == (400, None)
    monkeypatch.setattr(guard, "_PATIENCE", 0.01)

    async def never():
        await asyncio.sleep(1)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": JOIN, "headers": []}
    asyncio.run(Guard(None)(scope, never, send))
    assert sent[0]["status"] == 408


def test_pages_of_other_hosts_may_not_search():
    for origin, status in (
        ("http://127.0.0.1:7860", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:7860.evil.example", 403),
    ):
        assert ask(JOIN, "POST", headers=[("origin", origin)])[0] == status


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:7860", 200), ("[::1]:7860", 200), ("evil.example", 421), ("", 421)]
)
def test_the_page_goes_by_its_own_names_alone(host, status):
    assert ask("/", headers=[("host", host)], hosts=("localhost", "[::1]"))[0] == status
    assert ask("/", headers=[("host", host)])[0] == 200


def test_web_sockets_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(None)({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
