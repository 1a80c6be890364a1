"""The libraries that only clustering needs."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_clustering() -> Iterator[None]:
    """Say how to get scikit-learn and scipy where an import within fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"Clustering needs scikit-learn and scipy ({error}): pip install 'mmreid_text[clustering]'."
        ) from error


def check_clustering() -> None:
    """Raise ImportError, with the remedy, where one is missing."""
    with needs_clustering():
        import scipy.sparse  # noqa: F401
        import sklearn.cluster  # noqa: F401
