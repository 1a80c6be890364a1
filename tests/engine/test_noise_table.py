"""The noise table: storage, stamps, exchange between nodes."""

import errno
import os
import textwrap

import numpy as np
import pytest
import scripts
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.engine.noise_table import NoiseTable, load_noise_table


def test_rows_come_back_within_half_a_step():
    table = NoiseTable(100, "data")
    rng = np.random.default_rng(0)
    ids = rng.permutation(100)[:40]
    r = torch.from_numpy(rng.uniform(0, 2, (40, 30)))
    table.write(ids, NoiseTable.quantise(r).numpy())
    assert (table.read(ids, 30) - r).abs().max() <= 1 / 255 + 1e-6
    untouched = np.setdiff1d(np.arange(100), ids)
    assert table.read(untouched, 77).abs().max() == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), captions=st.integers(1, 30), length=st.integers(1, 20), data=st.data())
def test_moving_whole_rows_equals_indexing(seed, captions, length, data):
    rng = np.random.default_rng(seed)
    table, plain = NoiseTable(captions, "data", length), np.zeros((captions, length), np.uint8)
    for _ in range(3):
        ids = rng.permutation(captions)[: data.draw(st.integers(0, captions))]
        width = data.draw(st.integers(1, length))
        r = torch.from_numpy(rng.uniform(-0.1, 2.1, (len(ids), width)).astype(np.float32))
        noise = NoiseTable.quantise(r).numpy()
        np.testing.assert_array_equal(noise, np.clip(np.rint(r.numpy() * np.float32(127.5)), 0, 255))
        table.write(ids, noise)
        plain[ids] = 0
        plain[ids, :width] = noise
        np.testing.assert_array_equal(table.rows, plain)
        read = table.read(ids, width)
        assert read.dtype == torch.float32
        np.testing.assert_allclose(read.numpy(), plain[ids, :width] / 127.5, rtol=1e-6)


def test_out_of_range_noise_saturates():
    assert NoiseTable.quantise(torch.tensor([[-0.1, 0.0, 2.0, 2.5]])).tolist() == [[0, 0, 255, 255]]


def test_table_takes_a_byte_per_token_position():
    assert NoiseTable(1000, "data").rows.nbytes == 77_000


def test_saved_table_comes_back_stamped(tmp_path):
    table = NoiseTable(50, "data")
    table.rows[:] = np.random.default_rng(0).integers(0, 256, table.rows.shape)
    table.save(tmp_path / "noise_epoch_3.npz", epoch=3)
    assert [p.name for p in tmp_path.iterdir()] == ["noise_epoch_3.npz"]
    noise, stamp = load_noise_table(tmp_path / "noise_epoch_3.npz")
    assert (noise == table.rows).all()
    assert stamp == {"epoch": 3, "fingerprint": "data"}
    again = NoiseTable(50, "data")
    again.load(tmp_path / "noise_epoch_3.npz", epoch=3)
    assert (again.rows == table.rows).all()


@pytest.mark.parametrize(
    ("captions", "fingerprint", "epoch", "message"),
    [(50, "other", 3, "made from other data"), (51, "data", 3, "made from other data"), (50, "data", 4, "of epoch 3")],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, captions, fingerprint, epoch, message):
    NoiseTable(50, "data").save(tmp_path / "t.npz", epoch=3)
    with pytest.raises(ValueError, match=message):
        NoiseTable(captions, fingerprint).load(tmp_path / "t.npz", epoch)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_table_is_named(tmp_path, damage):
    path = tmp_path / "t.npz"
    NoiseTable(50, "data").save(path, epoch=3)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes({"cut": content[:2000], "flipped": content, "text": b"sorry, not found"}[damage])
    for read in (lambda: load_noise_table(path), lambda: NoiseTable(50, "data").load(path, 3)):
        with pytest.raises(ValueError, match=r"t\.npz is no complete noise table"):
            read()


def test_a_full_disk_is_named(monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no room for the noise table of 77 MB .*set TMPDIR"):
        NoiseTable(10**6, "data")
    monkeypatch.delattr(os, "posix_fallocate")
    assert NoiseTable(3, "data").rows.shape == (3, 77)


def test_a_missing_table_names_file_and_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"noise_epoch_1\.npz.*load_from instead of resume"):
        NoiseTable(5, "data").load(tmp_path / "noise_epoch_1.npz", 1)


WORKER = """
    import os, sys
    import numpy as np, torch.distributed as dist
    import mmreid_text.engine.noise_table as module
    from fork_ranks import fork_ranks

    module.EXCHANGE_BYTES = 77 * 2 * 8  # several chunks of a few rows
    out, nodes = sys.argv[1], sys.argv[2].split(",")
    world = len(nodes)

    def work(rank):
        os.environ["GROUP_RANK"] = nodes[rank]
        sent, gather = [0], dist.all_gather
        def counted(parts, mine):
            sent.append(sum(part.nbytes for part in parts))
            gather(parts, mine)
        dist.all_gather = counted
        table = module.NoiseTable(64, "data")
        for epoch in range(2):
            ids = np.arange(rank, 64 - 10 * rank, world)  # ranks see different numbers of rows; some rows nobody
            for part in np.array_split(ids, 5):
                table.write(part, np.repeat((part[:, None] + 50 * epoch).astype(np.uint8), 20, axis=1))
            table.merge()
        np.save(f"{out}/rank{rank}.npy", table.rows)
        assert max(sent) <= module.EXCHANGE_BYTES
        assert (len(sent) > 9) == (len(set(nodes)) > 1)
        dist.barrier()

    sys.exit(any(fork_ranks(world, work)))
"""


@pytest.mark.parametrize("nodes", ["0,0", "0,1", "0,1,2", "0,0,1"])
def test_ranks_of_all_nodes_end_with_the_same_whole_table_in_bounded_memory(nodes, tmp_path):
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER))
    done = scripts.run(tmp_path / "worker.py", tmp_path, nodes, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    world = len(nodes.split(","))
    expected = np.zeros((64, 77), np.uint8)
    seen = np.concatenate([np.arange(rank, 64 - 10 * rank, world) for rank in range(world)])
    expected[seen, :20] = seen[:, None] + 50
    for rank in range(world):
        np.testing.assert_array_equal(np.load(tmp_path / f"rank{rank}.npy"), expected)
    assert not list(tmp_path.glob("mmreid_text_noise_*"))  # unlinked once mapped
