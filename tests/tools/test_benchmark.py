"""The frame of the benchmark: the command, clocks, peak memory, tables."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import scripts

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("benchmark_common", TOOLS / "benchmarks/common.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_jobs_take_turns(common):
    calls = []
    jobs = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    seconds = common.interleaved(jobs, rounds=3)
    assert calls == ["a", "b"] * 4  # the first round does not count
    assert seconds.keys() == {"a", "b"}


def test_peak_memory_is_what_a_job_adds():
    # In a process of its own, as the benchmark does: elsewhere a job may find room that others left.
    script = f"""
        import sys
        sys.path.insert(0, {str(TOOLS)!r})
        from benchmarks.common import measure_memory
        kept = bytearray(b"1") * (100 << 20)
        print(measure_memory(lambda: bytearray(b"1") * (80 << 20)))
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], check=True, capture_output=True, text=True)
    assert 75 < float(done.stdout) < 90


def test_rates_stand_in_the_table(common):
    row = common.Row("part", "plain", 2.0, 5.0, 10.0, 100.0, "why", ours_flops=4e9, reference_bytes=1e10)
    head, rule, line = common.show([row]).splitlines()
    assert len({len(head), len(rule), len(line)}) == 1
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["part", "plain", "2", "5", "2.5x", "10", "100", "1/10", "2", "-", "-", "2", "why"]


def test_the_machine_in_a_line(common):
    line = common.show_machine({"cpu": "Z80", "gemm_flops": 1.5e11, "gpu_stream_bytes": 2e12})
    assert line == "machine: cpu Z80, gemm 150 GFLOP/s, gpu stream 2e+03 GB/s"


def test_the_command_prints_and_writes_what_parts_measure_each_in_its_process(tmp_path):
    # In place of the command: two parts of its own, which tell their process.
    script = f"""
        import os, sys
        from dataclasses import replace
        from types import SimpleNamespace
        sys.path.insert(0, {str(TOOLS)!r})
        import benchmark
        benchmark.COMMAND, benchmark.PARTS = __file__, ("table", "text")
        row = benchmark.Row("a " + sys.argv[1], "a list", float(os.getpid()), 0.0, remark="x")
        run = lambda rounds: [replace(row, reference_s=float(rounds))]
        benchmark.import_module = lambda name: SimpleNamespace(run=run)
        benchmark.main()
    """
    (tmp_path / "command.py").write_text(dedent(script))
    done = scripts.run(tmp_path / "command.py", "all", "--rounds", "2", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((tmp_path / "out.json").read_text())
    assert {"cpu", "cores", "threads", "load", "torch", "gemm_flops", "stream_bytes"} <= content["machine"].keys()
    assert [(row["part"], row["reference_s"], row["remark"]) for row in content["rows"]] == [
        ("a table", 2.0, "x"),
        ("a text", 2.0, "x"),
    ]
    assert len({row["ours_s"] for row in content["rows"]}) == 2  # processes
    assert done.stdout.startswith("machine: cpu ")
    assert done.stdout.count("machine: cpu ") == 1
    assert "| a table | a list" in done.stdout


def test_bad_arguments_are_named():
    for arguments, words in (
        (["nothing"], "invalid choice: 'nothing'"),
        (["eval", "--rounds", "0"], "at least 1, got 0"),
    ):
        done = scripts.run(TOOLS / "benchmark.py", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
