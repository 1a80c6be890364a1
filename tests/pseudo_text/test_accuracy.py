"""What is known of procedural people, and how scorers are measured against it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmreid_text.procedural.attributes import ATTRIBUTES, INDEX, code
from mmreid_text.procedural.domains import World
from mmreid_text.procedural.shots import visible_attributes
from mmreid_text.pseudo_text.accuracy import as_markdown, calibrated_scale, kept_above, measure, part_accuracies
from mmreid_text.pseudo_text.procedural_truth import ABSENT, TRUTH, UNKNOWN, part_classes, truth_of
from mmreid_text.pseudo_text.scoring import best_classes
from mmreid_text.pseudo_text.vocabulary import load_vocabulary

DRAWN = Path(__file__).parents[2] / "configs/unipt/vocabulary_drawn.yaml"


@pytest.fixture(scope="module")
def world():
    return World("source", 300, seed=1)


def names_of(vocabulary, slot):
    return part_classes(vocabulary.attributes[vocabulary.slots.index(slot)])


@pytest.mark.parametrize("path", [None, DRAWN], ids=["standard", "drawn"])
def test_every_drawn_value_has_its_class_or_is_not_judged(path):
    vocabulary = load_vocabulary(path)
    unjudged = {("hair", "bun"), ("hair", "curly")} if path is None else set()
    for (slot, part), (name, values) in TRUTH.items():
        attribute = vocabulary.attributes[vocabulary.slots.index(slot)]
        assert part in attribute.part_names
        names = names_of(vocabulary, slot)[attribute.part_names.index(part)]
        for value in ATTRIBUTES[name]:
            said = [each for each in values.get(value, ()) if each in names]
            assert bool(said) != ((slot, value) in unjudged), (slot, value)


def test_truth_is_that_of_the_picture(world):
    vocabulary = load_vocabulary()
    truth = truth_of(world, range(len(world)), vocabulary)
    for row in range(len(world)):
        codes = world.attributes[world.pid[row]].tolist()
        seen = visible_attributes(world.shot(row), codes)
        sex = names_of(vocabulary, "gender")[0][truth["gender"][row, 0]]
        assert sex == ATTRIBUTES["sex"][codes[0]]
        colour = truth["lower"][row, 0]
        if seen[INDEX["lower_color"]]:
            drawn = ATTRIBUTES["lower_color"][codes[INDEX["lower_color"]]]
            assert names_of(vocabulary, "lower")[0][colour] == {"beige": "khaki"}.get(drawn, drawn)
        else:
            assert colour == UNKNOWN
        bag = truth["bag"][row, 0]
        assert (bag == UNKNOWN) == (not seen[INDEX["bag"]])
        if codes[INDEX["upper"]] == code("upper", "dress"):
            assert truth["lower"][row].tolist() == [UNKNOWN, UNKNOWN]
    assert (truth["age"] == UNKNOWN).all()
    for slot in ABSENT:
        assert {names_of(vocabulary, slot)[0][each] for each in truth[slot][:, 0]} == {"none"}
    actions = names_of(vocabulary, "action")[0]
    told = [actions[each] for each in truth["action"][:, 0]]
    assert told.count("standing") + told.count("walking") == len(told)
    assert 0.2 < told.count("standing") / len(told) < 0.4


def as_scores(truth, vocabulary, height):
    """Cosines (n, P) that make the true class of each attribute likeliest, or the first where it is not known."""
    columns = []
    for attribute in vocabulary.attributes:
        names = part_classes(attribute)
        rows = truth[attribute.slot].clip(min=0)
        wanted = [tuple(part[i] for part, i in zip(names, row)) for row in rows.tolist()]
        columns.append([[height * (each.parts == parts) for each in attribute.classes] for parts in wanted])
    return torch.tensor(np.concatenate(columns, axis=1), dtype=torch.float32)


def test_a_scorer_that_knows_is_always_right_and_its_threshold_keeps_all(world):
    vocabulary = load_vocabulary(DRAWN)
    truth = truth_of(world, range(len(world)), vocabulary)
    cosines = as_scores(truth, vocabulary, 1.0)
    facts = measure(cosines, truth, vocabulary, (100.0, 1.0))
    assert {part["slot"] for part in facts["parts"]} == set(vocabulary.slots)
    assert all(part["accuracy"] == 1.0 for part in facts["parts"])
    for kept in facts["scales"]["100"]["kept"]:
        assert kept["precision"] == kept["recall"] == 1.0
        assert 0 < kept["kept"] == kept["present"] < kept["judged"]
    assert all(kept["kept"] == 0 for kept in facts["scales"]["1"]["kept"] if kept["threshold"] >= 0.6)
    assert facts["scales"]["100"]["negative_log_likelihood"] < 1e-3
    assert [row["accuracy"] for row in facts["scales"]["100"]["reliability"]] == [1.0]
    text = as_markdown(facts, 0.9)
    assert "| gender | 300 | 100.0% |" in text
    assert "| bag | 0.9 |" in text


def test_counts_by_hand():
    vocabulary = load_vocabulary(DRAWN)
    slot = vocabulary.slots.index("hat")
    truth = {attribute.slot: np.full((6, len(attribute.part_names)), UNKNOWN) for attribute in vocabulary.attributes}
    cap, beanie, none = 0, 1, len(vocabulary.attributes[slot].classes) - 1
    truth["hat"][:, 0] = [cap, cap, beanie, none, none, UNKNOWN]
    best = np.zeros((6, len(vocabulary.slots)), np.int64)
    best[:, slot] = [cap, beanie, beanie, cap, none, cap]
    sure = np.zeros(best.shape, np.float32)
    sure[:, slot] = [0.95, 0.95, 0.7, 0.92, 0.99, 0.99]
    (part,) = part_accuracies(best, truth, vocabulary)
    assert (part.slot, part.judged, part.accuracy, part.majority) == ("hat", 5, 0.6, 0.4)
    kept = next(each for each in kept_above(best, sure, truth, vocabulary, [0.9]) if each.slot == "hat")
    assert (kept.judged, kept.present, kept.kept, kept.right) == (5, 3, 3, 1)
    assert (kept.precision, kept.recall) == (1 / 3, 1 / 3)


def test_the_scale_that_made_the_errors_is_found(world):
    """Truth drawn by the probabilities of a scale: that scale explains it best."""
    vocabulary = load_vocabulary(DRAWN)
    rng = np.random.default_rng(0)
    spans = list(vocabulary.spans())
    cosines = torch.from_numpy(rng.normal(0, 0.1, (2000, spans[-1].stop)).astype(np.float32))
    for scale in (5.0, 30.0):
        truth = {}
        for attribute, span in zip(vocabulary.attributes, spans):
            chances = (scale * cosines[:, span]).softmax(dim=1)
            drawn = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(1))[:, 0].tolist()
            names = part_classes(attribute)
            parts = [attribute.classes[each].parts for each in drawn]
            truth[attribute.slot] = np.array([[p.index(each) for p, each in zip(names, row)] for row in parts])
        assert calibrated_scale(cosines, truth, vocabulary) == scale
        best, sure = (part.numpy() for part in best_classes(cosines, spans, scale))
        for row in measure(cosines, truth, vocabulary, [scale])["scales"][f"{scale:g}"]["reliability"]:
            if row["count"] > 500:
                assert abs(row["probability"] - row["accuracy"]) < 0.06
        assert best.shape == sure.shape
