"""Progress bars in processes that tests fork and kill."""

import threading

from tqdm import tqdm


def make_bars_safe() -> None:
    """Take a lock of this process alone.

    tqdm's own is shared with forked children, so one that is killed while it draws a bar would hold it for ever. Its
    monitor's thread might hold any lock while the tests fork.
    """
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
