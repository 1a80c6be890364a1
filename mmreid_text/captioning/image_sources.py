"""Where a captioning job's images come from: a folder, a list, an image store or a procedural world."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from mmreid_text.datasets.image_packing import SUFFIXES
from mmreid_text.datasets.image_store import ImageStore
from mmreid_text.procedural.domains import World
from mmreid_text.registry import IMAGE_SOURCES

_JPEG_QUALITY = 95


class ImageSource(ABC):
    """Base of the image sources.

    Attributes:
        root: Folder or URL that the names are relative to; '' where there is none.
    """

    root: str = ""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Names of all images, in any order, one at a time.

        Raises:
            OSError: They cannot be listed.
            ValueError: A name leads out of the root.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of the image file.

        Raises:
            OSError: It cannot be read, or lies outside the root.
        """


class _Files(ImageSource):
    """Files below a folder, out of which no name and no link leads."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"The image folder {self.root} does not exist.")
        self._real = os.path.realpath(self.root)

    def read(self, name: str) -> bytes:
        if fault := fault_of(name):
            raise PermissionError(f"Image {name!r} {fault}; it is not read.")
        path = os.path.join(self.root, name)
        if not self._inside(path):
            raise PermissionError(f"Image {path} leads out of {self.root} through a link; it is not read.")
        with open(path, "rb") as file:
            return file.read()

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return os.path.commonpath([real, self._real]) == self._real


@IMAGE_SOURCES.register_module()
class ImageFolder(_Files):
    """All .jpg, .jpeg and .png files below a folder.

    Links to files are followed as long as they stay below the folder; links to folders in it are passed over, since
    what they lead to is listed anyway.

    Args:
        root: The folder.

    Raises:
        FileNotFoundError: There is no such folder.

    Config::

        dict(type='ImageFolder', root='data/LUPerson-MLLM/images')
    """

    def names(self) -> Iterator[str]:
        folders = [""]
        while folders:
            inner = folders.pop()
            with os.scandir(os.path.join(self.root, inner)) as entries:
                for entry in entries:
                    name = os.path.join(inner, entry.name)
                    if entry.is_symlink() and not self._inside(entry.path):
                        raise ValueError(
                            f"{entry.path} is a link out of {self.root}. Images are read from below the folder only: "
                            "copy them there, or name a folder above both."
                        )
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                        yield name


@IMAGE_SOURCES.register_module()
class ImageList(_Files):
    """The images that a text file names, one per line, relative to a folder; blank lines are passed over.

    Args:
        file: The list, UTF-8.
        root: The folder.

    Raises:
        FileNotFoundError: There is no such file or folder.

    Config::

        dict(type='ImageList', file='data/chosen.txt', root='data/LUPerson-MLLM/images')
    """

    def __init__(self, file: str | os.PathLike[str], root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.file = Path(file)
        if not self.file.is_file():
            raise FileNotFoundError(f"The image list {file} does not exist.")

    def names(self) -> Iterator[str]:
        with self.file.open(encoding="utf-8") as lines:
            try:
                for number, line in enumerate(lines, 1):
                    if name := line.rstrip("\r\n"):
                        if fault := fault_of(name):
                            raise ValueError(f"{self.file}:{number} {name!r} {fault}; name images below {self.root}.")
                        yield name
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.file} is not UTF-8 text ({error}); save it as UTF-8.") from error


@IMAGE_SOURCES.register_module()
class PackedImages(ImageSource):
    """The images of an image store (``tools/pack_images.py``); those that it left out as unreadable are not listed.

    Args:
        root: Folder or URL of the store.

    Raises:
        FileNotFoundError: It has no index.

    Config::

        dict(type='PackedImages', root='/scratch/LUPerson-MLLM/images')
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.store = ImageStore(root)
        self.root = self.store.root

    def names(self) -> Iterator[str]:
        index = self.store.index
        for row, name in enumerate(index.names()):
            if not index.error(row):
                yield name.as_py()

    def read(self, name: str) -> bytes:
        return self.store.read(name)


@IMAGE_SOURCES.register_module()
class ProceduralImages(ImageSource):
    """Pictures of a procedural world, drawn when they are read; ``tools/export_procedural.py`` writes the same.

    Args:
        domain: Domain of the world.
        num_ids: Its identities.
        images_per_id: Images of each; None takes the domain's number.
        seed: Seed of the world.
        split: Split of the world.
        size: Height and width, pixels.
        root: Folder with the same pictures as files, to be named in the caption table; '' for none.

    Raises:
        ValueError: :class:`~mmreid_text.procedural.domains.World` refuses the arguments.

    Config::

        dict(type='ProceduralImages', domain='source', num_ids=2000)
    """

    def __init__(
        self,
        domain: str = "source",
        num_ids: int = 2000,
        images_per_id: int | None = None,
        seed: int = 0,
        split: str = "train",
        size: tuple[int, int] = (384, 128),
        root: str = "",
    ) -> None:
        height, width = size
        self.world = World(domain, num_ids, images_per_id, seed, size=(height, width), split=split)
        self.root = root

    def names(self) -> Iterator[str]:
        return (f"{row:07d}.jpg" for row in range(len(self.world)))

    def read(self, name: str) -> bytes:
        pixels = self.world.render(int(PurePosixPath(name).stem))
        _, content = cv2.imencode(
            ".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        )
        return content.tobytes()


def fault_of(name: str) -> str | None:
    """Why a name is not one below a folder, None if it is.

    >>> fault_of("a/../../b.jpg")
    "has '..' in it"
    """
    if os.path.isabs(name):
        return "is an absolute path"
    if ".." in name.split("/"):
        return "has '..' in it"
    return "has a zero byte in it" if "\0" in name else None
