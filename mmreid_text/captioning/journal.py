"""Journal of a shard: every answer, on disk before the next thing happens, so that a killed process loses none."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mmreid_text.captioning.backends.base import ANSWERED


@dataclass(frozen=True)
class Answer:
    """One judged answer.

    Attributes:
        image: Row of the image in its shard.
        source: Number of the caption source in the job.
        attempt: 0, 1, 2, ...
        text: The caption, tidied where it was accepted, else as it came.
        why: '' where it was accepted; else the cleaning rule or the error that speaks against it.
        detail: The error in a sentence.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        final: Whether asking again is no use.
    """

    image: int
    source: int
    attempt: int
    text: str
    why: str
    detail: str
    prompt_tokens: int
    completion_tokens: int
    final: bool

    @property
    def accepted(self) -> bool:
        return not self.why


def is_final(error: str) -> bool:
    """Whether an error of a back end ends a caption: the model's answers do not, the others were tried often enough."""
    return error not in ANSWERED


class Journal:
    """The answers of one shard that one process writes, a JSON object per line.

    Args:
        path: Its file; each process has one of its own, so that one which was taken over disturbs nobody.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)

    def write(self, answer: Answer) -> None:
        line = json.dumps(asdict(answer)).encode() + b"\n"
        while line:  # a full disk may take a part
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        os.close(self._file)


def read_journals(paths: Iterable[Path]) -> dict[tuple[int, int], list[Answer]]:
    """Answers by (image row, source), in the order of their attempts, from all journals of a shard.

    What a process was killed in the middle of writing is passed over, as is a journal that the end of its shard has
    removed meanwhile. Where two processes have made the same attempt, an accepted answer counts, else the first one;
    what one of them asked behind an accepted answer of the other is left out.
    """
    found: dict[tuple[int, int], dict[int, Answer]] = defaultdict(dict)
    for path in sorted(paths):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        for line in content.split(b"\n"):
            try:
                answer = Answer(**json.loads(line))
            except (ValueError, TypeError):
                continue
            attempts = found[answer.image, answer.source]
            if answer.attempt not in attempts or (answer.accepted and not attempts[answer.attempt].accepted):
                attempts[answer.attempt] = answer
    return {slot: _up_to_accepted([attempts[n] for n in sorted(attempts)]) for slot, attempts in found.items()}


def _up_to_accepted(answers: list[Answer]) -> list[Answer]:
    return answers[: next((i for i, answer in enumerate(answers, 1) if answer.accepted), None)]
