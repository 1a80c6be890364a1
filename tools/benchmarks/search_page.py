"""How long the search page takes to answer, measured as a browser would: over HTTP, from the click to the cards.

    python tools/benchmarks/search_page.py                                  # the page of tools/demo.py, opened for it
    python tools/benchmarks/search_page.py --url http://127.0.0.1:7860      # one that is open

Every search has another sentence. What counts is each search's own time; nothing else is asked of the page meanwhile.
"""

import argparse
import itertools
import json
import re
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

DEMO = Path(__file__).parents[1] / "demo.py"
COLOURS = ("red", "blue", "black", "white", "green", "yellow", "purple", "grey", "brown", "pink")
CLOTHES = ("coat", "shirt", "jacket", "dress", "hoodie")


class PageClient:
    """A visitor of the page without a browser.

    Args:
        url: Of the page.
        login: Name and password, where it asks for them.
    """

    def __init__(self, url: str, login: tuple[str, str] | None = None) -> None:
        self.http = httpx.Client(base_url=url, timeout=120)
        if login is not None:
            self.http.post("/login", data=dict(zip(("username", "password"), login))).raise_for_status()
        config = self.http.get("/config").raise_for_status().json()
        self.components = {part["id"]: part for part in config["components"]}
        self.acts = {
            event: (number, target, act["inputs"], act["outputs"])
            for number, act in enumerate(config["dependencies"])
            for target, event in act["targets"]
        }
        self.session = secrets.token_hex(8)

    def search(self, sentence: str, other: str = "", condition: str = "", **chosen: list[Any]) -> dict[str, Any]:
        """What the page shows after a search: HTML by name of what changed.

        Raises:
            RuntimeError: The page refused it; says why.
        """
        values = {"Whom to look for": sentence, "Compare with (optional)": other, "Condition": condition, **chosen}
        return self._act("click", lambda part: values.get(part["props"].get("label", ""), []))

    def act(self, event: str, **detail: Any) -> dict[str, Any]:
        """What the page shows after a click on one of its buttons, as 'why' or 'like'."""
        return self._act(event, lambda _: None, detail)

    def _act(self, event: str, value: Any, detail: Any = None) -> dict[str, Any]:
        number, target, inputs, outputs = self.acts[event]
        parts = [self.components[part] for part in inputs]
        data = [None if part["type"] == "state" else value(part) for part in parts]
        request = {"data": data, "fn_index": number, "session_hash": self.session, "trigger_id": target}
        answer = self.http.post("/gradio_api/queue/join", json=request | {"event_data": detail})
        if answer.is_error:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.raise_for_status().iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    break
            else:
                raise RuntimeError("the page ended the search without an answer")
        if not message["success"]:
            raise RuntimeError(message["output"].get("error") or "the page does not say why")
        return dict(zip(self._names(outputs), message["output"]["data"]))

    def _names(self, outputs: list[int]) -> Iterator[str]:
        """Names of outputs: their labels, or their numbers among the page's pieces of HTML."""
        pieces = [part["id"] for part in self.components.values() if part["type"] == "html"]
        names = dict(zip(pieces, ("head", "pictures", "results", "why")))
        return (names.get(part, self.components[part]["props"].get("label") or "query") for part in outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of an open page")
    parser.add_argument("--searches", type=int, default=50, help="that count (default 50)")
    args = parser.parse_args()
    if not 2 <= args.searches <= len(COLOURS) * len(CLOTHES):
        parser.error(f"--searches {args.searches} must lie in 2..{len(COLOURS) * len(CLOTHES)}")
    if args.url:
        measure(args.url, args.searches)
    else:
        with opened() as url:
            measure(url, args.searches)


@contextmanager
def opened() -> Iterator[str]:
    """The page of tools/demo.py in a process of its own."""
    command = [sys.executable, str(DEMO), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"Open (http://\S+)", line) for line in process.stdout)
            yield next(match[1] for match in found if match)
        finally:
            process.terminate()


def measure(url: str, searches: int) -> None:
    client = PageClient(url)
    client.search("a person")
    seconds, own = [], []
    for colour, clothing in itertools.islice(itertools.product(COLOURS, CLOTHES), searches):
        start = time.perf_counter()
        shown = client.search(f"a person in a {colour} {clothing}")["results"]
        seconds.append(time.perf_counter() - start)
        own.append(int(re.search(r"found in ([\d]+) ms", shown)[1]) / 1000)
    for name, values in (("click to cards over HTTP", seconds), ("of these, the search", own)):
        worst = statistics.quantiles(values, n=20)[-1]
        print(f"{name}: median {1000 * statistics.median(values):.0f} ms, 95% within {1000 * worst:.0f} ms")


if __name__ == "__main__":
    main()
