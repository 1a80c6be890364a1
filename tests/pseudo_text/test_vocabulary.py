"""Vocabulary files: what is read of them, and that bad ones are refused with the line."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.pseudo_text.vocabulary import OPTIONAL, REQUIRED, SLOTS, STANDARD, load_vocabulary, with_article

DRAWN = Path(__file__).parents[2] / "configs/unipt/vocabulary_drawn.yaml"
GOOD = """\
prompt: a person with {}
pronouns:
  man: [he, his]
  woman: [she, her]
lists:
  colour:
    red: [red, crimson]
    plain: [plain, ""]
  garment:
    coat: [coat, overcoat]
    trousers: [trousers+]
attributes:
  gender:
    prompt: a photo of {}
    classes:
      man: [man, guy]
      woman: [woman]
  upper:
    product: [colour, garment]
  lower:
    classes:
      shorts: [orange shorts+]
      skirt: [skirt]
  hat:
    none: no hat
    classes:
      hat: [hat, umbrella hat]
silences:
  upper: {coat: [lower]}
"""


def load(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_vocabulary(path)


def test_a_file_gives_prompts_and_phrases(tmp_path):
    vocabulary = load(tmp_path, GOOD)
    assert vocabulary.slots == ("gender", "upper", "lower", "hat")
    assert vocabulary.pronouns == {"man": ("he", "his"), "woman": ("she", "her")}
    gender, upper, lower, hat = vocabulary.attributes
    assert [each.prompt for each in gender.classes] == ["a photo of a man", "a photo of a woman"]
    assert gender.classes[0].said == ("man", "guy")  # the sentence puts an article, and an age between
    assert upper.part_names == ("colour", "garment")
    assert [each.name for each in upper.classes] == ["red coat", "red trousers", "plain coat", "plain trousers"]
    assert [each.prompt for each in upper.classes] == [
        "a person with a red coat",
        "a person with red trousers",
        "a person with a plain coat",
        "a person with plain trousers",
    ]
    assert upper.classes[2].said == ("a plain coat", "a plain overcoat", "a coat", "an overcoat")
    assert lower.classes[0].said == ("orange shorts",) * 3 + ("a pair of orange shorts",)
    assert hat.classes[0].said == ("a hat", "an umbrella hat")
    assert hat.classes[1].prompt == "a person with no hat"
    assert hat.classes[1].said == ()
    assert [hat.required, gender.required] == [False, True]
    assert [each.silences for each in upper.classes] == [("lower",), (), ("lower",), ()]
    assert vocabulary.silenced[1].tolist() == [[False, False, lowers, False] for lowers in (True, False, True, False)]
    assert not any(vocabulary.silenced[i].any() for i in (0, 2, 3))
    assert vocabulary.prompts[2:6] == [each.prompt for each in upper.classes]
    assert [(span.start, span.stop) for span in vocabulary.spans()] == [(0, 2), (2, 6), (6, 8), (8, 10)]


def test_the_fingerprint_follows_content_not_layout(tmp_path):
    first = load(tmp_path, GOOD).fingerprint
    assert load(tmp_path, "# a remark\n" + GOOD.replace("[man, guy]", "[man,   guy]")).fingerprint == first
    assert load(tmp_path, GOOD.replace("guy", "male")).fingerprint != first
    assert load(tmp_path, GOOD.replace("a person with {}", "somebody with {}")).fingerprint != first
    assert load(tmp_path, GOOD.replace("[she, her]", "[they, their]")).fingerprint != first
    assert load(tmp_path, GOOD.replace("{coat: [lower]}", "{coat: [hat]}")).fingerprint != first


def test_the_packages_vocabulary_has_the_fourteen_attributes():
    vocabulary = load_vocabulary()
    assert vocabulary.slots == SLOTS == (*REQUIRED, *OPTIONAL)
    assert len(SLOTS) == 14
    upper = vocabulary.attributes[vocabulary.slots.index("upper")]
    assert len(upper.classes) == 12 * 5 * 11
    assert len(set(vocabulary.prompts)) == len(vocabulary.prompts) > 700
    assert set(load_vocabulary(DRAWN).slots) < set(SLOTS)


def edited(old, new, line):
    """GOOD with one change, and the line that the error must name."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new), line


BAD = {
    "unknown slot": (edited("  hat:\n    none", "  hatt:\n    none", 24), "unknown attribute 'hatt'; did you mean"),
    "unknown key": (edited("lists:", "list:", 5), "unknown key 'list'; did you mean 'lists'"),
    "empty attribute": (edited("    product: [colour, garment]", "    prompt: in {}", 19), "'upper' is empty"),
    "no classes": (
        edited("    classes:\n      shorts: [orange shorts+]\n      skirt: [skirt]\n", "    classes:\n", 21),
        "'lower' is empty",
    ),
    "empty class": (edited("skirt: [skirt]", "skirt: []", 23), "class 'skirt' of attribute 'lower' is empty"),
    "no phrase": (edited("skirt: [skirt]", "skirt:", 23), "class 'skirt' of attribute 'lower' is empty"),
    "empty list": (edited("    coat: [coat, overcoat]\n    trousers: [trousers+]\n", "", 9), "'garment' is empty"),
    "duplicate phrase": (edited("woman: [woman]", "woman: [woman, Guy]", 17), "repeats the phrase 'Guy' of line 16"),
    "duplicate in a class": (edited("[coat, overcoat]", "[coat, coat]", 10), "repeats the phrase 'coat' of line 10"),
    "duplicate in a list": (edited("[trousers+]", "[trousers+, coat+]", 11), "repeats the phrase 'coat' of line 10"),
    "no pronouns": (
        edited("pronouns:\n  man: [he, his]\n  woman: [she, her]\n", "", 10),
        "no `pronouns`: `pronouns` must give each class of gender a subject and a possessive",
    ),
    "a pronoun missing": (edited("  woman: [she, her]\n", "", 3), "lacks the class of gender 'woman'"),
    "one pronoun": (edited("[she, her]", "[she]", 4), "pronouns of 'woman' are ['she']"),
    "a stranger's pronouns": (edited("  woman: [she", "  robot: [she", 4), "unknown class of gender 'robot'"),
    "attribute twice": (edited("  hat:\n", "  lower:\n", 24), "has 'lower' twice"),
    "core attribute missing": (edited("  upper:\n    product: [colour, garment]\n", "", 13), "lacks 'upper'"),
    "no absence": (edited("    none: no hat\n", "", 25), "'hat' needs `none`"),
    "absence of gender": (edited("    prompt: a photo", "    none: nobody\n    prompt: a photo", 14), "no `none`"),
    "prompt without place": (edited("a photo of {}", "a photo", 14), "must hold {}"),
    "no prompt": (edited("prompt: a person with {}\n", "", 18), "'upper' has no prompt"),
    "unknown list": (edited("[colour, garment]", "[colur, garment]", 19), "list 'colur'; did you mean 'colour'"),
    "mark before the end": (edited("[colour, garment]", "[garment, colour]", 19), "must come last in 'upper'"),
    "empty first": (edited("[plain, \"\"]", "[\"\", plain]", 8), "begins with the empty phrase"),
    "punctuation": (edited("[skirt]", "['skirt, long']", 23), "must be words parted by single spaces"),
    "braces": (edited("[skirt]", "['{A}']", 23), "must be words parted by single spaces"),
    "an article": (edited("[skirt]", "[a skirt]", 23), "begins with an article"),
    "a word twice": (edited("[skirt]", "[skirt skirt]", 23), "a word twice in a row"),
    "a marked person": (edited("[man, guy]", "[man, guys+]", 16), "must be words parted by single spaces"),
    "malformed": (edited("[man, guy]", "[man, guy", 17), "is no YAML"),
    "tab": (edited("  upper:\n", "\tupper:\n", 18), "is no YAML"),
    "a number for a list": (edited("skirt: [skirt]", "skirt: 3", 23), "is empty or no list"),
    "nested": (edited("[skirt]", "[[skirt]]", 23), "must hold text here"),
    "one class": (edited("      skirt: [skirt]\n", "", 21), "one class alone"),
    "a silence of nothing": (edited("upper: {coat", "shoes: {coat", 29), "has the unknown attribute 'shoes'"),
    "a silent stranger": (edited("{coat: [lower]}", "{cot: [lower]}", 29), "unknown class 'cot'; did you mean 'coat'"),
    "a stranger silenced": (edited("[lower]}", "[lowr]}", 29), "the unknown attribute 'lowr'; did you mean 'lower'"),
    "the person silenced": (edited("[lower]}", "[gender]}", 29), "'coat' cannot silence 'gender'"),
    "silences no list": (edited("[lower]}", "lower}", 29), "is empty or no list"),
    "absence among the classes": (edited("hat: [hat,", "none: [hat,", 27), "has a class 'none'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_the_line(tmp_path, name):
    (text, line), told = BAD[name]
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        load(tmp_path, text)
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yaml'}:{line} "), str(refused.value)


def test_files_that_are_no_vocabulary_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such vocabulary"):
        load_vocabulary(tmp_path / "none.yaml")
    for text in ("", "just words", "- a\n- list\n", "attributes: 3\n"):
        with pytest.raises(ValueError, match=r"mine\.yaml:1 "):
            load(tmp_path, text)
    (tmp_path / "latin.yaml").write_bytes(GOOD.replace("guy", "gar\u00e7on").encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        load_vocabulary(tmp_path / "latin.yaml")
    lists = "".join(f"  many{i}:\n" + "".join(f"    c{n}: [w{n}x]\n" for n in range(30)) for i in range(3))
    text = GOOD.replace("lists:\n", "lists:\n" + lists).replace("[colour, garment]", "[many0, many1, many2]")
    with pytest.raises(ValueError, match="makes 27,000 classes"):
        load(tmp_path, text)


def test_the_packages_file_is_read_alike_under_a_name_of_its_own(tmp_path):
    assert load(tmp_path, STANDARD.read_text()).fingerprint == load_vocabulary().fingerprint


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_or_refused_with_a_line(tmp_path_factory, data):
    lines = GOOD.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "double", "indent", "swap", "cut", "text"]))
    if change == "drop":
        del lines[at]
    elif change == "double":
        lines.insert(at, lines[at])
    elif change == "indent":
        lines[at] = " " * data.draw(st.integers(1, 4)) + lines[at]
    elif change == "swap":
        lines[at], lines[at - 1] = lines[at - 1], lines[at]
    elif change == "cut":
        lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
    else:
        lines[at] = data.draw(st.text(max_size=12))
    path = tmp_path_factory.mktemp("damaged") / "v.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        vocabulary = load_vocabulary(path)
    except ValueError as refused:
        told = str(refused)
    else:
        assert {"gender", "upper", "lower"} <= set(vocabulary.slots)
        assert all("{" not in prompt for prompt in vocabulary.prompts)
        return
    assert re.match(rf"{re.escape(str(path))}(:\d+)? ", told)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        *[("umbrella", "an"), ("uniform", "a"), ("unusual hat", "an"), ("unicorn", "a"), ("one-piece dress", "a")],
        *[("hour", "an"), ("hat", "a"), ("European coat", "a"), ("orange coat", "an"), ("used bike", "a")],
    ],
)
def test_articles(phrase, expected):
    assert with_article(phrase) == f"{expected} {phrase}"
