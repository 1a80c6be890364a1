"""Presets and users' instructions."""

import pytest

from mmreid_text.captioning.instructions import INSTRUCTIONS, Instruction, get_instruction


def test_presets():
    assert set(INSTRUCTIONS) == {"paper-static", "paper-dynamic", "static", "dynamic"}
    for name, instruction in INSTRUCTIONS.items():
        assert get_instruction(name) is instruction
        assert instruction.dynamic == name.endswith("dynamic")
        rendered = instruction.render("[person] runs." if instruction.dynamic else None)
        assert ("[person] runs." in rendered) == instruction.dynamic
        assert "{" not in rendered


def test_the_papers_words():
    """Section 3.1 of the paper, word for word."""
    assert get_instruction("paper-static").text.startswith(
        "Write a description about the overall appearance of the person in the image, including the attributes: "
    )
    rendered = get_instruction("paper-dynamic").render("X")
    assert rendered.startswith(
        "Generate a description about the overall appearance of the person, including clothing, "
    )
    assert rendered.endswith(
        "in a style similar to the template: \u2018X\u2019. If some requirements in the template are not visible, you "
        "can ignore them. Do not imagine any contents that are not in the image."
    )


def test_render_wants_a_template_just_where_one_belongs():
    with pytest.raises(ValueError, match="'dynamic' needs a template"):
        get_instruction("dynamic").render()
    with pytest.raises(ValueError, match="'static' is static and takes no template"):
        get_instruction("static").render("[person] runs.")


def test_files(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("  Describe as in {template}\n")
    assert get_instruction(path) == Instruction("mine", "Describe as in {template}", dynamic=True)
    path.write_text("Describe.")
    assert get_instruction(str(path)) == Instruction("mine", "Describe.", dynamic=False)
    path.write_text("Describe as in {templat}")
    with pytest.raises(ValueError, match=r"'mine' holds \['\{templat\}'\], it must hold no placeholder"):
        get_instruction(path)
    path.write_text("{template} and {template}")
    with pytest.raises(ValueError, match="exactly once"):
        get_instruction(path)
    path.write_text(" \n")
    with pytest.raises(ValueError, match="'mine' is empty"):
        get_instruction(path)
    with pytest.raises(ValueError, match=r"'paper-statik' is no preset \(.*did you mean 'paper-static'\?"):
        get_instruction("paper-statik")
