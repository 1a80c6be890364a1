"""Features of whole data sets: ids, modes, workers, joins."""

import numpy as np
import pytest
import torch
from small_cmmt import STEPS
from torch import nn

from mmreid_text.clustering import extract_features, rows_config, rows_loader
from mmreid_text.models.data_preprocessor import ReIDDataPreprocessor
from mmreid_text.registry import DATASETS


class Reader(nn.Module):
    """Features that tell an image and a caption; BatchNorm and a part that training leaves in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = ReIDDataPreprocessor(trim_text=False)
        self.norm, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.frozen.eval()
        self.encoded = 0

    def encode_image(self, image):
        self.encoded += len(image)
        return self.drop(self.norm(image.flatten(1)[:, 700:704]))

    def encode_text(self, text, lengths):
        return self.drop(self.norm(text[:, 1:5].float()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("people"))


def people(cache, domain="street", num_ids=5):
    return dict(
        type="ProceduralPedestrians", domain=domain, num_ids=num_ids, images_per_id=2, cache_dir=cache, pipeline=STEPS
    )


@pytest.mark.parametrize("joined", [False, True])
def test_features_stand_at_the_ids_of_training(cache, joined):
    cfg = people(cache)
    if joined:
        cfg = dict(type="ConcatDataset", datasets=[cfg, people(cache, "mall", 3)])
    trained, rows = DATASETS.build(cfg), DATASETS.build(rows_config(cfg, STEPS))
    assert rows.fingerprint == trained.fingerprint
    model = Reader()
    modes = [module.training for module in model.modules()]
    state, chance = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    found = [
        extract_features(model, rows_loader(rows, 3, workers), trained.num_images, trained.num_captions, "features")
        for workers in (0, 2)
    ]
    assert model.encoded == 2 * trained.num_images  # each once
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), chance)
    for key in ("image", "text", "image_of_text"):
        assert torch.equal(getattr(found[0], key), getattr(found[1], key))

    assert found[0].image.shape == (trained.num_images, 4)
    assert found[0].text.shape == (trained.num_captions, 4)
    model.eval()
    for i in range(len(trained)):
        item = trained[i]
        batch = model.data_preprocessor(torch.utils.data.default_collate([item]))
        row, image = int(item["caption_id"]), int(item["image_id"])
        assert found[0].image_of_text[row] == image
        with torch.no_grad():
            torch.testing.assert_close(found[0].text[row], model.encode_text(batch["text"], None)[0])
            torch.testing.assert_close(found[0].image[image], model.encode_image(batch["image"])[0])
    assert len(np.unique(found[0].image.numpy(), axis=0)) > 5


def test_missing_rows_are_noticed(cache):
    rows = DATASETS.build(rows_config(people(cache), STEPS))
    with pytest.raises(ValueError, match="2 of 12 images of the training set were not among the extracted rows"):
        extract_features(Reader(), rows_loader(rows, 4, 0), 12, 20, "features")


def test_joins_and_wrappers_are_looked_into():
    inner = dict(type="A", pipeline=[1], data_root="x")
    cfg = dict(type="Repeat", times=2, dataset=dict(type="ConcatDataset", datasets=[inner, inner]))
    made = rows_config(cfg, [2])
    assert made["times"] == 2
    for member in made["dataset"]["datasets"]:
        assert member == dict(type="A", pipeline=[2], data_root="x", test_mode=True)
    assert inner["pipeline"] == [1]
