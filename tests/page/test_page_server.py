"""The real server, over HTTP and in a real browser: people who search, and people who attack."""

import copy
import json
import logging
import os
import re
import shutil
import socket
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from html import unescape
from pathlib import Path

import pytest
from gallery_crops import inferencer
from page_client import PageClient
from png_bomb import png_bomb

from mmreid_text.apis import Gallery
from mmreid_text.page import GallerySearch, PageServer
from mmreid_text.page.server import check_host, is_loopback
from mmreid_text.procedural.crops import draw_crops

pytest.importorskip("faiss")
pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")
SCREENSHOTS = Path(__file__).parents[2] / "work_dirs/test_screenshots"
CHROMIUM = "/usr/bin/chromium"
SENTENCE = "a woman in a red coat"
SECRET = "the secret beside the gallery"
_SWITCHES = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")


@contextmanager
def served(gallery, **options):
    server = PageServer(GallerySearch(gallery), "the test's gallery", port=0, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page_server")
    draw_crops(folder, 4)
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def gallery(folder):
    return Gallery.build(folder / "crops", inferencer(), folder / "index", metadata=folder / "crops.csv")


@pytest.fixture(scope="module")
def url(gallery):
    with served(gallery) as url:
        yield url


@pytest.fixture
def client(url):
    return PageClient(url)


def shown(answer):
    """Crops of the page, in order."""
    details = re.findall(r'data-event="like" data-detail="([^"]*)"', answer["results"])
    return [json.loads(unescape(detail))["image"] for detail in details]


def test_a_visitor_searches_pages_compares_refines_and_asks_why(client, gallery):
    wanted = [hit.path for hit in gallery.search(SENTENCE, 36)]
    assert shown(client.search(SENTENCE)) == wanted[:16]
    assert shown(client.act("turn", by=1)) == wanted[16:32]
    assert shown(client.act("turn", by=-1)) == wanted[:16]
    why = client.act("why", image=wanted[0], side=0)["why"]
    assert all(word in why for word in ("woman", "red", "coat", 'data-heat="4"'))
    liked = client.act("like", image=wanted[1])
    assert shown(liked)[0] == wanted[1]
    assert "half the sentence" in liked["pictures"]
    assert shown(client.act("drop", number=0)) == wanted[:16]
    both = shown(client.search(SENTENCE, other="a man"))
    assert both == wanted[:8] + [hit.path for hit in gallery.search("a man", 8)]
    mall = shown(client.search(SENTENCE, condition="hour >= 6", domain=["mall"], camera=[1, 2]))
    assert mall == [hit.path for hit in gallery.search(SENTENCE, 16, 'domain == "mall" and camera < 3')]
    assert client.act("example", sentence="a man")["Whom to look for"] == "a man"


def test_a_picture_is_searched_for_and_what_is_none_is_refused(client, gallery):
    path = gallery.search(SENTENCE, 1)[0].path
    data = b64encode((gallery.root / path).read_bytes()).decode()
    assert shown(client.act("upload", name="me.jpg", data=data))[0] == path
    for content, message in (
        (b64encode(png_bomb()).decode(), "30,000 x 30,000 pixels|more than 40,000,000 pixels"),
        (b64encode(b"GIF89a").decode(), "is none of JPEG"),
        ("no base64!", "did not arrive whole"),
        (7, "something strange"),
    ):
        with pytest.raises(RuntimeError, match=message):
            client.act("upload", name="x.png", data=content)
    with pytest.raises(RuntimeError, match="more than 4,000,000 bytes"):
        client.act("upload", name="x.png", size=50_000_000)
    assert shown(client.search(SENTENCE))


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        ("why", {"image": "../secret.txt", "side": 0}),
        ("why", {"image": "/etc/passwd", "side": 0}),
        ("why", {"image": "mall/0000_c1.jpg", "side": 5}),
        ("why", {"image": "mall/0000_c1.jpg", "side": True}),
        ("like", {"image": "mall/../../secret.txt"}),
        ("like", {"image": ["mall"]}),
        ("like", {}),
        ("turn", {"by": "1"}),
        ("drop", {"number": None}),
        ("example", {"sentence": "a" * 3000}),
    ],
)
def test_strange_events_are_refused(client, event, detail):
    client.search(SENTENCE)
    with pytest.raises(RuntimeError) as error:
        client.act(event, **detail)
    assert "root:" not in str(error.value)
    assert shown(client.search(SENTENCE))


def test_strange_sentences_and_conditions_are_refused_or_found_harmless(client):
    for sentence, options in (
        ("", {}),
        (" ", {}),
        ("a" * 2001, {}),
        ("a", {"condition": "__import__('os').system('x')"}),
        ("a", {"condition": "(" * 1500}),
        ("a", {"domain": ["moon"]}),
    ):
        with pytest.raises(RuntimeError):
            client.search(sentence, **options)
    assert "<script>" not in client.search("<script>alert(1)</script>", other="{{value}}")["results"]


@pytest.mark.parametrize("form", ["{}", "/{}", "..%2f..%2f{}", "%2e%2e/%2e%2e/{}", "%252e%252e%252f{}", "..%5c..%5c{}"])
@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/"]
)
def test_no_file_is_read_through_a_path(url, folder, route, form):
    for file in (folder / "secret.txt", folder / "crops.csv", Path("/etc/passwd")):
        with socket.create_connection(re.search(r"//(.*):(\d+)", url).groups()) as raw:  # as it is, not tidied
            raw.settimeout(30)
            path = route + form.format(str(file).lstrip("/"))
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert re.match(rb"HTTP/1.1 4\d\d ", answer)
        assert not [secret for secret in (SECRET.encode(), b"root:", b"domain,camera") if secret in answer]


def test_files_named_in_a_search_are_not_read(client, folder):
    number, target, inputs, _ = client.acts["click"]
    file = {"path": str(folder / "secret.txt"), "meta": {"_type": "gradio.FileData"}}
    request = {"data": [file] * len(inputs), "fn_index": number, "session_hash": "s", "trigger_id": target}
    assert client.http.post("/gradio_api/queue/join", json=request).status_code == 400


def test_a_query_of_50_megabytes_is_refused_and_costs_no_memory(client):
    url = client.http.base_url
    with socket.create_connection((url.host, url.port)) as raw:  # which asks, and sends nothing yet
        raw.sendall(
            f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 50000000\r\n\r\n".encode()
        )
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 413 ")
    # The page answers and closes while the client still sends, so the client may see either.
    closed = (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)
    with suppress(*closed):
        answer = client.http.post("/gradio_api/queue/join", content=b'{"data": ["' + b"a" * 50_000_000 + b'"]}')
        assert answer.status_code == 413

    def endless():
        for _ in range(50):
            yield b"a" * 1_000_000

    with pytest.raises((*closed, AssertionError)):
        assert client.http.post("/gradio_api/queue/join", content=endless()).status_code != 413
    assert shown(client.search(SENTENCE))


def test_100_searches_at_once_all_get_their_own_answer(client, gallery):
    colours, clothes = ("red", "blue", "black", "white", "green"), ("coat", "shirt", "dress", "skirt")
    sentences = [f"{who} in a {colour} {what}" for who in "abcde" for colour in colours for what in clothes]

    def search(number):
        visitor = copy.copy(client)
        visitor.session = f"visitor{number}"
        return shown(visitor.search(sentences[number]))

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(search, range(100)))
    assert found == [[hit.path for hit in hits] for hits in gallery.search(sentences, 16)]


def test_a_deleted_file_and_a_spoilt_index_are_said_and_the_rest_goes_on(folder, tmp_path):
    shutil.copytree(folder / "crops", tmp_path / "crops")
    gallery = Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index")
    first, second = (hit.path for hit in gallery.search(SENTENCE, 2))
    (tmp_path / "crops" / first).unlink()
    with served(gallery, login=("ann", "secret word"), host="127.0.0.2") as url:
        stranger = httpx.Client(base_url=url)
        for path in ("/config", "/gradio_api/queue/data?session_hash=x"):
            assert stranger.get(path).status_code == 401
        assert stranger.post("/gradio_api/queue/join", json={"data": []}).status_code == 401
        assert stranger.post("/login", data={"username": "ann", "password": "x"}).status_code == 400
        assert "the test's gallery" not in stranger.get("/").text
        client = PageClient(url, ("ann", "secret word"))
        answer = client.search(SENTENCE)
        assert shown(answer)[:2] == [first, second]
        assert answer["results"].count("file is gone") == 1
        with pytest.raises(RuntimeError, match="is gone or spoilt"):
            client.act("why", image=first, side=0)
        assert 'data-heat="0"' in client.act("why", image=second, side=0)["why"]
        (tmp_path / "index/gallery.json").write_text("spoilt")
        assert "cannot be read any more" in client.search(SENTENCE)["results"]


def test_a_public_host_needs_a_login():
    with pytest.raises(ValueError, match="give --login as well"):
        check_host("0.0.0.0", None)
    check_host("0.0.0.0", ("ann", "word"))
    check_host("127.0.0.1", None)
    assert [is_loopback(host) for host in ("localhost", "::1", "127.9.9.9", "192.168.1.5", "example.org", "::")] == [
        *(True, True, True, False, False, False)
    ]


def test_log_files_of_others_stay_open(gallery, tmp_path):
    handler = logging.FileHandler(tmp_path / "run.log")
    try:
        PageServer(GallerySearch(gallery), "", port=0)
        assert handler.stream is not None
    finally:
        handler.close()


def test_a_taken_port_is_said(gallery, url):
    with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1 port \d+ .* choose another --port"):
        PageServer(GallerySearch(gallery), "", port=int(url.rpartition(":")[2]))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not os.path.exists(CHROMIUM):
        pytest.skip(f"there is no {CHROMIUM}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=[f"--{switch}" for switch in _SWITCHES])
        yield browser
        browser.close()


def test_in_a_browser_a_search_is_seen_compared_refined_and_explained(browser, url, gallery):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(url)
    sentence = page.get_by_label("Whom to look for")
    sentence.wait_for(timeout=60_000)
    page.screenshot(path=SCREENSHOTS / "page_begin.png")
    sentence.fill(SENTENCE)
    page.get_by_role("button", name="Search").click()
    cards = page.locator(".card")
    cards.nth(15).wait_for()
    wanted = [hit.path for hit in gallery.search(SENTENCE, 32)]
    titles = [card.get_attribute("title").split("\n")[0] for card in cards.all()]
    assert titles == wanted[:16]
    boxes = [card.bounding_box() for card in cards.all()]
    assert all(box["y"] + box["height"] <= 860 for box in boxes), "two rows of crops must fit on one screen"
    assert all(image.evaluate("image => image.naturalWidth") > 0 for image in page.locator(".card img").all())
    page.locator(".card button", has_text="why").nth(2).click()
    page.locator(".word", has_text="red").click()
    heats = page.locator(".heats img")
    assert [heat.get_attribute("data-heat") for heat in heats.all() if heat.is_visible()] == ["4"]
    page.screenshot(path=SCREENSHOTS / "page_why.png")
    page.locator(".turn").last.click()
    page.get_by_text("page 2 of 3").wait_for()
    assert [card.get_attribute("title").split("\n")[0] for card in cards.all()] == wanted[16:]
    page.locator(".card button", has_text="similar").first.click()
    page.locator(".picture img").wait_for()
    page.locator(".picture .x").click()
    page.locator(".picture").wait_for(state="detached")
    page.get_by_label("Compare with").fill("<img src=x onerror=alert(1)> {{value}} ${alert(2)}")
    page.get_by_label("Compare with").press("Enter")
    page.locator(".columns.n2").wait_for()
    assert page.locator("h3").last.inner_text() == "<img src=x onerror=alert(1)> {{value}} ${alert(2)}"
    page.screenshot(path=SCREENSHOTS / "page_compare.png")
    page.get_by_label("Condition").fill("colour == 1")
    page.get_by_label("Condition").press("Enter")
    page.get_by_text("there is no column 'colour'").wait_for()
    page.screenshot(path=SCREENSHOTS / "page_error.png")
    page.get_by_label("Condition").fill("hour > 12")
    chooser = page.locator("input[type=file]")
    assert chooser.evaluate("input => (input.focus(), input === document.activeElement)"), "keys must reach it"
    chooser.set_input_files(gallery.root / wanted[4])
    page.locator(".picture img").wait_for()
    assert not complaints
    assert {address.partition("://")[2].partition("/")[0] for address in asked if "://" in address} == {url[7:]}
    page.close()
