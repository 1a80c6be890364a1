"""A worker's own memory does not grow with the rows of its data set."""

import multiprocessing
import os

import numpy as np
import pytest
from mmengine.runner import Runner
from small_procedural import small_procedural
from torch.utils.data import DataLoader

from mmreid_text.datasets import ArraySampler, TextReIDDataset, write_caption_table
from mmreid_text.datasets.caption_tokens import CHUNK_ROWS, write_chunks
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import get_tokenizer

ROWS = {"small": 4_000, "large": 400_000}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")

    def chunks(rows):
        for start in range(0, rows, 20_000):
            image = np.arange(start, min(start + 20_000, rows)) // 4
            captions = ["somebody" for _ in image]
            yield {"image": [f"{i:08d}.jpg" for i in image], "caption": captions, "pid": image, "image_id": image}

    made = {name: write_caption_table(folder / name, chunks(rows), "mine") for name, rows in ROWS.items()}
    tokens, ends = get_tokenizer().uncut(["somebody"] * CHUNK_ROWS)
    for table in made.values():
        sizes = [min(CHUNK_ROWS, len(table) - start) for start in range(0, len(table), CHUNK_ROWS)]
        write_chunks(table, lambda starts, sizes=sizes: ((tokens[: ends[n]], ends[: n + 1]) for n in sizes))
    return made


def private_mb(pid):
    """What a process holds alone, MB; unchanged pages of mapped files belong to the page cache."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty")) / 1024


def worker_mb(table, context, test_mode=True):
    """Private memory of a worker that has read some samples of every other image."""
    rows = np.flatnonzero(np.arange(len(table)) // 4 % 2)  # a view that skips rows holds an array of them
    folder = os.path.dirname(table.path)
    dataset = TextReIDDataset(table.select(rows), [Tokenize()], folder, test_mode=test_mode)
    loader = DataLoader(
        dataset,
        batch_size=50,
        num_workers=1,
        sampler=ArraySampler(dataset, seed=0),
        multiprocessing_context=context,
        collate_fn=list,
    )
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    return private_mb(batches._workers[0].pid)


@pytest.mark.parametrize(
    ("context", "limit"),
    [
        ("spawn", 1.5),  # copies of row numbers, labels and first rows would take 2.4 MB
        ("forkserver", 1.5),
        ("fork", 5.0),  # lists of numbers or strings would take 12 MB and more; the heap itself varies by 2 MB
    ],
)
def test_private_memory_does_not_grow_with_rows(context, limit, tables):
    small, large = (worker_mb(tables[name], context, test_mode=context != "fork") for name in ROWS)
    assert large - small < limit, f"{small:.1f} MB at {ROWS['small']:,} rows, {large:.1f} MB at {ROWS['large']:,}"


def test_a_worker_of_the_forkserver_shares_what_it_imports(tables):
    assert worker_mb(tables["small"], "forkserver") < 150  # importing torch alone takes 277


@pytest.fixture
def own_start_method():
    """mmengine sets the start method of the whole process."""
    before = multiprocessing.get_start_method()
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("own_start_method")
@pytest.mark.filterwarnings("ignore:Multi-processing start method")
def test_a_run_with_a_forkserver_trains_as_with_fork(tmp_path):
    losses = {}
    for method in ("fork", "forkserver"):
        options = {
            "train_dataloader.num_workers": 2,
            "train_dataloader.persistent_workers": True,
            "env_cfg.mp_cfg.mp_start_method": method,
            **dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator", "default_hooks.checkpoint.save_best")),
            "work_dir": str(tmp_path / method),
            "experiment_name": f"{tmp_path.name}_{method}",
        }
        runner = Runner.from_cfg(small_procedural(tmp_path, **options))
        assert multiprocessing.get_start_method() == method
        runner.train()
        losses[method] = runner.message_hub.get_scalar("train/loss").data[0].tolist()
    assert len(losses["fork"]) == 2
    assert losses["forkserver"] == losses["fork"]


def test_a_view_passes_to_a_spawned_worker_by_shared_memory(tables):
    view = tables["large"].select(np.arange(0, 400_000, 3))
    rows = view._rows
    before = rows.values
    again = rows.__reduce__()[0](*rows.__reduce__()[1])
    assert rows._tensor.is_shared()
    assert rows.__reduce__()[1][0] is rows._tensor  # moved once
    assert np.shares_memory(again.values, rows.values)
    np.testing.assert_array_equal(rows.values, before)
    assert view.position(5) == 15
