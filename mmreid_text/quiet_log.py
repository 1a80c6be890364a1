"""Logs: mmengine's held back where a command's own output goes, everybody's kept from libraries that take over."""

import logging
import logging.config
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger


@contextmanager
def quiet_log() -> Iterator[None]:
    """Let nothing below a warning into the current log while the block runs: it goes to standard output."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def logs_left_alone() -> Iterator[None]:
    """Let nothing configure all logs anew while the block runs, as pymilvus does when it is imported.

    That would close the files that others, such as a Runner, write theirs to.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure
