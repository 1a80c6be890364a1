"""Every rule rejects its examples; ordinary captions of all procedural styles pass untouched."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.captioning.cleaning import RULES, CleaningContext, clean, tidy
from mmreid_text.captioning.cleaning_report import CleaningReport, RepeatCounter, check_table_captions
from mmreid_text.captioning.foreign_words import ENGLISH, FOREIGN
from mmreid_text.captioning.instructions import INSTRUCTIONS
from mmreid_text.captioning.templates import SLOTS, TEMPLATES, compose
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.evaluation.word_classes import LEXICON
from mmreid_text.procedural.domains import DOMAINS, World

REJECTED = {
    "empty": ["", " \n ", '""', "...", "Description:"],
    "brackets": [
        "A man in [clothing] and [footwear].",
        "[image description]: a man in a red coat.",
        "A woman in a red coat] with long hair.",
        "The {color} coat of the man is long.",
        "The man with (hair) wears (Clothing) and (footwear).",
    ],
    "markup": [
        "The man wears a <b>red</b> coat.",
        "A man in a red coat.<|im_end|>",
        "The man has **short hair** and a red coat.",
        "Clothing:\n- red coat\n- blue jeans",
        "# Appearance\nA man in a red coat.",
        "1. He wears a coat.\n2. He wears jeans.",
        "```A man in a red coat.``` and more",
        "A man in a coat, see https://example.org for more.",
        "A man in a red coat.\\nHe wears blue jeans.",
        "| hair | coat |",
        "He wears __red__ shoes.",
    ],
    "assistant": [
        "As an AI language model, I see a man in a red coat.",
        "I am Qwen, and this is a man in a red coat.",
        "As a large model I see a coat.",
        "I was trained on images of coats.",
        "USER: describe the person ASSISTANT: A man in a black coat.",
    ],
    "refusal": [
        "I'm sorry, but the person is not visible.",
        "I cannot assist with that request.",
        "I can't identify people in images.",
        "Sorry, the picture does not show enough.",
        "I am unable to see the image.",
        "Unable to describe the person.",
        "I don\u2019t see anybody here.",
        "It is not possible to describe the person here.",
    ],
    "instruction": [
        "Write a description about the overall appearance of the person: a man in a coat.",
        "A man in a coat. Do not imagine any contents that are not in the image.",
        "A man in a coat, in a style similar to what was asked.",
        "Following the template, the man wears a red coat.",
    ],
    "question": ["A man in a red coat. Would you like to know more?", "Is the coat red? He has it on.", "Coat\uff1f"],
    "boilerplate": [
        "This image shows a screenshot of a video with a man.",
        "The image has a watermark in the corner.",
        "There is no person visible in the image.",
        "The photo you provided shows a man in a coat.",
        "A man in a red coat. Let me know if you need more!",
        "Certainly! The man wears a red coat.",
        "A man in a coat. I hope this helps.",
        "There is no image attached. Please upload an image.",
        "No image was provided here.",
        "The image does not contain any visible person.",
        "The picture doesn't show a person.",
        "The image is completely black and there is nothing visible in it.",
        "The image quality is too low and blurry to describe the person's clothes.",
        "It is difficult to provide a detailed description of this person due to the low resolution.",
        "Unfortunately, no details can be seen here.",
        "A man in a black coat. (Note: this is based on visible attributes alone.)",
        "Gender: Female, Clothing: White T-shirt, Shoes: N/A",
    ],
    "language": [
        "一个穿着红色外套的男人。",
        "Мужчина в красном пальто и синих джинсах.",
        "رجل يرتدي معطفا أحمر وبنطلون جينز",
        "El hombre lleva una chaqueta roja y un pantalón negro con zapatos.",
        "La femme porte une veste rouge avec un pantalon noir et des chaussures.",
        "Der Mann trägt eine rote Jacke und eine schwarze Hose.",
        "L'uomo indossa una giacca rossa e un paio di pantaloni neri con scarpe.",
        "A man wearing 红色的外套和蓝色的牛仔裤.",
    ],
    "short": ["A man.", "Red coat."],
    "long": ["A man in a red coat walks by the shop. " + " ".join(f"He has item{i} and hat{i}." for i in range(40))],
    "loop": [
        "A man in a red red red coat.",
        "A man in a red coat and a red coat and a red coat and a red coat.",
        "The man wears a red coat. He has short hair. The man wears a red coat.",
        "The man is wearing a hat, the man is wearing a coat, the man is wearing jeans, the man is wearing boots.",
    ],
}  # fmt: skip

# Wording that models are fond of and that rules might take for something else.
REALISTIC = [
    "The person in the image is a man with short, dark hair. He is wearing a light blue button-up shirt, dark "
    "trousers, and black shoes. No belongings are visible.",
    "The image is blurry, but it shows a person wearing a black coat and blue jeans. The person appears to be female.",
    'This man is dressed in a black T-shirt with the words "NEW YORK" printed on it, and sneakers with the number 23.',
    "The overall appearance of the person is casual: a denim shirt over a white T-shirt, black jeans & tan boots.",
    "The person is male. He is wearing a black jacket. He is wearing black pants. He is wearing black shoes.",
    "The woman's hairstyle is a high ponytail, her clothing is a sundress, and her belongings include a tote bag.",
    "The person's gender cannot be determined with certainty. They wear a dark puffer jacket with a fur-trimmed hood.",
    "The man wears a black coat. The picture does not show his shoes. There are no other people visible in the image.",
    "The photo does not show the person's shoes, which are difficult to see, but he wears a red coat.",
    "The image is too dark to make out the shoes. It is hard to tell the color of the coat, which is long.",
    "The person, likely a student, wears a blue and white tracksuit - a school uniform - and white trainers.",
    "I can see that she has long hair. She's wearing a caf\u00e9-colored cardigan and carries a tablet, its screen on.",
    "He is wearing a white T-shirt with a black collar, a pair of black pants, a pair of shoes, and a pair of glasses.",
]


@pytest.mark.parametrize(("rule", "caption"), [(rule, caption) for rule in REJECTED for caption in REJECTED[rule]])
def test_each_rule_rejects(rule, caption):
    assert clean(caption)[1] == rule


def test_every_rule_has_examples():
    assert list(REJECTED) == list(RULES)


def test_the_instruction_at_hand_is_known():
    mine = "Tell me in a few words about whoever stands in front of the camera today. Pattern: {template}"
    caption = "A few words about whoever stands in front of the camera: a man in red."
    assert clean(caption) == (caption, None)
    assert clean(caption, CleaningContext(mine)) == (caption, "instruction")


@pytest.mark.parametrize("domain", DOMAINS)
def test_ordinary_captions_pass(domain):
    """Whole styles, 0 rejected; web tags may be a single word, which is a matter of min_words."""
    world = World(domain, 250, None, 11, 0.3, (64, 32), "train")
    contexts = [CleaningContext(i.text, min_words=1 if domain == "web" else 3) for i in INSTRUCTIONS.values()]
    for person in range(250):
        for caption in world.captions(person):
            assert clean(caption.text, contexts[person % len(contexts)]) == (caption.text, None)


@pytest.mark.parametrize("instruction", INSTRUCTIONS.values(), ids=INSTRUCTIONS)
def test_what_multi_modal_models_write_passes(instruction):
    for caption in REALISTIC:
        assert clean(caption, CleaningContext(instruction.text)) == (caption, None)


FILLINGS = {
    "person": ("a young woman", "the man", "an elderly person"),
    "clothing": ("a red coat", "a striped t-shirt and blue jeans", "perhaps a dark \u201cAdidas\u201d tracksuit"),
    "footwear": ("white sneakers", "a pair of black leather boots"),
    "hair": ("long black hair", "a caf\u00e9-au-lait-colored bob"),
    "accessory": ("a blue cap", "glasses & a scarf"),
    "belongings": ("a brown handbag", "a phone in the left hand"),
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data(), place=st.integers(0, 999))
def test_filled_templates_pass(data, place):
    template = data.draw(st.sampled_from([*TEMPLATES, *_GRAMMAR]))
    for slot in SLOTS:
        template = template.replace(f"[{slot}]", data.draw(st.sampled_from(FILLINGS[slot])))
    context = CleaningContext(list(INSTRUCTIONS.values())[place % 4].text)
    assert clean(template, context)[1] is None


_GRAMMAR = compose(500, seed=8)


@pytest.mark.parametrize(
    ("raw", "tidied"),
    [
        ("  A man\n in   red. ", "A man in red."),
        ('"A man in red."', "A man in red."),
        ("\u201cA man in red.\u201d", "A man in red."),
        ('"A" and "B"', '"A" and "B"'),
        ("Description: A man in red.", "A man in red."),
        ("**Description:** A man in red.", "A man in red."),
        ("Sure! Here is a description of the person in the image: A man in red.", "A man in red."),
        ("Here's the caption: 'A man in red.'", "A man in red."),
        ("The man&#39;s coat is red &amp; long.", "The man's coat is red & long."),
        ("A\u200b man\u00a0in red.\ufeff", "A man in red."),
        ("The woman\u2019s caf\u00c3\u00a9 coat", "The woman's caf\u00e9 coat"),
        ("Here is a man in red: he walks.", "Here is a man in red: he walks."),
        ("Passenger, man: a cap.", "Passenger, man: a cap."),
    ],
)
def test_tidy(raw, tidied):
    assert tidy(raw) == tidied


PIECES = ["Caption: ", '"', "'", "`", "&amp;", " ", "a man", "\u201c", "Here is the caption: ", "\n", "\x00"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_cleaning_any_text(text):
    tidied, rule = clean(text)
    assert tidy(tidied) == tidied
    assert tidied == " ".join(tidied.split())
    assert rule is None or rule in RULES


def test_word_limits():
    caption = "A man in a red coat."
    assert clean(caption, CleaningContext(min_words=6, max_words=6))[1] is None
    assert clean(caption, CleaningContext(min_words=7))[1] == "short"
    assert clean(caption, CleaningContext(min_words=1, max_words=5))[1] == "long"
    with pytest.raises(ValueError, match="min_words=5 and max_words=4"):
        CleaningContext(min_words=5, max_words=4)


def test_foreign_words_are_no_english_ones():
    english = set.union(set(ENGLISH), *(set(words) for words in LEXICON.values()))
    for language, words in FOREIGN.items():
        assert not words & english, language


def test_repeats_are_counted_whatever_case_and_punctuation():
    repeats = RepeatCounter(limit=3, width=64)
    assert [repeats.add(text) for text in ("A man.", "a man", "A MAN!", "A man.", "A woman.")] == [0, 0, 0, 1, 0]
    # Never too low, even in a sketch that is far too small; exact in one that is large enough.
    rng = np.random.default_rng(0)
    texts = [f"person number {i}" for i in rng.zipf(1.5, 3000).clip(max=900)]
    small, large = RepeatCounter(limit=5, width=16), RepeatCounter(limit=5, width=2**14)
    seen: dict[str, int] = {}
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        assert small.add(text) >= (seen[text] > 5)
        assert large.add(text) == (seen[text] > 5)
    with pytest.raises(ValueError, match="limit=0"):
        RepeatCounter(limit=0)


def test_report_does_not_depend_on_the_order():
    captions = [(f"{i}.jpg", f"A man {i}", ("short", "loop", None)[i % 3]) for i in range(300)]
    whole, reverse = CleaningReport(samples=4), CleaningReport(samples=4)
    for name, text, rule in captions:
        whole.add(rule, name, text)
    for name, text, rule in reversed(captions):
        reverse.add(rule, name, text)
    assert reverse.as_dict() == whole.as_dict()
    assert whole.as_dict()["accepted"] == 100
    assert whole.as_dict()["rules"]["short"]["count"] == 100
    assert len(whole.as_dict()["rules"]["loop"]["samples"]) == 4
    assert list(whole.as_dict()["rules"]) == [*RULES, "repeated"]
    assert re.search(r"\| short \| fewer words than min_words \| 100 \| `A man \d+` \|", whole.as_markdown())
    assert "200 of 300 captions rejected" in whole.as_markdown()


def test_table_report():
    captions = ["A man in a [clothing]."] + ["A man in a red coat."] * 110 + [f"A man in coat {i}." for i in range(9)]
    columns = dict(image=[f"{i}.jpg" for i in range(120)], caption=captions, pid=range(120), image_id=range(120))
    table = CaptionTable.from_columns(columns, name="mine")
    rules = check_table_captions(table, sample=1000).as_dict()["rules"]
    assert {name: rule["count"] for name, rule in rules.items() if rule["count"]} == {"brackets": 1, "repeated": 10}
    assert rules["brackets"]["samples"] == [{"name": "0.jpg", "caption": captions[0]}]
    assert check_table_captions(table, sample=7).accepted <= 7
