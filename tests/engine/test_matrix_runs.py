"""Matrix files: read, refused, and turned into runs."""

from pathlib import Path

import numpy as np
import pytest
from small_procedural import small_procedural

from mmreid_text.engine.matrix_runs import all_runs, check_runs, plan_matrix
from mmreid_text.engine.run_pool import config_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "nam.py").write_text(config_text(small_procedural(tmp_path)))
    street = small_procedural(tmp_path, **{"train_dataloader.dataset.domain": "street"})
    (tmp_path / "street.py").write_text(config_text(street))
    return tmp_path


def plan(folder, *rows, seeds=2, **options):
    text = ", ".join("dict(" + ", ".join(f"{k}={v!r}" for k, v in row.items()) + ")" for row in rows)
    (folder / "matrix.py").write_text(f"rows = [{text}]\n")
    return plan_matrix(str(folder / "matrix.py"), seeds, folder / "out", **options)


TUNED = {"name": "tuned", "source": "procedural_street", "config": "street.py"}
NAM = {"name": "NAM", "source": "procedural_source", "config": "nam.py"}
FROM_NAM = {**TUNED, "name": "NAM, then tuned", "start": {"config": "nam.py"}}


def test_rows_share_the_run_that_they_start_from_seed_by_seed(configs):
    planned = plan(configs, TUNED, FROM_NAM, NAM, {**FROM_NAM, "name": "again"})
    runs = all_runs(planned)
    assert len(runs) == 6
    assert [run.cfg.randomness.seed for run in runs] == [0, 0, 0, 1, 1, 1]
    tuned, from_nam, nam, again = (own.runs[1] for own in planned)
    assert from_nam.start is nam
    assert again is from_nam
    assert tuned.start is None
    assert tuned is not from_nam
    assert runs.index(nam) < runs.index(from_nam)
    assert len({run.work_dir for run in runs}) == len({run.stamp for run in runs}) == 6
    assert planned[0].dumps[1] == tuned.work_dir / "features"
    (nam.work_dir).mkdir(parents=True)
    (nam.work_dir / "best_mean_R1_epoch_1.pth").touch()
    from_nam.write_config(configs / "written.py")
    assert f"{nam.work_dir.name}/best_mean_R1_epoch_1.pth'" in (configs / "written.py").read_text()


def test_a_change_of_the_start_starts_over_what_begins_there(configs):
    before = plan(configs, TUNED, FROM_NAM, seeds=1)
    text = (configs / "nam.py").read_text()
    (configs / "nam.py").write_text(text.replace("'p': 0.15", "'p': 0.2"))
    after = plan(configs, TUNED, FROM_NAM, seeds=1)
    assert before[0].runs[0].stamp == after[0].runs[0].stamp
    assert before[1].runs[0].stamp != after[1].runs[0].stamp
    assert before[1].runs[0].work_dir == after[1].runs[0].work_dir
    assert plan(configs, TUNED, seeds=1, amp=True)[0].runs[0].stamp != after[0].runs[0].stamp


def test_options_make_runs_of_their_own(configs):
    plan(configs, {**TUNED, "options": {"randomness": None}})  # the row's seed is enough
    two, rate = {"train_cfg": {"max_epochs": 2, "val_interval": 1}}, {"optim_wrapper.optimizer.lr": 0.5}
    turned = {"train_cfg": {"val_interval": 1, "max_epochs": 2}}
    planned = plan(
        configs,
        TUNED,
        {**TUNED, "name": "longer", "options": {**two, **rate}},
        {**TUNED, "name": "the same", "options": {**rate, **turned}},
        {**TUNED, "name": "none", "options": {}},
        {**FROM_NAM, "name": "NAM, longer", "start": {"config": "nam.py", "options": two}},
        FROM_NAM,
        seeds=1,
    )
    plain, longer, same, none, from_longer, from_nam = (own.runs[0] for own in planned)
    assert same is longer
    assert none is plain
    assert (plain.cfg.train_cfg.max_epochs, longer.cfg.train_cfg.max_epochs) == (1, 2)
    assert (plain.cfg.optim_wrapper.optimizer.lr, longer.cfg.optim_wrapper.optimizer.lr) == (0.001, 0.5)
    assert from_longer.start.cfg.train_cfg.max_epochs == 2
    assert from_nam.start.cfg.train_cfg.max_epochs == 1
    runs = all_runs(planned)
    assert len({run.work_dir for run in runs}) == len({run.stamp for run in runs}) == len(runs) == 6


def test_options_are_the_same_for_every_seed_and_row(configs):
    sgd = {"optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.1}}
    first, second = plan(configs, {**TUNED, "options": sgd}, {**TUNED, "name": "again", "options": sgd})
    assert first.runs == second.runs
    assert first.runs[0].name == f"tuned: {first.runs[0].work_dir.parent.name} seed 0"
    for run in first.runs.values():
        assert run.cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.1}
    assert len({run.work_dir.parent for run in first.runs.values()}) == 1


def test_checkpoints_and_dumps_made_elsewhere(configs):
    for seed in range(2):
        (configs / f"best{seed}.pth").write_bytes(bytes(seed))
        (configs / f"dumps{seed}").mkdir()
        np.savez(configs / f"dumps{seed}/rstpreid.npz")
    own = plan(
        configs,
        {**TUNED, "checkpoint": f"{configs}/best{{seed}}.pth"},
        {**TUNED, "name": "one", "checkpoint": f"{configs}/best1.pth"},
        {"name": "theirs", "source": "RSTPReid", "features": f"{configs}/dumps{{seed}}"},
    )
    assert [sorted(row.dumps) for row in own] == [[0, 1], [0], [0, 1]]
    assert own[0].runs[1].checkpoint == f"{configs}/best1.pth"
    assert own[2].targets == ["rstpreid"]
    assert own[2].runs == {}
    assert own[2].row.in_domain("rstpreid")
    three = plan(configs, {**TUNED, "checkpoint": f"{configs}/best{{seed}}.pth"}, seeds=3)
    with pytest.raises(FileNotFoundError, match=r"seed 2: checkpoint .*best2\.pth does not exist"):
        check_runs(all_runs(three), nproc=1)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{**TUNED, "sorce": "x"}], KeyError, r"row 0: unknown key 'sorce'.*'source'"),
        ([{"name": "x", "config": "street.py"}], ValueError, "'source' must be a string, got None"),
        ([{"name": "x", "source": "y"}], ValueError, "needs either 'config' or 'features'"),
        ([{**FROM_NAM, "checkpoint": "x.pth"}], ValueError, "exclude each other"),
        ([{**TUNED, "options": 3}], ValueError, r"row 0 \(tuned\): 'options' must be a dict of dotted keys"),
        ([{**TUNED, "options": {3: 4}}], ValueError, "'options' must be a dict of dotted keys"),
        ([{**TUNED, "options": {"a": [{"b": {3: 4}}]}}], ValueError, "'options' must be a dict of dotted keys"),
        ([{**TUNED, "options": {"randomness": 3}}], ValueError, "randomness: 3 cannot stand for a dict"),
        ([{**TUNED, "options": {"randomness.seed": 5}}], ValueError, "row 0 .*each of the seeds"),
        ([{**TUNED, "options": {"randomness": {"seed": 5}}}], ValueError, "row 0 .*each of the seeds"),
        (
            [NAM, {**TUNED, "options": {"train_cfg.max_epoch": 2}}],
            KeyError,
            r"matrix\.py, row 1 \(tuned\): option train_cfg\.max_epoch: 'max_epoch' names nothing",
        ),
        ([{**TUNED, "options": {"train_cfg": 3}}], ValueError, r"row 0 \(tuned\): option train_cfg: 3 cannot stand"),
        ([{**TUNED, "options": {"protocol": "tst"}}], ValueError, r"row 0 \(tuned\): protocol must be one of"),
        (
            [{**TUNED, "start": {"config": "nam.py", "options": {"train_cfg.max_epoch": 2}}}],
            KeyError,
            r"row 0 \(tuned\): option train_cfg\.max_epoch",
        ),
        ([{"name": "x", "source": "y", "features": "z", "options": {}}], ValueError, "which a row of 'features'"),
        ([{**TUNED, "start": {"config": "nam.py", "options": 3}}], ValueError, "start: 'options' must be a dict"),
        ([{**TUNED, "start": {"confg": "nam.py"}}], KeyError, r"start: unknown key 'confg'.*'config'"),
        ([{**TUNED, "start": {}}], ValueError, "a start needs a 'config'"),
        ([{**TUNED, "start": None}], ValueError, "start must be a dict, got None"),
        ([{**TUNED, "config": "nowhere.py"}], FileNotFoundError, r"nowhere\.py does not exist"),
        ([{**TUNED, "source": "CUHK-PEDES"}], ValueError, "trains on procedural_street"),
        ([TUNED, TUNED], ValueError, "two rows have the name 'tuned'"),
        ([], ValueError, "`rows` is empty"),
    ],
)
def test_mistakes_are_named(configs, rows, error, message):
    with pytest.raises(error, match=message):
        plan(configs, *rows)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("matrix*.py")), ids=lambda p: p.stem)
def test_matrices_of_the_repository_are_whole(path, tmp_path):
    planned = plan_matrix(str(path), 2, tmp_path)
    assert len({tuple(own.targets) for own in planned}) == 1
    in_domain = {
        target: {own.row.name for own in planned if own.row.in_domain(target)} for target in planned[0].targets
    }
    tuned = set().union(*in_domain.values())
    if path.stem in ("matrix_sources", "matrix_captions"):  # rows differ by captions, all transfer directly
        assert not tuned
        return
    assert tuned
    assert all(methods in (tuned, set()) for methods in in_domain.values())
    if path.parent.name == "irra":  # every method is tuned on every target
        assert tuned == {own.row.name for own in planned} - {"CLIP", "NAM"}
        assert set() not in in_domain.values()
    starts = {run.start for own in planned for run in own.runs.values()} - {None}
    assert starts or path.parent.name == "cmmt"  # whose rows start from no other run
    assert len(starts) == 2 * len({start.work_dir.parent for start in starts})  # one of each kind per seed
