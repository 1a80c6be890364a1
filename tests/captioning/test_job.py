"""Configs of captioning jobs."""

import pickle
from pathlib import Path

import pytest
from mmengine.config import Config

from mmreid_text.captioning.job import CaptionJob

CONFIGS = Path(__file__).parents[2] / "configs/captioning"
JOBS = sorted(path for path in CONFIGS.glob("*.py") if not path.stem.startswith(("matrix", "tiny")))
BACKEND = dict(type="Procedural", num_ids=5)
IMAGES = dict(type="ProceduralImages", num_ids=5)
STATIC = dict(name="Ts", backend=BACKEND, instruction="static")
DYNAMIC = dict(name="Td", backend=BACKEND, instruction="dynamic", templates="bank")


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_configs_are_whole(path, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTION_IMAGES", str(tmp_path))
    monkeypatch.setenv("PEOPLE_ROOT", str(tmp_path))
    (tmp_path / "LUPerson-MLLM/images").mkdir(parents=True)
    job = CaptionJob.from_file(path)
    assert [s.name for s in job.sources][:2] == ["Ts-qwen", "Td-qwen"]
    assert len(set(map(id, job.build_backends()))) == len({str(s.backend) for s in job.sources})
    job.build_images()
    assert pickle.loads(pickle.dumps(job)).stamp() == job.stamp()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (dict(source=[STATIC]), "'source' is unknown; did you mean 'sources'"),
        (dict(sources=[]), "list of 1 to 100"),
        (dict(images=None), "'images' is missing"),
        (
            dict(sources=[{**STATIC, "template": "bank"}]),
            r"sources\[0\].template' is unknown; did you mean 'templates'",
        ),
        (dict(sources=[{"name": "Ts", "backend": BACKEND}]), r"sources\[0\].instruction' is missing"),
        (dict(sources=[STATIC, STATIC]), "Two sources are called 'Ts'"),
        (dict(sources=[{**STATIC, "name": "../x"}]), r"name='\.\./x' must be letters"),
        (dict(sources=[{**STATIC, "templates": "bank"}]), "'static' takes no templates"),
        (dict(sources=[{**DYNAMIC, "templates": None}]), "'dynamic' needs templates="),
        (dict(sources=[{**DYNAMIC, "templates": "grammar:many"}]), "must be 'grammar:' and a number"),
        (dict(sources=[{**STATIC, "instruction": "statik"}]), "did you mean 'static'"),
        (dict(shard_size=0), "shard_size=0 must be at least 1"),
        (dict(shard_size="256"), "shard_size='256' must be a whole number"),
        (dict(seed=0.5), r"seed=0\.5 must be a whole number"),
        (dict(cleaning=dict(max_words=None)), "max_words=None must be a whole number"),
        (dict(cleaning=dict(max_repeats=70_000)), "max_repeats=70000 must not pass 65,534"),
        (dict(re_asks=-1), "re_asks=-1 must be at least 0"),
        (dict(stale_after=1), "stale_after=1 must be at least 10"),
        (dict(cleaning=dict(min_word=3)), "'cleaning.min_word' is unknown; did you mean 'min_words'"),
        (dict(cleaning=dict(min_words=9, max_words=3)), "0 <= min <= max"),
    ],
)
def test_bad_configs_are_refused(change, rule):
    cfg = {"images": IMAGES, "sources": [STATIC, DYNAMIC], **change}
    with pytest.raises(ValueError, match=rule):
        CaptionJob.from_dict({key: value for key, value in cfg.items() if value is not None})


@pytest.mark.parametrize(
    ("backend", "rule"),
    [
        (dict(type="OpenAi"), "type='OpenAi' is unknown; choose one of OpenAIServer, Procedural"),
        (dict(type="OpenAIServer", endpoints="http://a/v1", model="m", api_key="sk-secret"), "environment variable"),
        (dict(type="OpenAIServer", endpoints="http://a/v1", model="m", tries=3), "tries"),
        (dict(type="Procedural", captioner="gpt"), "captioner='gpt' must be one of"),
    ],
)
def test_bad_back_ends_are_refused(backend, rule):
    job = CaptionJob.from_dict({"images": IMAGES, "sources": [{**STATIC, "backend": backend}]})
    with pytest.raises(ValueError, match=rule) as refused:
        job.build_backends()
    assert "secret" not in str(refused.value)


def test_templates_come_from_bank_grammar_or_file(tmp_path):
    (tmp_path / "mine.txt").write_text("[person] is in [clothing].\n")
    sources = [
        {**DYNAMIC, "name": str(i), "templates": kind}
        for i, kind in enumerate(("bank", "grammar:50", str(tmp_path / "mine.txt")))
    ]
    job = CaptionJob.from_dict({"images": IMAGES, "sources": sources})
    bank, grammar, mine = (source.templates for source in job.sources)
    assert len(bank) >= 46
    assert len(set(grammar)) == 50
    assert list(mine) == ["[person] is in [clothing]."]
    assert job.sources[2].template_of(0, "a.jpg") == 0


def test_a_folder_is_one_jobs(tmp_path):
    first = CaptionJob.from_dict({"images": IMAGES, "sources": [STATIC, DYNAMIC]})
    first.open(tmp_path)
    CaptionJob.from_dict({"images": IMAGES, "sources": [STATIC, DYNAMIC], "re_asks": 7}).open(tmp_path)
    for change, told in (
        (dict(seed=1), "other `seed`"),
        (dict(sources=[STATIC]), r"other `sources` \(2 of them, not 1\)"),
        (dict(sources=[STATIC, {**DYNAMIC, "templates": "grammar:9"}]), "templates: "),
        (dict(images={**IMAGES, "num_ids": 6}), "num_ids: '5', not '6'"),
    ):
        cfg = {"images": IMAGES, "sources": [STATIC, DYNAMIC], **change}
        with pytest.raises(ValueError, match=told):
            CaptionJob.from_dict(cfg).open(tmp_path)


def test_configs_keep_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("CAPTION_TEST_KEY", "sk-very-secret")
    backend = dict(type="OpenAIServer", endpoints="http://a/v1", model="m", api_key_env="CAPTION_TEST_KEY")
    job = CaptionJob.from_dict({"images": IMAGES, "sources": [{**STATIC, "backend": backend}]})
    job.open(tmp_path)
    dumped = Config(dict(sources=[{**STATIC, "backend": backend}])).pretty_text
    assert "sk-very-secret" not in (tmp_path / "job.json").read_text() + repr(job) + dumped
