"""The HTTP back end against a server that misbehaves, over real connections."""

import asyncio
import json
import time
from functools import partial

import pytest
from caption_server import MAGIC, Behaviour, caption_of, caption_server

from mmreid_text.captioning.backends import BackendError, CaptionRequest, OpenAIServer
from mmreid_text.captioning.backends.openai_server import _seconds

KEY = "sk-a-secret-that-nobody-may-see"
QUICK = dict(model="tiny", backoff=0.01, max_backoff=0.1, give_up_after=20.0)


def request(number, attempt=0, instruction="Describe the person."):
    content = MAGIC + f"image {number}".encode()
    return CaptionRequest(f"{number}.jpg", lambda: content, instruction, None, "Ts-x", 0, attempt)


def ask(requests, *urls, **options):
    async def run():
        async with OpenAIServer(list(urls), **{**QUICK, **options}) as backend:
            return await asyncio.gather(*(backend.caption(r) for r in requests))

    return asyncio.run(run())


def test_a_caption_and_its_tokens():
    with caption_server(Behaviour()) as server:
        (answer,) = ask([request(7)], server.url)
    assert (answer.text, answer.error) == (caption_of(7, "static"), None)
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)


@pytest.mark.parametrize("fault", ["delay", "drop", "cut short", "429", "500", "malformed", "no choices"])
def test_what_passes_is_tried_again(fault):
    with caption_server(Behaviour(share=0.3, faults=(fault,), delay=1.0)) as server:
        answers = ask([request(i) for i in range(40)], server.url, max_tries=12, read_timeout=0.3)
        stats = server.stats()
    assert [answer.text for answer in answers] == [caption_of(i, "static") for i in range(40)]
    assert stats[fault] >= 3
    assert stats["requests"] > 40


@pytest.mark.parametrize(
    ("fault", "error"), [("empty", "empty"), ("length", "cut"), ("500", "server"), ("malformed",) * 2]
)
def test_errors_are_named(fault, error):
    with caption_server(Behaviour(share=1.0, faults=(fault,))) as server:
        (answer,) = ask([request(0)], server.url, max_tries=3)
        tries = server.stats()["requests"]
    assert answer.error == error
    assert answer.detail
    assert tries == (3 if error in ("server", "malformed") else 1)  # what the model answered is not sent again


def test_a_bad_image_fails_alone():
    with caption_server(Behaviour(bad=frozenset({1}))) as server:
        good, bad = ask([request(0), request(1)], server.url)
        assert server.stats()["requests"] == 2
    assert good.error is None
    assert bad.error == "request"
    assert "HTTP 400" in bad.detail


@pytest.mark.parametrize(("status", "remedy"), [(401, "api_key_env"), (404, "check `model`"), (302, "redirects")])
def test_what_no_request_can_pass_stops_the_job(status, remedy):
    with caption_server(Behaviour(status=status)) as server, pytest.raises(BackendError, match=remedy):
        ask([request(0)], server.url)


def test_requests_that_are_all_refused_stop_the_job_before_they_fail_every_image():
    with caption_server(Behaviour(status=400)) as server:
        with pytest.raises(BackendError, match=r"HTTP 400.* So were all 32 requests"):
            ask([request(i) for i in range(100)], server.url, concurrency=64)
        assert server.stats()["requests"] < 100


def test_an_outage_is_waited_for_and_costs_no_caption():
    with caption_server(Behaviour(down_for=12)) as server:
        answers = ask([request(i) for i in range(30)], server.url, concurrency=4, max_tries=6)
    assert all(answer.error is None for answer in answers)


def test_an_outage_without_end_stops_the_job():
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"No request to http://127\.0\.0\.1:9/v1 has succeeded"):
        ask([request(i) for i in range(8)], "http://127.0.0.1:9/v1", give_up_after=0.3, max_tries=1000)
    assert time.monotonic() - started < 20


def test_a_dead_endpoint_leaves_the_work_to_the_others():
    with caption_server(Behaviour()) as first, caption_server(Behaviour()) as second:
        urls = [first.url, "http://127.0.0.1:9/v1", second.url]
        answers = ask([request(i) for i in range(200)], *urls, concurrency=8)
        shares = first.stats()["requests"], second.stats()["requests"]
    assert all(answer.error is None for answer in answers)
    assert sum(shares) == 200
    assert min(shares) > 60


def test_load_goes_to_the_free_endpoint():
    slow, quick = Behaviour(share=1.0, faults=("delay",), delay=0.5), Behaviour()
    with caption_server(slow) as first, caption_server(quick) as second:
        ask([request(i) for i in range(100)], first.url, second.url, concurrency=4)
        assert first.stats()["requests"] <= 12
        assert first.stats()["busiest"] <= 4
        assert second.stats()["busiest"] <= 4


def test_retry_after_is_kept():
    behaviour = Behaviour(share=0.2, faults=("429",), retry_after="0.4")
    with caption_server(behaviour) as server:
        started = time.monotonic()
        answers = ask([request(i) for i in range(10)], server.url, concurrency=1)
        refusals = server.stats()["429"]
        assert time.monotonic() - started >= 0.4 * refusals
    assert refusals > 0
    assert all(answer.error is None for answer in answers)


@pytest.mark.parametrize("pause", ["0", None])
def test_a_limit_without_end_is_asked_about_seldom_and_stops_the_job(pause):
    behaviour = Behaviour(share=1.0, faults=("429",), retry_after=pause)
    with caption_server(behaviour) as server:
        with pytest.raises(BackendError, match=r"has succeeded for .* HTTP 429.*wait for their limits"):
            ask([request(0)], server.url, give_up_after=0.4, backoff=0.1, max_backoff=0.1, max_tries=1)
        assert 2 <= server.stats()["requests"] <= 10


def test_a_pace_is_kept():
    with caption_server(Behaviour()) as server:
        ask([request(i) for i in range(13)], server.url, requests_per_minute=1200)
        assert server.stats()["milliseconds"] >= 0.9 * 12 * 50


def test_retry_after_reads_seconds_and_dates():
    assert _seconds("2.5") == 2.5
    assert _seconds("-3") == 0
    assert _seconds("1e9") == 600
    assert _seconds("Wed, 21 Oct 2099 07:28:00 GMT") == 600
    assert [_seconds(text) for text in (None, "", "soon", "nan")] == [None] * 4


def test_the_key_is_sent_and_told_nowhere(monkeypatch):
    monkeypatch.setenv("CAPTION_TEST_KEY", KEY)
    told = []
    for behaviour in (
        Behaviour(key=KEY, echo=True),
        Behaviour(key=KEY, echo=True, bad=frozenset({0})),
        *(Behaviour(key=KEY, echo=True, share=1.0, faults=(f,)) for f in ("500", "malformed", "429", "length")),
    ):
        with caption_server(behaviour) as server:
            limits = dict(max_tries=2, give_up_after=0.3)
            try:
                told += ask([request(0)], server.url, api_key_env="CAPTION_TEST_KEY", **limits)
            except BackendError as stopped:
                told.append(stopped)
    with caption_server(Behaviour(status=403, echo=True)) as server, pytest.raises(BackendError) as stopped:
        ask([request(0)], server.url, api_key_env="CAPTION_TEST_KEY")
    backend = OpenAIServer("http://localhost/v1", "tiny", api_key_env="CAPTION_TEST_KEY")
    told += [stopped.value, backend.facts]
    text = " ".join(map(repr, told))
    assert "***" in text
    assert KEY not in text


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (dict(endpoints="localhost:8000"), "must be a URL"),
        (dict(endpoints="http://user:pass@host/v1"), "user, password or query"),
        (dict(endpoints="http://host/v1?key=abc"), "user, password or query"),
        (dict(endpoints=[]), "endpoints is empty"),
        (dict(concurrency=0), "concurrency=0 must be positive"),
        (dict(requests_per_minute=-1), "requests_per_minute=-1 must be positive"),
        (dict(api_key_env="CAPTION_NO_SUCH_KEY"), "CAPTION_NO_SUCH_KEY.* is not set"),
        (dict(api_key_env="sk-secret"), "must name an environment variable"),
        (dict(api_key_env="hf_secret"), "must name an environment variable"),
    ],
)
def test_bad_options_are_refused(options, rule):
    with pytest.raises(ValueError, match=rule) as refused:
        OpenAIServer(**{"endpoints": "http://host/v1", "model": "tiny", **options})
    assert "pass@" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_body_can_be_extended_and_cut():
    backend = OpenAIServer("http://host/v1", "tiny", extra={"seed": None, "top_p": 0.9})
    body = json.loads(backend._body(request(3), b"\x89PNG..."))
    assert "seed" not in body
    assert (body["top_p"], body["model"]) == (0.9, "tiny")
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_attempts_are_sampled_apart():
    seeds = {request(i, attempt).sampling_seed() for i in range(10) for attempt in range(3)}
    assert len(seeds) == 30
    assert request(1).sampling_seed() == request(1).sampling_seed()
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_unreadable_file_is_no_connection_error(tmp_path):
    from mmreid_text.captioning.backends import UnreadableImage

    gone = CaptionRequest("x.jpg", partial((tmp_path / "x.jpg").read_bytes), "Describe.", None, "Ts-x", 0, 0)
    with pytest.raises(UnreadableImage, match=r"x\.jpg"):
        ask([gone], "http://127.0.0.1:9/v1")
