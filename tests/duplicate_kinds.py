"""Kinds of near-duplicates and how many hashes find: ``duplicate_kinds.py [IDS]`` prints the table of docs/data.md.

Drawn people of four domains stand for photos: their images are changed as copies on the web are, and compared with the
originals and with all other images.
"""

import sys

import cv2
import numpy as np

from mmreid_text.datasets.perceptual_hash import near_pairs, perceptual_hash
from mmreid_text.procedural.domains import World

HEIGHT, WIDTH = 256, 128
DOMAINS = ("street", "mall", "station", "source")
DISTANCES = (0, 2, 4, 6, 8, 10, 12)


def encoded(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def scaled(image, height, width):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def brightened(image, factor):
    return np.clip(image * factor, 0, 255).astype(np.uint8)


def shifted(image, share):
    move = np.float32([[1, 0, round(share * WIDTH)], [0, 1, round(share * HEIGHT)]])
    return cv2.warpAffine(image, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)


def cropped(image, share):
    y, x = round(share * HEIGHT / 2), round(share * WIDTH / 2)
    return np.ascontiguousarray(image[y : HEIGHT - y, x : WIDTH - x])


KINDS = {
    "JPEG, quality 75": lambda image: encoded(image, 75),
    "JPEG, quality 30": lambda image: encoded(image, 30),
    "half the size": lambda image: scaled(image, HEIGHT // 2, WIDTH // 2),
    "half the size, then JPEG 75": lambda image: encoded(scaled(image, HEIGHT // 2, WIDTH // 2), 75),
    "another aspect, 384 x 128": lambda image: scaled(image, 384, 128),
    "noise of 8 grey levels": lambda image: brightened(image + np.random.default_rng(0).normal(0, 8, image.shape), 1),
    "brightness x 0.6": lambda image: brightened(image, 0.6),
    "brightness x 1.3, clipped": lambda image: brightened(image, 1.3),
    "cropped by 5%": lambda image: cropped(image, 0.05),
    "cropped by 10%": lambda image: cropped(image, 0.1),
    "shifted by 2%": lambda image: shifted(image, 0.02),
    "shifted by 5%": lambda image: shifted(image, 0.05),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


def people(num_ids):
    """Identities, different over domains, and images: ``num_ids`` of each domain."""
    identities, images = [], []
    for i, domain in enumerate(DOMAINS):
        world = World(domain, num_ids, None, 0, 0.2, (HEIGHT, WIDTH), "test")
        images += [world.render(index) for index in range(len(world))]
        identities += (world.pid + i * num_ids).tolist()
    return np.array(identities), images


def hashes_of(images):
    return np.array([perceptual_hash(image) for image in images], dtype=np.uint64)


def recall(hashes, images, kind):
    """Share of the images whose copy of a kind is within each distance."""
    differ = np.bitwise_count(hashes ^ hashes_of(KINDS[kind](image) for image in images))
    return [float((differ <= distance).mean()) for distance in DISTANCES]


def false_pairs(hashes, identities, same_person):
    """Number of pairs of different images, and how many of them are within each distance."""
    pairs = near_pairs(hashes, hashes, max(DISTANCES))
    kept = (pairs.train < pairs.benchmark) & ((identities[pairs.train] == identities[pairs.benchmark]) == same_person)
    counts = np.unique(identities, return_counts=True)[1]
    same, total = int((counts * (counts - 1)).sum()) // 2, len(hashes) * (len(hashes) - 1) // 2
    return same if same_person else total - same, [int((pairs.distance[kept] <= d).sum()) for d in DISTANCES]


def main(num_ids):
    identities, images = people(num_ids)
    hashes = hashes_of(images)
    print(f"{len(images):,} images\n\n| found within | {' | '.join(map(str, DISTANCES))} |")
    print(f"| --- |{' ---: |' * len(DISTANCES)}")
    for kind in KINDS:
        print(f"| {kind} | {' | '.join(f'{100 * share:.1f}%' for share in recall(hashes, images, kind))} |")
    for same, title in ((True, "other pictures of the same person"), (False, "pictures of other people")):
        pairs, found = false_pairs(hashes, identities, same)
        print(f"| {title}, of {pairs:,} pairs | {' | '.join(f'{n:,}' for n in found)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
