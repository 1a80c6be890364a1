"""Speed and memory of the hot paths beside plain references, in one run.

Each part is tools/benchmarks/<part>.py. On CPUs seconds are the process's own CPU seconds on one thread, median of
interleaved rounds, so that neighbours on the machine matter little. Memory is the peak above the inputs. Each part, and
each peak, is measured in a process of its own. What the machine reaches at best is measured in the same run.
"""

# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when numpy and torch are imported

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch
from benchmarks.common import COMMAND, Row, machine, measure_memory, show, show_machine

PARTS = ("data", "step", "eval", "table", "text", "caption", "pseudo_text", "text_iou", "clusters", "gallery")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write machine and rows there as well")
    parser.add_argument("--measure-memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)  # only measure, and write the rows to this file
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")  # mmcv-lite has none
    torch.set_num_threads(1)
    if args.measure_memory:
        print(measure_memory(import_module(f"benchmarks.{args.part}").memory_job(*args.measure_memory)))
        return
    if args.rows:
        rows = import_module(f"benchmarks.{args.part}").run(args.rounds)
        Path(args.rows).write_text(json.dumps([asdict(row) for row in rows]))
        return
    facts = machine()
    print(show_machine(facts), flush=True)
    rows = []
    for name in PARTS if args.part == "all" else [args.part]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += measure(name, args.rounds)
    print(show(rows))
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": facts, "rows": [asdict(row) for row in rows]}, file, indent=2)


def measure(part: str, rounds: int) -> list[Row]:
    """Rows of one part, in a fresh process: what others leave in memory slows large arrays down."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows.json")
        subprocess.run([sys.executable, COMMAND, part, "--rounds", str(rounds), "--rows", out], check=True)
        return [Row(**row) for row in json.loads(out.read_text())]


if __name__ == "__main__":
    main()
