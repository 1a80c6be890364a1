"""Log files of others stay open."""

import importlib
import logging

import pytest

from mmreid_text.quiet_log import logs_left_alone


def test_importing_milvus_closes_no_log_file(tmp_path):
    handler = logging.FileHandler(tmp_path / "run.log")
    try:
        with logs_left_alone():
            settings = pytest.importorskip("pymilvus.settings")
            importlib.reload(settings)  # where it had been imported before
        assert handler.stream is not None
    finally:
        handler.close()
