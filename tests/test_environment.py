"""The package refuses to share an environment with upstream releases of the same import names."""

from importlib import metadata

import pytest

import mmreid_text


@pytest.mark.parametrize(("name", "ours"), [("mmcv-lite", "onedl-mmcv"), ("mmengine", "onedl-mmengine")])
def test_upstream_beside_ours_is_refused(monkeypatch, name, ours):
    real = metadata.distribution
    monkeypatch.setattr(metadata, "distribution", lambda asked: real("pip" if asked == name else asked))
    with pytest.raises(ImportError, match=f"pip uninstall {name} {ours} && pip install {ours}"):
        mmreid_text._refuse_upstream()


def test_this_environment_passes():
    mmreid_text._refuse_upstream()
