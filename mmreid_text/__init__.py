"""Text-to-image person re-identification: find a person's photos from a sentence."""

from importlib import metadata

from mmreid_text.version import __version__

__all__ = ["__version__"]


def _refuse_upstream() -> None:
    """Raise ImportError where a package stands that installs under the same import name as one we use."""
    for name in ("mmengine", "mmengine-lite", "mmcv", "mmcv-lite", "mmcv-full", "mmpretrain"):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        ours = f"onedl-{name.partition('-')[0]}"
        raise ImportError(
            f"{name} and {ours} are installed in one environment under the same import name. Make a fresh environment, "
            f"or: pip uninstall {name} {ours} && pip install {ours}"
        )


_refuse_upstream()
