"""One row of token noise per caption, shared by the ranks of a node and kept beside checkpoints."""

import errno
import json
import os
import socket
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.distributed as dist

from mmreid_text.atomic_write import written_beside
from mmreid_text.engine.distributed import world_size

SCALE = 255 / 2  # uint8 over r in [0, 2]
EXCHANGE_BYTES = 64 << 20


class NoiseTable:
    """Noise r of every token of every caption, uint8 over [0, 2], mapped from one file per node.

    A row that was never written is all zeros; as the masking probability only depends on differences within a
    caption, that is the uniform start of the paper. The file is unlinked as soon as all ranks of the node have mapped
    it, so nothing is left behind whenever a process dies. It stands in ``TMPDIR``; 4 M captions take 308 MB there, and
    an OSError says where they do not fit.

    Args:
        num_captions: Rows.
        fingerprint: Of the data set whose ``caption_id`` indexes the rows.
        length: Token positions per caption, SOT included.
    """

    def __init__(self, num_captions: int, fingerprint: str, length: int = 77) -> None:
        self.fingerprint = fingerprint
        self._one_node = True
        self.rows = self._map((num_captions, length))  # uint8 (C, N)
        self._packed = _packed(np.asarray(self.rows))
        self._seen: list[np.ndarray] = []

    def _map(self, shape: tuple[int, int]) -> np.ndarray:
        if world_size() == 1:
            with tempfile.TemporaryFile() as file:
                _reserve(file, shape[0] * shape[1])
                return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        token = [uuid.uuid4().hex]
        dist.broadcast_object_list(token, src=0)
        # torchrun and Slurm number the nodes: containers may all have the same host name.
        place = "_".join([socket.gethostname(), *(os.environ.get(n, "0") for n in ("GROUP_RANK", "SLURM_NODEID"))])
        places: list[str] = [""] * world_size()
        dist.all_gather_object(places, place)
        self._one_node = len(set(places)) == 1
        self._leader = places.index(place) == dist.get_rank()
        path = Path(tempfile.gettempdir()) / f"mmreid_text_noise_{token[0]}_{place}"
        if self._leader:
            try:
                with path.open("wb") as file:
                    _reserve(file, shape[0] * shape[1])
            except OSError:
                path.unlink(missing_ok=True)
                raise
        dist.barrier()
        rows = np.memmap(path, dtype=np.uint8, mode="r+", shape=shape)
        dist.barrier()
        if self._leader:
            path.unlink()
        return rows

    def read(self, caption_id: np.ndarray, length: int) -> torch.Tensor:
        """Noise r float32 (B, length) in [0, 2] of the captions, caption_id int64 (B,)."""
        return torch.from_numpy(np.asarray(self.rows).take(caption_id, axis=0)[:, :length]) / SCALE

    @staticmethod
    def quantise(r: torch.Tensor) -> torch.Tensor:
        """uint8 (B, N) of noise r float (B, N) in [0, 2], on r's device."""
        return (r * SCALE).round_().clamp_(0, 255).to(torch.int32).to(torch.uint8)  # on CPUs faster than in one step

    def write(self, caption_id: np.ndarray, noise: np.ndarray) -> None:
        """Store quantised noise uint8 (B, N) for caption_id int64 (B,); positions from N on become 0."""
        if noise.shape[1] < self.rows.shape[1]:
            whole = np.zeros((len(noise), self.rows.shape[1]), dtype=np.uint8)
            whole[:, : noise.shape[1]] = noise
            noise = whole
        self._packed[caption_id] = _packed(noise)
        if not self._one_node:
            self._seen.append(caption_id)

    def merge(self) -> None:
        """Make what any rank wrote visible to every rank: a barrier, and between nodes an exchange of rows.

        Rows travel in chunks, so that the memory does not grow with the table. All ranks must call this.
        """
        if world_size() == 1:
            return
        if not self._one_node:
            seen = np.concatenate(self._seen) if self._seen else np.empty(0, np.int64)
            self._seen.clear()
            for ids, rows in self._exchange(seen):
                if self._leader:
                    self.rows[ids] = rows
        dist.barrier()

    def _exchange(self, seen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        width = self.rows.shape[1]
        size = max(1, EXCHANGE_BYTES // (width * world_size()))
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        chunks = torch.tensor([-(-len(seen) // size)], device=device)
        dist.all_reduce(chunks, op=dist.ReduceOp.MAX)
        for i in range(int(chunks)):
            part = seen[i * size : (i + 1) * size]
            ids = torch.full((size,), -1, dtype=torch.int64)
            rows = torch.zeros((size, width), dtype=torch.uint8)
            ids[: len(part)] = torch.from_numpy(part)
            rows[: len(part)] = torch.from_numpy(self.rows[part])
            all_ids = [torch.empty_like(ids, device=device) for _ in range(world_size())]
            all_rows = [torch.empty_like(rows, device=device) for _ in range(world_size())]
            dist.all_gather(all_ids, ids.to(device))
            dist.all_gather(all_rows, rows.to(device))
            for rank_ids, rank_rows in zip(all_ids, all_rows):
                valid = (rank_ids >= 0).cpu().numpy()
                yield rank_ids.cpu().numpy()[valid], rank_rows.cpu().numpy()[valid]

    def save(self, path: Path, epoch: int) -> None:
        """Write the table and its stamp beside a checkpoint, atomically and streaming.

        Args:
            path: ``.npz`` file with members ``noise`` uint8 (C, N) and ``stamp``, a JSON string.
            epoch: Finished epochs.
        """
        stamp = json.dumps({"epoch": epoch, "fingerprint": self.fingerprint})
        with written_beside(path) as beside, zipfile.ZipFile(beside, "w") as archive:
            for name, array in (("noise", np.asarray(self.rows)), ("stamp", np.array(stamp))):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    def load(self, path: Path, epoch: int) -> None:
        """Restore the table that was written beside a checkpoint; all ranks must call this.

        Raises:
            FileNotFoundError: There is no table at ``path``.
            ValueError: The table is damaged, or belongs to other data or to another epoch.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: the noise table of this checkpoint is missing, so masking cannot go on where it was. "
                "Copy it beside the checkpoint, or start anew with load_from instead of resume."
            )
        with _open(path) as archive:  # members are read when they are asked for: noise by a node's leader only
            stamp = json.loads(str(archive["stamp"]))
            leads = world_size() == 1 or self._leader
            noise = archive["noise"] if leads and stamp["fingerprint"] == self.fingerprint else None
        shape = self.rows.shape if noise is None else noise.shape
        if stamp["fingerprint"] != self.fingerprint or shape != self.rows.shape:
            raise ValueError(
                f"{path}: this noise table was made from other data (fingerprint {stamp['fingerprint'][:12]}, "
                f"shape {shape}; the training set has {self.fingerprint[:12]}, {self.rows.shape}). "
                "Resume with the data of the first run, or start anew with load_from instead of resume."
            )
        if stamp["epoch"] != epoch:
            raise ValueError(f"{path}: the table is of epoch {stamp['epoch']}, the checkpoint of epoch {epoch}.")
        if noise is not None:
            self.rows[:] = noise
        if world_size() > 1:
            dist.barrier()


def load_noise_table(path: Path) -> tuple[np.ndarray, dict]:
    """Noise uint8 (C, N) over r in [0, 2], and the stamp {epoch, fingerprint}, of a saved table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or no noise table.
    """
    with _open(path) as archive:
        return archive["noise"], json.loads(str(archive["stamp"]))


def _packed(rows: np.ndarray) -> np.ndarray:
    """Rows uint8 (B, N) as B items of N bytes, which numpy moves as one each."""
    return rows.view(f"V{rows.shape[1]}")[:, 0]


@contextmanager
def _open(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is no complete noise table ({type(error).__name__}: {error}). Copy it again from its source, or "
            "resume from an earlier checkpoint, whose table stands beside it."
        ) from error


def _reserve(file: BinaryIO, size: int) -> None:
    """Give a file its size, and its blocks on the disk now: a mapped file that finds none later kills the process."""
    size = max(1, size)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot reserve
            raise OSError(
                error.errno,
                f"{tempfile.gettempdir()} has no room for the noise table of {size / 1e6:,.0f} MB "
                f"({error.strerror}): set TMPDIR to a folder that has",
            ) from error
    file.truncate(size)
