"""The dialogue with a scripted chat model: what it takes, what it refuses, and that a kill loses no answer."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmreid_text.captioning.template_dialogue import grow_templates, grown_fault_of, read_patterns
from mmreid_text.captioning.templates import compose, load_templates, pattern_key

CAPTIONS = ["A man in a red coat.", "A woman\nwears jeans."]
PATTERNS = compose(60, seed=5)


class Script:
    """A chat model that knows some patterns and gives the next few of them, with talk around."""

    def __init__(self, size=10, dropped="2, 5"):
        self.size, self.dropped, self.asked = size, dropped, []

    def __call__(self, messages):
        self.asked.append(messages)
        last = messages[-1]["content"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
        if "Answer with their numbers" in last:
            return self.dropped
        turn = len(messages) // 2
        own = PATTERNS[turn * self.size : (turn + 1) * self.size]
        return "Sure, here are some:\n\n" + "\n".join(f'{i}. "{pattern}"' for i, pattern in enumerate(own, 1))


def test_a_whole_dialogue(tmp_path):
    chat, turns = Script(), []
    growth = grow_templates(chat, CAPTIONS, tmp_path / "d.jsonl", count=35, report=turns.append)
    expected = PATTERNS[:40]
    assert growth.templates == [t for i, t in enumerate(expected, 1) if i not in (2, 5)]
    assert [turn["kind"] for turn in turns] == ["patterns", "more", "openings", "order", "filter"]
    assert turns == growth.turns
    assert [turn.get("new", -turn.get("dropped", 0)) for turn in turns] == [10, 10, 10, 10, -2]
    assert "1. A man in a red coat.\n2. A woman wears jeans." in chat.asked[0][0]["content"]
    assert chat.asked[1][:2] == [chat.asked[0][0], {"role": "assistant", "content": chat.asked[1][1]["content"]}]
    for i, template in enumerate(expected, 1):
        assert f"\n{i}. {template}\n" in chat.asked[4][-1]["content"]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(growth.templates))
    assert load_templates(path) == growth.templates


def test_turns_are_bounded(tmp_path):
    chat = Script(size=3)
    growth = grow_templates(chat, CAPTIONS, tmp_path / "d.jsonl", count=1000, max_turns=9)
    kinds = [turn["kind"] for turn in growth.turns]
    assert kinds == ["patterns", *["more", "openings", "order"] * 2, "more", "filter"]
    assert len(chat.asked) == 9
    assert len(growth.templates) == 24 - 2


def test_bad_lines_are_named_to_the_model_and_left_out(tmp_path):
    good = "[person] wears [clothing]."
    answers = [
        f"- {good}\n- [person] wears [trousers].\n- [PERSON] WEARS [clothing]!.\n* **Seen: [person] in [clothing].**\n",
        "I cannot do that.",
        good,
        "",
        "all of 1, 2 and 7",
    ]
    asked = []

    def chat(messages):
        asked.append(messages[-1]["content"])
        return answers[len(asked) - 1]

    growth = grow_templates(chat, CAPTIONS, tmp_path / "d.jsonl", count=1)
    assert growth.templates == [good, "Seen: [person] in [clothing]."]  # more than half is not dropped
    assert [turn.get("refused") for turn in growth.turns] == [1, 0, 0, 0, None]
    assert [turn.get("repeated") for turn in growth.turns] == [1, 0, 1, 0, None]
    assert growth.turns[-1] | {"dropped": 0, "set_aside": 2} == growth.turns[-1]
    assert "'[person] wears [trousers].' has the unknown slot [trousers]" in asked[1]
    assert asked[2].startswith("Your last answer held no pattern")


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("[person] wears [clothing].", None),
        ("A man wears [clothing] and [footwear].", "needs [person]"),
        ("[person] runs.", "needs [person] and another slot"),
        ("[person] in [clothing] with [clothing].", "has a slot twice"),
        ("[person] in [clothing]", "has no full stop"),
        ("[person] " + "who runs and walks " * 16 + "in [clothing].", "has more than 60 words"),
        ("[person] wears <b>[clothing]</b>.", "'markup'"),
        ("Would [person] wear [clothing]? Yes.", "'question'"),
        ("[person] lleva el [clothing] y las [footwear] con un [accessory].", "'language'"),
        ("Description: [person] wears [clothing].", "'tidy'"),
    ],
)
def test_faults(pattern, fault):
    got = grown_fault_of(pattern)
    assert got is None if fault is None else fault in got


def test_grammar_and_bank_would_be_taken():
    assert [p for p in PATTERNS if grown_fault_of(p)] == []
    assert read_patterns("\n".join(f"{i}) {p}" for i, p in enumerate(PATTERNS))) == PATTERNS


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="0 captions, count=100"):
        grow_templates(Script(), [], tmp_path / "d.jsonl")
    with pytest.raises(ValueError, match="5 turns"):
        grow_templates(Script(), CAPTIONS, tmp_path / "d.jsonl", max_turns=4)
    with pytest.raises(ValueError, match=r"15 turns gave no valid template; the answers stand in .*e\.jsonl"):
        grow_templates(lambda messages: "No.", CAPTIONS, tmp_path / "e.jsonl")
    grow_templates(Script(), CAPTIONS, tmp_path / "d.jsonl", count=20)
    with pytest.raises(ValueError, match=r"d\.jsonl:1 answers other messages"):
        grow_templates(Script(), CAPTIONS[:1], tmp_path / "d.jsonl", count=20)
    (tmp_path / "d.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match=r"d\.jsonl:1 is no answer of a dialogue"):
        grow_templates(Script(), CAPTIONS, tmp_path / "d.jsonl")


def test_goes_on_behind_a_torn_line(tmp_path):
    """Whatever byte the last write stopped at, the answers before it are not asked for again."""
    journal = tmp_path / "d.jsonl"
    whole = grow_templates(Script(), CAPTIONS, journal, count=35)
    content = journal.read_bytes()
    starts = [0, *(match.end() for match in re.finditer(rb"\n", content))]
    for stop in (0, 1, starts[2], starts[2] + 40, starts[5] - 1, len(content)):
        journal.write_bytes(content[:stop])
        chat = Script()
        assert grow_templates(chat, CAPTIONS, journal, count=35) == whole
        assert len(chat.asked) == 5 - sum(start <= stop for start in starts[1:])
        assert journal.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_sigkill_between_turns(tmp_path):
    script = textwrap.dedent(f"""
        import pathlib, sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_template_dialogue import CAPTIONS, Script
        from mmreid_text.captioning.template_dialogue import grow_templates
        inner = Script()
        def chat(messages):
            with open("asked.txt", "a") as file:
                file.write(f"{{len(messages) // 2}}\\n")
            if len(messages) // 2 == int(sys.argv[1]):
                time.sleep(600)
            return inner(messages)
        grow_templates(chat, CAPTIONS, pathlib.Path("d.jsonl"), count=35)
    """)
    process = subprocess.Popen([sys.executable, "-c", script, "2"], cwd=tmp_path)
    try:
        asked = tmp_path / "asked.txt"
        deadline = time.monotonic() + 120
        while not (asked.exists() and asked.read_text().endswith("2\n")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [json.loads(line)["turn"] for line in (tmp_path / "d.jsonl").read_text().splitlines()] == [1, 2]
    chat = Script()
    growth = grow_templates(chat, CAPTIONS, tmp_path / "d.jsonl", count=35)
    assert len(chat.asked) == 3
    assert len({pattern_key(template) for template in growth.templates}) == 38


@pytest.fixture
def server():
    """A chat server over HTTP that fails now and then; yields its URL and the requests that it got."""
    script, got = Script(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers.get("Authorization"), body))
            if len(got) in (2, 5):
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            message = {"role": "assistant", "content": script(body["messages"])}
            content = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1", got
    http.shutdown()
    http.server_close()


def test_the_tool_over_http(tmp_path, server, monkeypatch, capsys):
    pytest.importorskip("aiohttp")
    url, got = server
    tool = Path(__file__).parents[2] / "tools/grow_templates.py"
    spec = importlib.util.spec_from_file_location("grow_templates", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHAT_KEY", "secret-of-the-test")
    Path("captions.txt").write_text("\n".join(f"A man in coat {i}." for i in range(50)))
    command = ["grow_templates.py", "captions.txt", "--endpoint", url, "--model", "tiny", "--out", "new/mine.txt"]
    command += ["--api-key-env", "CHAT_KEY", "--count", "35", "--examples", "4"]
    monkeypatch.setattr(sys, "argv", command)
    module.main()
    printed = capsys.readouterr().out
    assert "turn 5 (filter): 2 dropped; 38 templates" in printed
    templates = load_templates("new/mine.txt")
    assert templates == [t for i, t in enumerate(PATTERNS[:40], 1) if i not in (2, 5)]
    assert len(got) == 5 + 2
    assert {(path, key, body["model"]) for path, key, body in got} == {
        ("/v1/chat/completions", "Bearer secret-of-the-test", "tiny")
    }
    assert got[0][2]["messages"][0]["content"].count("A man in coat") == 4
    Path("new/mine.txt").unlink()
    module.main()  # the answers are there: the server is not asked
    assert load_templates("new/mine.txt") == templates
    assert len(got) == 7
    assert not any("secret-of-the-test" in path.read_text() for path in Path("new").iterdir())
    monkeypatch.setattr(sys, "argv", [*command, "--examples", "5"])
    with pytest.raises(SystemExit, match=r"error: new/mine\.txt\.dialogue\.jsonl:1 answers other messages"):
        module.main()
