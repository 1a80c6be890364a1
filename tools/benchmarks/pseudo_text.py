"""What pseudo texts cost beside encoding the images, and how fast sentences are composed."""

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.common import Job, Row, interleaved

from mmreid_text.apis import tokenize
from mmreid_text.captioning.shards import list_images
from mmreid_text.datasets.transforms.image import Resize, decode_image
from mmreid_text.models.retrievers.dual_encoder import DualEncoder
from mmreid_text.procedural.domains import World
from mmreid_text.pseudo_text import job as jobs
from mmreid_text.pseudo_text import worker as workers
from mmreid_text.pseudo_text.composer import Composer
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.scoring import ImageTextEncoder, PromptScorer, load_encoder
from mmreid_text.pseudo_text.vocabulary import load_vocabulary

SENTENCES = 20_000
VIT_B16 = dict(width=768, depth=12, heads=12, patch_size=16, embed_dim=512, img_size=(224, 224))
TEXT = dict(width=512, depth=12, heads=8, embed_dim=512)


def run(rounds: int) -> list[Row]:
    """Rows of this part."""
    large = DualEncoder(dict(type="CLIPVisionEncoder", **VIT_B16), dict(type="CLIPTextEncoder", **TEXT)).eval()
    encoder = ImageTextEncoder(large.requires_grad_(False), prepare_at((224, 224)), tokenize, "random")
    return [
        score_row("ViT-B/16 at 224x224", encoder, 24, rounds, (384, 128)),
        score_row("small CLIP", load_encoder({}), 2000, rounds, (128, 64)),
        compose_row(rounds),
    ]


def prepare_at(size: tuple[int, int]) -> Callable[[np.ndarray], torch.Tensor]:
    resize = Resize(size)
    return lambda image: torch.from_numpy(resize({"img": image})["img"].transpose(2, 0, 1).copy())


def score_row(name: str, encoder: ImageTextEncoder, count: int, rounds: int, size: tuple[int, int]) -> Row:
    """A whole job, its prompts encoded before, against reading and encoding the same images in the same batches."""
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        draw(images, count, size)
        job = PseudoTextJob.from_dict(dict(images=dict(type="ImageFolder", root=str(images)), device="cpu"))
        scorer = PromptScorer(encoder, job.build_vocabulary())
        workers.load_encoder = lambda *_: encoder  # both are made once, by whichever process works
        workers.PromptScorer = lambda *_: scorer
        jobs._fingerprint = lambda _: encoder.fingerprint
        runs = iter(range(1_000_000))
        seconds = interleaved(
            {
                "ours": lambda: caption_all(job, Path(place) / str(next(runs))),
                "reference": lambda: encode_all(encoder, sorted(images.iterdir()), job.batch_size),
            },
            rounds,
        )
    rate = count / seconds["ours"]
    remark = f"{count} images, {len(scorer.prompts)} prompts; {rate:,.3g} images per CPU second"
    return Row(f"pseudo texts, {name}", "encoding the images", seconds["ours"], seconds["reference"], remark=remark)


def caption_all(job: PseudoTextJob, out: Path) -> None:
    """List, claim, read, score, compose, finish shards."""
    folder = job.open(out)
    list_images(folder.list_path, job.build_images())
    workers.PseudoTextWorker(job, folder).run()
    assert len(folder.finished()) == folder.num_shards


def encode_all(encoder: ImageTextEncoder, paths: Sequence[Path], batch_size: int) -> None:
    text = tokenize(["a"])
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        pixels = torch.stack([encoder.prepare(decode_image(path.read_bytes(), str(path))) for path in part])
        with torch.inference_mode():
            encoder.model.encode_image(encoder.model.data_preprocessor({"image": pixels, "text": text})["image"])


def draw(folder: Path, count: int, size: tuple[int, int]) -> None:
    folder.mkdir()
    world = World("source", count, size=size)
    for row in range(count):
        cv2.imwrite(str(folder / f"{row:05d}.jpg"), np.ascontiguousarray(world.render(row)[..., ::-1]))


def compose_row(rounds: int) -> Row:
    """Sentences out of classes against filling the same patterns without dropping, agreeing or drawing by hash."""
    vocabulary = load_vocabulary()
    composer, rng = Composer(vocabulary), np.random.default_rng(0)
    chosen = np.stack([rng.integers(0, max(len(a.classes) - 1, 1), SENTENCES) for a in vocabulary.attributes], axis=1)
    for column, attribute in enumerate(vocabulary.attributes):
        if not attribute.required:  # a few in a hundred images show one
            chosen[rng.random(SENTENCES) > 0.08, column] = -1
    names = [f"{i:07d}.jpg" for i in range(SENTENCES)]
    patterns = [str(pattern).replace("[", "{").replace("]", "}") for pattern in composer.patterns]
    said = {a.slot: [each.said or ("",) for each in a.classes] for a in vocabulary.attributes}

    def plain() -> None:
        for classes in chosen.tolist():
            told = {slot: random.choice(said[slot][which]) for slot, which in zip(vocabulary.slots, classes)}
            random.choice(patterns).format(**told)

    every: dict[str, Job] = {"ours": lambda: composer.write(chosen, names), "reference": plain}
    seconds = interleaved(every, rounds)
    rate = SENTENCES / seconds["ours"]
    remark = f"{SENTENCES:,} captions, {rate:,.0f} per CPU second; the patterns composed before"
    return Row("composing sentences", "random.choice, str.format", seconds["ours"], seconds["reference"], remark=remark)
