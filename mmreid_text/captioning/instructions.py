"""What a captioner is asked: static instructions, and dynamic ones that hold a template."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

PLACEHOLDER = "{template}"


@dataclass(frozen=True)
class Instruction:
    """A text for the captioner.

    Attributes:
        name: Of the preset, or of the file without its ending.
        text: The text; a dynamic one holds ``{template}`` once.
        dynamic: Whether it takes a template.

    Raises:
        ValueError: The text is empty, or holds other placeholders than ``dynamic`` says.
    """

    name: str
    text: str
    dynamic: bool

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"instruction {self.name!r} is empty")
        found = re.findall(r"\{[^{}]*\}", self.text)
        if found != [PLACEHOLDER] * self.dynamic:
            rule = f"{PLACEHOLDER} exactly once" if self.dynamic else "no placeholder"
            raise ValueError(f"instruction {self.name!r} holds {found or 'no placeholder'}, it must hold {rule}")

    def render(self, template: str | None = None) -> str:
        """The text to send.

        Args:
            template: Put in the place of ``{template}``; None for a static instruction.

        Raises:
            ValueError: A dynamic instruction without a template, or a static one with it.
        """
        if self.dynamic != (template is not None):
            need = "needs a template" if self.dynamic else "is static and takes no template"
            raise ValueError(f"instruction {self.name!r} {need}")
        return self.text if template is None else self.text.replace(PLACEHOLDER, template)


# The paper's two are quoted word for word from its section 3.1, so that its captions can be made again.
_PAPER_STATIC = (
    "Write a description about the overall appearance of the person in the image, including the attributes: clothing, "
    "shoes, hairstyle, gender and belongings. If any attribute is not visible, you can ignore it. Do not imagine any "
    "contents that are not in the image."
)
_PAPER_DYNAMIC = (
    "Generate a description about the overall appearance of the person, including clothing, shoes, hairstyle, gender, "
    "and belongings, in a style similar to the template: \u2018{template}\u2019. If some requirements in the template "
    "are not visible, you can ignore them. Do not imagine any contents that are not in the image."
)
_STATIC = (
    "Say in plain English what the person in this picture looks like, in one to three sentences and at most 60 words: "
    "man or woman, hair, clothes with their colours and patterns, shoes, and what is worn or carried besides. Leave "
    "out whatever cannot be seen, and do not guess. Answer with the sentences alone."
)
_DYNAMIC = (
    "Say in plain English what the person in this picture looks like, following this sentence pattern: "
    '"{template}" Each word in square brackets stands for a part of the description: put there what the picture shows, '
    "with colours and patterns, and say whether it is a man or a woman. Drop every part of the pattern that cannot be "
    "seen, and do not guess. Write at most 60 words and no square brackets. Answer with the sentences alone."
)
#: Presets by name. ``paper-*``: Tan et al., Harnessing the Power of MLLMs for Transferable Text-to-Image Person ReID,
#: CVPR 2024, section 3.1; the others are ours.
INSTRUCTIONS: dict[str, Instruction] = {
    instruction.name: instruction
    for instruction in (
        Instruction("paper-static", _PAPER_STATIC, dynamic=False),
        Instruction("paper-dynamic", _PAPER_DYNAMIC, dynamic=True),
        Instruction("static", _STATIC, dynamic=False),
        Instruction("dynamic", _DYNAMIC, dynamic=True),
    )
}


def get_instruction(name_or_path: str | os.PathLike[str]) -> Instruction:
    """A preset by name, or the text of a file; a file that holds ``{template}`` is a dynamic instruction.

    Raises:
        ValueError: Neither a preset nor a file, or :class:`Instruction` refuses the text.

    >>> get_instruction("paper-dynamic").dynamic
    True
    """
    name = os.fspath(name_or_path)
    if name in INSTRUCTIONS:
        return INSTRUCTIONS[name]
    path = Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, INSTRUCTIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"instruction {name!r} is no preset ({', '.join(INSTRUCTIONS)}) and no file{hint}")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    return Instruction(path.stem, text, dynamic=PLACEHOLDER in text)
