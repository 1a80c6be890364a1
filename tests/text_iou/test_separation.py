"""What Text-IoU is for: captions of one person share more than captions of others, in other words as well."""

import re

import numpy as np
import torch

from mmreid_text.evaluation.noise_report import roc_auc
from mmreid_text.procedural.domains import World
from mmreid_text.text_iou import LexiconPhrases, PhraseTable, batch_iou

BROADER = {
    **dict.fromkeys(("sneakers", "trainers", "boots", "sandals", "loafers", "flats", "slippers", "heels"), "shoes"),
    **dict.fromkeys(("backpack", "rucksack", "handbag", "purse", "tote", "satchel", "crossbody bag"), "bag"),
    **dict.fromkeys(("t-shirt", "tee", "polo shirt", "blouse"), "shirt"),
    **dict.fromkeys(("cap", "beanie"), "hat"),
    "jeans": "trousers",
}
NARROW = re.compile(rf"\b({'|'.join(BROADER)})\b")


def separation(captions, people, extractor):
    """ROC AUC of Text-IoU for pairs of captions of one person."""
    table = PhraseTable.collect(captions, extractor)
    rows = torch.arange(len(captions))
    widest = int(np.diff(table.indptr).max())
    indptr, indices = torch.from_numpy(table.indptr), torch.from_numpy(table.indices)
    iou = batch_iou(indptr, indices, rows, widest, len(table.names)).numpy()
    one, other = np.triu_indices(len(captions), 1)
    return roc_auc(iou[one, other], people[one] == people[other])


def drawn(people, share, seed=0):
    """Captions of so many people, a share of their narrower words replaced by broader ones, and whose they are."""
    world, rng = World("street", people), np.random.default_rng(seed)
    captions = [(caption.text, index) for index in range(len(world)) for caption in world.captions(index)]
    texts = [
        NARROW.sub(lambda match: BROADER[match[0]] if rng.random() < share else match[0], text) for text, _ in captions
    ]
    return texts, np.array([index // world.images_per_id for _, index in captions])


def test_text_iou_tells_people_apart_in_exact_and_in_broader_words():
    lexicon, without_kinds = LexiconPhrases(), LexiconPhrases()
    without_kinds.lexicon.kinds = {name: (name,) for name in without_kinds.lexicon.kinds}
    exact, people = drawn(100, 0)
    assert separation(exact, people, lexicon) > 0.96
    broader, _ = drawn(100, 0.2)
    assert broader != exact
    assert separation(broader, people, lexicon) > separation(broader, people, without_kinds) + 0.01
