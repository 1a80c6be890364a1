"""Python scripts run as commands, forked from a process that has their imports behind it: each spares five seconds.

A script gets a process, arguments, folder, environment and output of its own, as from ``subprocess``. It is not forked
from the tests' own process, in which torch forbids a child to train once a GPU was used. Thread numbers are read when
libraries are loaded: here one for all. What lies in ``tests`` can be imported.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from fork_safe import make_bars_safe
from plain_configs import plain

ROOT = Path(__file__).parents[1]
_MODULES = ("captioning.job", "datasets", "engine.hooks", "engine.training_run", "models", "visualization")
_server: subprocess.Popen | None = None


class Script:
    """``python script arguments`` at work; ``-m module`` in place of a script, too. Its output may go to one file."""

    def __init__(
        self, *command: object, cwd: Path | str = ROOT, env: dict[str, str] | None = None, output: str | None = None
    ) -> None:
        self.args = [str(part) for part in command]
        self.returncode: int | None = None
        self._folder = tempfile.TemporaryDirectory()
        outputs = [str(output or Path(self._folder.name, name)) for name in ("stdout", "stderr")]
        request = {"args": self.args, "cwd": str(cwd), "env": env or dict(os.environ), "outputs": outputs}
        request["folder"] = self._folder.name
        server = _warm()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def output(self, name: str = "stdout") -> str:
        """What it has written to ``stdout`` or ``stderr``."""
        return Path(self._folder.name, name).read_text(errors="replace")

    def poll(self) -> int | None:
        """Exit code, negative for a signal, once it has ended."""
        with contextlib.suppress(FileNotFoundError):
            self.returncode = int(Path(self._folder.name, "code").read_text())
        return self.returncode

    def wait(self, seconds: float = 400) -> int:
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"{self.args} has not ended: {self.output('stderr')[-3000:]}")
            time.sleep(0.01)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def run(*command: object, **options: object) -> subprocess.CompletedProcess:
    """Run a script to its end: exit code, ``stdout`` and ``stderr`` as text."""
    script = Script(*command, **options)
    code = script.wait()
    return subprocess.CompletedProcess(script.args, code, script.output("stdout"), script.output("stderr"))


def fork_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``run_pool`` of this process fork its runs, which would import everything anew."""

    def start(command: list[str], env: dict[str, str], stdout: IO[str], **_: object) -> Script:
        return Script(*command[1:], cwd=os.getcwd(), env=env, output=os.path.abspath(stdout.name))

    run_pool = importlib.import_module("mmreid_text.engine.run_pool")
    monkeypatch.setattr(run_pool, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))


def _warm() -> subprocess.Popen:
    global _server
    if _server is None:
        _server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )
    return _server


def _serve() -> None:
    """Fork a process for every request; returns in that process, and never in this one."""
    for name in _MODULES:
        importlib.import_module(f"mmreid_text.{name}")
    importlib.import_module("yapf.yapflib.yapf_api").FormatCode = plain
    make_bars_safe()
    gc.freeze()  # or a collection would copy what is shared
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:
        request, (reader, writer) = json.loads(line), os.pipe()
        keeper = os.fork()  # tells the exit code, while this process waits for the next request
        if keeper:
            os.close(writer)
            print(int.from_bytes(os.read(reader, 8), "little"), flush=True)
            os.close(reader)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid = os.fork()
        if not pid:
            _become(request)
            return
        os.write(writer, pid.to_bytes(8, "little"))
        code = Path(request["folder"], "code")
        code.with_suffix(".part").write_text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        with contextlib.suppress(FileNotFoundError):  # nobody waits for it any more
            code.with_suffix(".part").rename(code)
        os._exit(0)
    os._exit(0)


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(request: dict) -> None:
    for descriptor, path in zip((1, 2), request["outputs"]):
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.dup2(sys.stdin.fileno(), 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["args"]
    folder = request["cwd"] if sys.argv[0] == "-m" else str(Path(sys.argv[0]).absolute().parent)
    sys.path[:0] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _run() -> int:
    """Run ``sys.argv`` as the interpreter would; returns the exit code."""
    try:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
    code = _run()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking hundreds of modules apart would take half a second
