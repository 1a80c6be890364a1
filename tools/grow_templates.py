"""New templates out of captions, by a dialogue with a chat model behind any OpenAI-compatible server.

    python tools/grow_templates.py captions.arrow --out work_dirs/templates.txt \\
        --endpoint http://localhost:8000/v1 --model Qwen/Qwen2.5-7B-Instruct

CAPTIONS is a caption table, or a text file with a caption per line. Answers are kept in <out>.dialogue.jsonl, so the
same command goes on with a dialogue that was killed. The file of templates serves in captioning configs.
"""

import argparse
import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mmreid_text.atomic_write import write_text
from mmreid_text.captioning.backends import BackendError, OpenAIServer
from mmreid_text.captioning.template_dialogue import MIN_TURNS, Growth, grow_templates
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.engine.config import error_text
from mmreid_text.file_lock import alone


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path, help="caption table (.arrow), or text file")
    parser.add_argument("--out", type=Path, required=True, help="file of templates to write")
    parser.add_argument("--endpoint", required=True, help="base URL, mostly ending in /v1; several parted by commas")
    parser.add_argument("--model", required=True, help="the model's name on the server")
    parser.add_argument("--api-key-env", help="environment variable that holds the server's API key")
    parser.add_argument("--examples", type=int, default=20, help="captions to show the model")
    parser.add_argument("--count", type=int, default=100, help="templates that end the dialogue")
    parser.add_argument("--per-turn", type=int, default=25, help="templates to ask for at a time")
    parser.add_argument("--max-turns", type=int, default=16, help=f"most turns, at least {MIN_TURNS}")
    parser.add_argument("--max-tokens", type=int, default=4096, help="longest answer, tokens")
    parser.add_argument("--seed", type=int, default=0, help="which captions are shown")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    journal = args.out.with_name(args.out.name + ".dialogue.jsonl")
    try:
        if args.examples < 1:
            raise ValueError(f"--examples must be at least 1, got {args.examples}")
        options = {"max_tokens": args.max_tokens, "give_up_after": 120.0}
        server = OpenAIServer(args.endpoint, args.model, args.api_key_env, **options)
        captions = draw_captions(args.captions, args.examples, args.seed)
        lock = journal.with_name(journal.name + ".lock")
        with (
            alone(lock, f"another tools/grow_templates.py writes {args.out}"),
            closing(asyncio.new_event_loop()) as loop,
        ):
            growth = grow_templates(
                lambda messages: loop.run_until_complete(_ask(server, messages)),
                captions,
                journal,
                args.count,
                args.max_turns,
                args.per_turn,
                report=_show,
            )
            write_text(args.out, as_file(growth, args.model, len(captions)))
    except (BackendError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    print(f"{len(growth.templates)} templates: {args.out}; the answers: {journal}")


def draw_captions(path: Path, number: int, seed: int) -> list[str]:
    """Captions of a table or text file, drawn without repeats, in their order."""
    if path.suffix == ".arrow":
        table = CaptionTable.open(path)
        rows = np.random.default_rng(seed).choice(len(table), min(number, len(table)), replace=False)
        return [table.caption(int(row)) for row in np.sort(rows)]
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = np.random.default_rng(seed).choice(len(lines), min(number, len(lines)), replace=False)
    return [lines[row] for row in np.sort(rows)]


def as_file(growth: Growth, model: str, examples: int) -> str:
    """The templates as a file that captioning configs name."""
    return f"# {model}, {len(growth.turns)} turns over {examples} captions\n" + "\n".join(growth.templates) + "\n"


async def _ask(server: OpenAIServer, messages: list[dict[str, str]]) -> str:
    async with server:
        return await server.chat(messages)


def _show(turn: dict[str, Any]) -> None:
    counts = ", ".join(f"{turn[key]} {key}" for key in ("new", "repeated", "refused", "dropped") if key in turn)
    print(f"turn {turn['turn']} ({turn['kind']}): {counts}; {turn['templates']} templates", flush=True)
    if "set_aside" in turn:
        print(f"  it picked out {turn['set_aside']}, more than half: set aside as a misunderstanding", flush=True)


if __name__ == "__main__":
    main()
