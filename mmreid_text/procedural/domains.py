"""The five domains of the procedural world: one to pre-train on, a noisy source and three targets never trained on."""

from dataclasses import dataclass, field

import numpy as np

from mmreid_text.procedural.attributes import NUM_ATTRIBUTES, Frequencies, draw_identities
from mmreid_text.procedural.draw import render
from mmreid_text.procedural.palette import draw_look
from mmreid_text.procedural.sentences import NUM_DRAWS as WORDING_DRAWS
from mmreid_text.procedural.sentences import STYLES, Caption, describe
from mmreid_text.procedural.shots import NUM_DRAWS, Camera, Shot, take_shot, visible_attributes
from mmreid_text.randomness import uniform

# Clothes colours as they are worn: black, white, gray and blue often.
_WORN = {
    "black": 2.6,
    "white": 1.9,
    "gray": 1.6,
    "red": 1.0,
    "orange": 0.5,
    "yellow": 0.7,
    "green": 0.8,
    "blue": 1.6,
    "purple": 0.5,
    "pink": 0.7,
    "brown": 0.7,
    "beige": 0.6,
}
_DARK = {**_WORN, "black": 3.2, "gray": 2.0, "blue": 2.0, "brown": 1.0}
_BRIGHT = {**_WORN, "black": 1.8, "pink": 1.2, "yellow": 0.9, "red": 1.4, "purple": 0.8, "beige": 1.0}
_HAIR_STYLE = (
    {"short": 7, "bald": 1.5, "curly": 1.2, "long": 0.6, "ponytail": 0.3, "bun": 0.3},
    {"long": 4, "short": 2, "ponytail": 2.2, "bun": 1.4, "curly": 1.4},
)
_INNER = {
    "none": 5.0,
    "black": 1,
    "white": 1.5,
    "gray": 0.8,
    "red": 0.7,
    "yellow": 0.6,
    "green": 0.5,
    "blue": 0.8,
    "pink": 0.5,
    "orange": 0.4,
}
_COMMON: dict[str, dict[str, float] | tuple[dict[str, float], dict[str, float]]] = {
    "hair_style": _HAIR_STYLE,
    "hair_color": {"black": 3, "brown": 2.2, "blond": 1.4, "gray": 0.8, "red": 0.7},
    "hat": {"none": 6.5, "cap": 1.5, "beanie": 0.9, "brimmed hat": 0.7, "helmet": 0.4},
    "hat_color": _WORN,
    "upper": (
        {"t-shirt": 2.6, "shirt": 1.8, "sweater": 1.5, "hoodie": 1.4, "jacket": 2.0, "coat": 1.0, "tank top": 0.5},
        {
            "t-shirt": 2.0,
            "shirt": 1.3,
            "sweater": 1.6,
            "hoodie": 0.9,
            "jacket": 1.6,
            "coat": 1.3,
            "tank top": 0.9,
            "dress": 1.1,
        },
    ),
    "upper_color": _WORN,
    "upper_pattern": {"plain": 5, "striped": 1.5, "checked": 1.2, "dotted": 0.8, "printed": 1.0},
    "inner": _INNER,
    "lower": (
        {"trousers": 4, "jeans": 3, "shorts": 2},
        {"trousers": 2.2, "jeans": 2.2, "shorts": 1.2, "skirt": 1.7, "long skirt": 1.2},
    ),
    "lower_color": _WORN,
    "shoes": (
        {"sneakers": 4, "boots": 1.2, "leather shoes": 2.5, "sandals": 0.8},
        {"sneakers": 3, "boots": 2, "leather shoes": 1.8, "sandals": 1.6},
    ),
    "shoes_color": _WORN,
    "bag": (
        {"none": 4, "backpack": 3, "handbag": 0.6, "shoulder bag": 1.5, "suitcase": 0.8},
        {"none": 3, "backpack": 1.8, "handbag": 2.4, "shoulder bag": 1.8, "suitcase": 0.8},
    ),
    "bag_color": _WORN,
}


@dataclass(frozen=True)
class Domain:
    """Parameters of one domain.

    Attributes:
        name: Also names the sentence style.
        images_per_id: Default number of images of an identity.
        caption_sources: Name of each caption of an image; its length is the number of captions per image.
        camera: Ranges of pose, camera, light and scenery.
        frequencies: Relative frequencies of attribute values.
        noisy: Whether captions are wrong at times.
    """

    name: str
    images_per_id: int
    caption_sources: tuple[str, ...]
    camera: Camera = field(default_factory=Camera)
    frequencies: Frequencies = field(default_factory=dict)
    noisy: bool = False


_EVERYWHERE = tuple(
    (kind, 1.0) for kind in ("plain", "wall", "street", "crossing", "tiles", "shop", "platform", "park")
)

DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain(
            name="web",
            images_per_id=1,
            caption_sources=("", "", "", ""),
            camera=Camera(
                scale=(0.78, 1.0),
                top=(0.0, 0.10),
                shift=(-0.12, 0.12),
                rotation=(-5.0, 5.0),
                pitch=(0.0, 0.6),
                crop=0.3,
                front=0.6,
                gain=(0.8, 1.2),
                gamma=(0.85, 1.15),
                warmth=(-0.5, 0.5),
                saturation=(0.8, 1.2),
                blur=(0.0, 2.0),
                noise=(0.0, 6.0),
                occlusion=0.03,
                backgrounds=_EVERYWHERE,
            ),
            frequencies={
                "inner": _INNER,
                "hair_style": _HAIR_STYLE,
                "lower": _COMMON["lower"],
                "upper": _COMMON["upper"],
            },
        ),
        Domain(
            name="source",
            images_per_id=1,
            caption_sources=("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra"),
            camera=Camera(
                scale=(0.82, 0.96),
                shift=(-0.08, 0.08),
                pitch=(0.0, 0.6),
                crop=0.05,
                gain=(0.75, 1.2),
                gamma=(0.85, 1.2),
                warmth=(-0.4, 0.4),
                saturation=(0.75, 1.1),
                contrast=(0.85, 1.1),
                blur=(0.0, 5.0),
                noise=(0.0, 12.0),
                occlusion=0.12,
                backgrounds=_EVERYWHERE,
            ),
            frequencies=_COMMON,
            noisy=True,
        ),
        Domain(
            name="street",
            images_per_id=3,
            caption_sources=("", ""),
            camera=Camera(
                scale=(0.84, 0.94),
                pitch=(0.1, 0.4),
                gain=(0.9, 1.2),
                gamma=(0.8, 1.0),
                warmth=(0.1, 0.6),
                saturation=(0.9, 1.1),
                shadow=0.5,
                blur=(0.5, 4.0),
                noise=(2.0, 8.0),
                occlusion=0.12,
                backgrounds=(("street", 3.0), ("crossing", 2.0), ("park", 1.5), ("wall", 1.0)),
            ),
            frequencies={
                **_COMMON,
                "upper": (
                    {"t-shirt": 4, "shirt": 2, "sweater": 0.8, "hoodie": 1, "jacket": 1, "coat": 0.3, "tank top": 1.2},
                    {
                        "t-shirt": 3,
                        "shirt": 1.5,
                        "sweater": 0.8,
                        "hoodie": 0.6,
                        "jacket": 1,
                        "coat": 0.4,
                        "tank top": 1.6,
                        "dress": 1.6,
                    },
                ),
                "bag": {"none": 3, "backpack": 3.5, "handbag": 1.2, "shoulder bag": 1.8, "suitcase": 0.2},
            },
        ),
        Domain(
            name="mall",
            images_per_id=3,
            caption_sources=("",),
            camera=Camera(
                scale=(0.78, 0.90),
                top=(0.04, 0.10),
                pitch=(0.5, 1.0),
                gain=(0.95, 1.15),
                gamma=(0.85, 1.0),
                warmth=(-0.1, 0.4),
                saturation=(0.85, 1.0),
                contrast=(0.8, 0.95),
                shadow=0.05,
                blur=(1.0, 5.0),
                noise=(1.0, 6.0),
                occlusion=0.1,
                backgrounds=(("shop", 3.0), ("tiles", 3.0), ("plain", 1.0)),
            ),
            frequencies={
                **_COMMON,
                "sex": {"man": 0.4, "woman": 0.6},
                "upper_color": _BRIGHT,
                "lower_color": _BRIGHT,
                "hat": {"none": 7.5, "cap": 1.2, "beanie": 0.8, "brimmed hat": 1.0},
                "bag": {"none": 2.5, "backpack": 1.2, "handbag": 3, "shoulder bag": 2.2, "suitcase": 0.2},
            },
        ),
        Domain(
            name="station",
            images_per_id=3,
            caption_sources=("", ""),
            camera=Camera(
                scale=(0.86, 0.97),
                shift=(-0.1, 0.1),
                rotation=(-5.0, 5.0),
                pitch=(0.2, 0.7),
                gain=(0.75, 1.0),
                gamma=(1.0, 1.2),
                warmth=(-0.8, -0.1),
                saturation=(0.7, 0.9),
                contrast=(0.85, 1.0),
                shadow=0.15,
                blur=(1.0, 6.0),
                noise=(4.0, 14.0),
                occlusion=0.18,
                backgrounds=(("platform", 3.0), ("wall", 1.5), ("tiles", 1.5)),
            ),
            frequencies={
                **_COMMON,
                "upper": (
                    {"t-shirt": 1, "shirt": 1.4, "sweater": 2, "hoodie": 1.6, "jacket": 3, "coat": 2},
                    {"t-shirt": 0.8, "shirt": 1, "sweater": 2, "hoodie": 1.2, "jacket": 2.4, "coat": 2.6, "dress": 0.6},
                ),
                "upper_color": _DARK,
                "lower_color": _DARK,
                "hat": {"none": 6, "cap": 1.2, "beanie": 2, "brimmed hat": 0.5, "helmet": 0.3},
                "bag": {"none": 2.5, "backpack": 2.2, "handbag": 1.4, "shoulder bag": 1.5, "suitcase": 2.4},
            },
        ),
    )
}


class World:
    """The people of one domain, their pictures and captions: a pure function of its arguments.

    Args:
        domain: Name of a domain.
        num_ids: Number of identities; a larger world of the same seed begins with the same people and pictures.
        images_per_id: Pictures of each identity; None takes the domain's default.
        seed: Seed of the world.
        noise_rate: Chance that a stated value is wrong, in the source domain; the other domains' captions are true.
        size: Height and width of pictures, pixels.
        split: Splits hold different people.

    Raises:
        ValueError: Unknown domain, or a count or rate out of range.
    """

    def __init__(
        self,
        domain: str,
        num_ids: int,
        images_per_id: int | None = None,
        seed: int = 0,
        noise_rate: float = 0.2,
        size: tuple[int, int] = (384, 128),
        split: str = "train",
    ) -> None:
        if domain not in DOMAINS:
            raise ValueError(f"domain {domain!r} is unknown; choose one of {', '.join(DOMAINS)}")
        self.domain = DOMAINS[domain]
        self.images_per_id = self.domain.images_per_id if images_per_id is None else images_per_id
        if num_ids < 1 or self.images_per_id < 1:
            raise ValueError(f"num_ids={num_ids} and images_per_id={self.images_per_id} must be at least 1")
        if not 0.0 <= noise_rate <= 1.0:
            raise ValueError(f"noise_rate={noise_rate} is a chance: give a number from 0 to 1")
        if min(size) < 8:
            raise ValueError(f"size={size} is too small for a person: give height and width of at least 8 pixels")
        self.seed, self.size, self.split = seed, size, split
        self.noise_rate = noise_rate if self.domain.noisy else 0.0
        self.stream = f"{domain}/{split}"
        self.attributes = draw_identities(self.domain.frequencies, num_ids, seed, self.stream)
        self.pid = np.repeat(np.arange(num_ids), self.images_per_id)

    def __len__(self) -> int:
        return len(self.pid)

    def shot(self, index: int) -> Shot:
        """Pose, camera, light and scene of image ``index``."""
        return take_shot(self.domain.camera, self._uniform(index, "shot", NUM_DRAWS))

    def render(self, index: int) -> np.ndarray:
        """Image ``index``, uint8 (H, W, 3), RGB."""
        pid = int(self.pid[index])
        return render(
            self.attributes[pid].tolist(), draw_look(self.seed, pid, self.stream), self.shot(index), self.size
        )

    def captions(self, index: int) -> list[Caption]:
        """The captions of image ``index``, one per entry of the domain's ``caption_sources``."""
        codes = self.attributes[self.pid[index]].tolist()
        visible = visible_attributes(self.shot(index), codes)
        sources = self.domain.caption_sources
        rows = index * len(sources) + np.arange(len(sources))
        author = uniform(self.seed, 0, rows, f"{self.stream}/author", 1)[:, 0]
        wording = uniform(self.seed, 0, rows, f"{self.stream}/wording", WORDING_DRAWS).tolist()
        errors = uniform(self.seed, 0, rows, f"{self.stream}/errors", 2 * NUM_ATTRIBUTES).tolist()
        written = []
        for source, who, draws, mistakes in zip(sources, author, wording, errors):
            authors = STYLES[self.domain.name, source]
            style = authors[int(who * len(authors))]
            written.append(describe(style, codes, visible, draws, mistakes, self.noise_rate))
        return written

    def _uniform(self, index: int, purpose: str, n: int) -> list[float]:
        return uniform(self.seed, 0, np.array([index]), f"{self.stream}/{purpose}", n)[0].tolist()
