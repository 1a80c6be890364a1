"""Claims on shards: which process works on which, agreed through files in a shared folder alone."""

import contextlib
import json
import os
import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Claim:
    """A shard that this process works on.

    Attributes:
        shard: Its number.
        generation: 0 for the first claim, one more for each take-over: the highest one counts.
        path: File that tells so; its time of change is the owner's sign of life.
    """

    shard: int
    generation: int
    path: Path


class Claims:
    """Claims in one folder, made with ``O_EXCL``: of several processes that want a shard one gets it.

    A claim is abandoned when its owner has ended, which processes of the same machine see at once, or has given no sign
    of life for ``stale_after`` seconds by the file system's clock. A taken-over claim stays; the taker's has the next
    generation. A process that was only asleep and comes back finds itself outdated by :meth:`lost`. Two may therefore
    work on a shard for a while, which costs requests: that a shard is finished once is the folder's matter.

    Args:
        folder: The folder, which exists.
        stale_after: Seconds.
    """

    def __init__(self, folder: Path, stale_after: float) -> None:
        self.folder, self.stale_after = folder, stale_after
        self.name = f"{socket.gethostname().split('.')[0][:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._me = json.dumps(_process(os.getpid()))
        self._clock = folder / f".clock-{self.name}"
        self._held: dict[int, Claim] = {}
        self._closed = False
        self._lock = threading.Lock()  # a thread may be claiming while the process closes

    def take(self, shard: int, known: dict[int, Claim]) -> Claim | None:
        """Claim a shard unless somebody else works on it.

        Args:
            shard: Its number.
            known: What :meth:`newest` told a moment ago.
        """
        held = known.get(shard)
        if held is not None and not self._abandoned(held.path):
            return None
        generation = 0 if held is None else held.generation + 1
        claim = Claim(shard, generation, self.folder / f"{shard:07d}.{generation}")
        with self._lock:
            if self._closed:
                return None
            try:
                file = os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return None
            self._held[shard] = claim
        with os.fdopen(file, "w") as opened:
            opened.write(self._me)
        return claim

    def newest(self) -> dict[int, Claim]:
        """The claim that counts for each shard that has one."""
        newest: dict[int, Claim] = {}
        for name in os.listdir(self.folder):
            shard, _, generation = name.partition(".")
            if shard.isdecimal() and generation.isdecimal():
                claim = Claim(int(shard), int(generation), self.folder / name)
                if claim.shard not in newest or newest[claim.shard].generation < claim.generation:
                    newest[claim.shard] = claim
        return newest

    def renew(self, claims: list[Claim]) -> list[Claim]:
        """Give a sign of life for each claim; returns those that another process has taken over or finished."""
        newest = self.newest()
        lost = []
        for claim in claims:
            try:
                os.utime(claim.path)
            except FileNotFoundError:
                lost.append(claim)
                continue
            if newest.get(claim.shard, claim).generation > claim.generation:
                lost.append(claim)
        return lost

    def release(self, shard: int) -> None:
        """Remove all claims on a shard that is finished."""
        with self._lock:
            self._held.pop(shard, None)
        for path in self.folder.glob(f"{shard:07d}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give up what this process has claimed and not finished, so that others need not wait, and claim no more."""
        with self._lock:
            self._closed = True
            for claim in self._held.values():
                claim.path.unlink(missing_ok=True)
        self._clock.unlink(missing_ok=True)

    def _abandoned(self, path: Path) -> bool:
        try:
            owner, changed = path.read_text(), path.stat().st_mtime
        except FileNotFoundError:  # finished meanwhile
            return False
        with contextlib.suppress(ValueError, TypeError, KeyError):  # it may be half written
            facts = json.loads(owner)
            mine = json.loads(self._me)
            if facts["machine"] and facts["machine"] == mine["machine"] and _process(facts["pid"]) != facts:
                return True
        with self._clock.open("w") as clock:  # another process may tidy it away meanwhile
            os.utime(clock.fileno())
            now = os.fstat(clock.fileno()).st_mtime
        return now - changed > self.stale_after


def _process(pid: int) -> dict[str, object]:
    """What tells a process from all others; ``machine`` is None where that cannot be told."""
    facts: dict[str, object] = {"host": socket.gethostname(), "pid": pid, "machine": None, "start": None}
    try:
        # Containers of one host have process numbers of their own.
        facts["machine"] = f"{_BOOT.read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        facts["start"] = None if stat[0] in "ZX" else int(stat[19])
    except OSError:
        pass
    return facts
