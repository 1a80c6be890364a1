"""The pseudo-text tools as users call them, killed and started again too."""

import json
import runpy

import cv2
import numpy as np
import pyarrow as pa
import pytest
from caption_runs import read_shard, rows_of, wait_until
from scripts import ROOT, Script, run

from mmreid_text.datasets import CaptionTable, LUPersonT
from mmreid_text.procedural.domains import World
from mmreid_text.pseudo_text.composer import Composer
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.score_files import read_scores
from mmreid_text.pseudo_text.scoring import PromptScorer, keep, load_encoder
from mmreid_text.pseudo_text.vocabulary import load_vocabulary

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
TOOL = ROOT / "tools/pseudo_text.py"
CONFIGS = ROOT / "configs/unipt"
VOCABULARY = """\
prompt: a photo of a person with {}
pronouns: {man: [he, his], woman: [she, her]}
lists:
  garment: {trousers: [trousers+], skirt: [skirt]}
  colour: {red: [red], blue: [blue, navy blue], black: [black], white: [white]}
attributes:
  gender: {prompt: "a photo of {}", classes: {man: [man, guy], woman: [woman, lady]}}
  upper: {classes: {coat: [coat], shirt: [shirt, blouse]}}
  lower: {product: [colour, garment]}
  hair: {classes: {short: [short hair*], long: [long hair*, ponytail]}}
  bag: {none: no bag, classes: {backpack: [backpack], handbag: [handbag, purse]}}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folder of 60 drawn people, one of whose files is cut short."""
    folder = tmp_path_factory.mktemp("people") / "images"
    folder.mkdir()
    world = World("source", 60, seed=9, size=(64, 32))
    for row in range(60):
        cv2.imwrite(str(folder / f"{row:04d}.jpg"), np.ascontiguousarray(world.render(row)[..., ::-1]))
    broken = folder / "0007.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    return folder


def write_job(folder, pictures, **options):
    (folder / "mine.yaml").write_text(VOCABULARY)
    cfg = dict(
        images=dict(type="ImageFolder", root=str(pictures)),
        vocabulary=str(folder / "mine.yaml"),
        name="tried",
        templates=40,
        threshold=0.4,
        **{"shard_size": 16, "batch_size": 10} | options,
    )
    path = folder / "job.py"
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in cfg.items()))
    return path


def expected_captions(job, pictures, number=0):
    """Image by image, without any of the job's machinery."""
    vocabulary = load_vocabulary(job.vocabulary)
    encoder = load_encoder(job.scorer)
    scorer, composer = PromptScorer(encoder, vocabulary, job.scale), Composer(vocabulary, job.templates, job.seed)
    captions, scores = {}, {}
    for path in sorted(pictures.glob("*.jpg")):
        image = cv2.imread(str(path)) if path.name != "0007.jpg" else None
        if image is not None:
            pixels = encoder.prepare(np.ascontiguousarray(image[..., ::-1]))
            best, sure = (part.numpy() for part in scorer.best(pixels[None]))
            told = keep(best, sure, vocabulary, job.threshold)
            captions[path.name] = composer.write(told, [path.name], number)[0][0]
            scores[path.name] = (best[0], sure[0])
    return captions, scores


def test_a_job_captions_scores_and_publishes_every_image(tmp_path, pictures):
    config = write_job(tmp_path, pictures, captions_per_image=2)
    out, root = tmp_path / "out", tmp_path / "LUPerson-T"
    done = run(TOOL, config, "--out", out, "--publish", root, "--publish-arrow", tmp_path / "arrow")
    # The cut picture is in no caption, so the Arrow files can be written.
    assert done.returncode == 0, done.stderr[-3000:]
    job = PseudoTextJob.from_file(config)
    rows = rows_of(out)
    assert len(rows) == 2 * 60
    for number, source in enumerate(("UniPT-1", "UniPT-2")):
        captions, scores = expected_captions(job, pictures, number)
        assert len(captions) == 59
        for image, caption in captions.items():
            (row,) = rows[image, source]
            assert (row["caption"], row["status"], row["instruction"]) == (caption, "ok", "pseudo-text")
        (row,) = rows["0007.jpg", source]
        assert (row["status"], row["reason"], row["caption"]) == ("failed", "image", "")
        assert "0007.jpg" in row["detail"]
    vocabulary = load_vocabulary(job.vocabulary)
    found = {row["image"]: row for table in read_scores(out) for row in table.to_pylist()}
    assert len(found) == 60
    for image, (best, sure) in scores.items():
        for i, attribute in enumerate(vocabulary.attributes):
            assert found[image][attribute.slot] == attribute.classes[best[i]].name
            assert found[image][f"{attribute.slot}_p"] == pytest.approx(sure[i], abs=1e-4)
    assert found["0007.jpg"]["gender"] is None
    table = CaptionTable.open(tmp_path / "out.arrow")
    assert (len(table), table.sources, table.name) == (118, ["UniPT-1", "UniPT-2"], "tried")
    read = LUPersonT(root, pipeline=[dict(type="LoadImage")])
    assert read[0]["img"].shape == (64, 32, 3)
    assert len(read.table) == len({(table.image(i), table.caption(i)) for i in range(118)})
    arrow = pa.ipc.open_file(pa.memory_map(str(tmp_path / "arrow/LUPerson_train.arrow"))).read_all()
    assert arrow.num_rows >= 55
    assert "| bag |" in done.stdout
    assert "118 captions of 59 images; 2 failed" in done.stdout


def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path, pictures):
    config = write_job(tmp_path, pictures, shard_size=4, batch_size=4)
    shards = tmp_path / "out/shards"
    for part in (0, 4):
        script = Script(TOOL, config, "--out", tmp_path / "out")
        wait_until(lambda part=part: shards.exists() and len(list(shards.glob("[0-9]*"))) > part)
        script.kill()  # the parent alone: its process ends with it
    scripts = [Script(TOOL, config, "--out", tmp_path / "out") for _ in range(2)]
    assert [script.wait() for script in scripts] == [0, 0]
    table = CaptionTable.open(tmp_path / "out.arrow")
    captions, _ = expected_captions(PseudoTextJob.from_file(config), pictures)
    assert [(table.image(i), table.caption(i)) for i in range(len(table))] == list(captions.items())
    assert sum(len(read_shard(path)) for path in shards.glob("[0-9]*.arrow")) == 60
    assert len(list((tmp_path / "out/scores").iterdir())) == 15
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]


def test_the_report_measures_drawn_people(tmp_path):
    config = CONFIGS / "pseudo_text_procedural_standard.py"
    main = runpy.run_path(str(ROOT / "tools/pseudo_text_report.py"))["main"]
    assert main([str(config), "--out", str(tmp_path / "report"), "--people", "24"]) == 0
    facts = json.loads((tmp_path / "report/accuracy.json").read_text())
    parts = {(part["slot"], part["part"]): part for part in facts["parts"]}
    assert parts["upper", "colour"]["accuracy"] > 0.5 > parts["upper", "colour"]["majority"]
    assert ("age", "age") not in parts
    assert {"100", f"{facts['calibrated_scale']:g}"} == facts["scales"].keys()
    assert "| upper: colour | 24 |" in (tmp_path / "report/accuracy.md").read_text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("pseudo_text_*.py")), ids=lambda path: path.stem)
def test_configs_are_whole(path, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTION_IMAGES", str(tmp_path))
    monkeypatch.setenv("PEOPLE_ROOT", str(tmp_path))
    (tmp_path / "LUPerson-MLLM/images").mkdir(parents=True)
    job = PseudoTextJob.from_file(path)
    job.build_images()
    assert job.source_names == ["UniPT"]
    assert len(job.build_composer().patterns) == 456


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(treshold=0.5), "'treshold' is unknown; did you mean 'threshold'"),
        (dict(threshold=1.5), r"threshold=1\.5 must be a number from 0.0 to 1.0"),
        (dict(scale=0), "scale=0 must be a number from 0.001"),
        (dict(templates=0), "templates=0 must be a number from 1"),
        (dict(templates="many"), "templates='many' must be a whole number"),
        (dict(captions_per_image=0), "captions_per_image=0"),
        (dict(source="../x"), r"name='\.\./x' must be letters"),
        (dict(scorer=dict(clip="x")), "needs img_size"),
        (dict(images=None), r"'images' is missing \(docs/pseudo_text.md\)"),
    ],
)
def test_bad_jobs_are_refused(change, told):
    cfg = {"images": dict(type="ProceduralImages", num_ids=3), **change}
    with pytest.raises(ValueError, match=told):
        PseudoTextJob.from_dict({key: value for key, value in cfg.items() if value is not None})


def test_a_folder_is_one_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr("mmreid_text.pseudo_text.job._fingerprint", lambda scorer: f"of {scorer}")
    images = dict(type="ProceduralImages", num_ids=3)
    (tmp_path / "mine.yaml").write_text(VOCABULARY)
    PseudoTextJob.from_dict(dict(images=images)).open(tmp_path / "out")
    PseudoTextJob.from_dict(dict(images=images, batch_size=3)).open(tmp_path / "out")
    for change, told in (
        (dict(threshold=0.5), "other `threshold`"),
        (dict(seed=1), "other `seed`"),
        (dict(vocabulary=str(tmp_path / "mine.yaml")), "other `vocabulary`"),
        (dict(scorer=dict(clip="x", img_size=(64, 32))), "other `scorer`"),
        (dict(templates=457), "templates` .456 of them, not 457"),
    ):
        with pytest.raises(ValueError, match=told):
            PseudoTextJob.from_dict(dict(images=images, **change)).open(tmp_path / "out")


def test_mistakes_are_told_in_a_line(tmp_path, pictures, capsys):
    main = runpy.run_path(str(TOOL))["main"]
    config = write_job(tmp_path, pictures)
    (tmp_path / "mine.yaml").write_text(VOCABULARY.replace("  hair:", "  hairs:"))
    assert main([str(config), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'mine.yaml'}:10 `attributes` has the unknown attribute 'hairs'; did you mean 'hair'" in told
    assert main([str(tmp_path / "none.py"), "--out", str(tmp_path / "out")]) == 2
    assert "none.py does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # a mended vocabulary may take the folder
