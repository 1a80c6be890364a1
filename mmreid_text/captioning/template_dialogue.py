"""New templates out of captions, by a dialogue with a chat model that can be killed and gone on with.

The turns are those of Tan et al. (CVPR 2024, section 3.1): captions in, their sentence patterns out; then more
patterns, other openings, other orders, and a last turn in which the model picks out what reads badly.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmreid_text.captioning.cleaning import clean
from mmreid_text.captioning.template_grammar import pattern_key
from mmreid_text.captioning.templates import SLOTS, fault_of

#: Takes the messages so far, ``{"role": "user" | "assistant", "content": text}`` each, and gives the answer.
Chat = Callable[[list[dict[str, str]]], str]

MIN_TURNS = 5
_MAX_WORDS = 60
_CYCLE = ("more", "openings", "order")
_RULES = (
    "Rules for every pattern: one line; the slots "
    + ", ".join(f"[{slot}]" for slot in SLOTS)
    + " and no others, in square brackets; [person] always, no slot twice, two slots at least; plain English words "
    f"around them that fit whatever fills the slots, {_MAX_WORDS} words at most; a full stop at the end. Answer with "
    "the patterns alone."
)
_PROMPTS = {
    "patterns": "Here are {examples} descriptions of people in pictures. Which sentence patterns do they follow? Write "
    "every pattern once, with its details replaced by slots.\n{rules}\n\nDescriptions:\n{captions}",
    "more": "Write {count} more patterns that are built unlike all of the above.\n{rules}",
    "openings": "Write {count} more patterns that open in other ways: with clothes, with shoes, with what is carried, "
    "with the viewer, with a request, with a place. No two may share their first three words.\n{rules}",
    "order": "Write {count} more patterns with the slots in other orders than above, spread over one to four "
    "sentences.\n{rules}",
    "filter": "These are the patterns so far:\n{templates}\n\nWhich of them read badly, are ungrammatical, or say the "
    "same as an earlier one in nearly the same words? Answer with their numbers alone, separated by commas, or with "
    "the word none.",
}
_NUMBERING = re.compile(r"^\s*(?:[-*\u2022]+|\(?\d+[.):])\s*")


@dataclass
class Growth:
    """What a dialogue has come to.

    Attributes:
        templates: Valid and distinct, in the order in which they came.
        turns: Per turn its kind and how many lines were ``new``, ``repeated``, ``refused``; ``dropped`` in the filter.
    """

    templates: list[str] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)


def grow_templates(
    chat: Chat,
    captions: Sequence[str],
    journal: Path,
    count: int = 100,
    max_turns: int = 16,
    per_turn: int = 25,
    report: Callable[[dict[str, Any]], None] = lambda turn: None,
) -> Growth:
    """Hold the dialogue until there are ``count`` templates or ``max_turns`` turns, then filter.

    Every answer is in ``journal`` before the next turn; a dialogue that was killed goes on behind its last answer and
    asks nothing twice.

    Args:
        chat: The model.
        captions: Descriptions to read patterns from, such as 20.
        journal: JSON lines, one per turn; made where there is none.
        count: Templates that end the dialogue, once each kind of turn has been held.
        max_turns: Most turns, the filter included; at least 5.
        per_turn: Patterns asked for in a turn.
        report: Called with the entry of :attr:`Growth.turns` after every turn.

    Raises:
        ValueError: No captions, a number out of range, a journal of another dialogue, or no valid template came.
    """
    if not captions or count < 1 or per_turn < 1 or max_turns < MIN_TURNS:
        raise ValueError(
            f"{len(captions)} captions, count={count}, per_turn={per_turn}, max_turns={max_turns}: there must be a "
            f"caption, counts of at least 1 and {MIN_TURNS} turns"
        )
    growth = Growth()
    answers = _Journal(journal)
    messages: list[dict[str, str]] = []
    remark = ""
    for turn in range(max_turns):
        enough = turn > len(_CYCLE) and len(growth.templates) >= count
        last = enough or turn == max_turns - 1
        kind = "patterns" if turn == 0 else "filter" if last else _CYCLE[(turn - 1) % len(_CYCLE)]
        if kind == "filter" and not growth.templates:
            raise ValueError(f"{turn} turns gave no valid template; the answers stand in {journal}. {remark}".strip())
        prompt = _PROMPTS[kind].format(
            examples=len(captions),
            captions="\n".join(f"{i}. {' '.join(caption.split())}" for i, caption in enumerate(captions, 1)),
            templates="\n".join(f"{i}. {template}" for i, template in enumerate(growth.templates, 1)),
            count=per_turn,
            rules=_RULES,
        )
        messages.append({"role": "user", "content": remark + prompt})
        answer = answers.get(turn, messages)
        if answer is None:
            answer = chat([dict(message) for message in messages]).encode("utf-8", "replace").decode()
            answers.append(turn, kind, messages, answer)
        messages.append({"role": "assistant", "content": answer})
        entry, remark = _filter(growth, answer) if kind == "filter" else _collect(growth, answer)
        growth.turns.append({"turn": turn + 1, "kind": kind, **entry, "templates": len(growth.templates)})
        report(growth.turns[-1])
        if last:
            break
    return growth


def read_patterns(answer: str) -> list[str]:
    """Lines of an answer that hold a bracket, without numbering, quotes and emphasis; slots in lower case.

    >>> read_patterns('Sure:\\n1. "[Person] wears [clothing]."')
    ['[person] wears [clothing].']
    """
    patterns = []
    for line in answer.splitlines():
        line = _NUMBERING.sub("", " ".join(line.split())).strip("*`\"\u201c\u201d' ")
        if "[" in line:
            patterns.append(re.sub(r"\[([^\[\]]*)\]", lambda match: f"[{match[1].strip().lower()}]", line))
    return patterns


def grown_fault_of(template: str) -> str | None:
    """Why a pattern of a chat model is not taken, None if it is: stricter than what a user's own file may hold."""
    fault = fault_of(template)
    if fault:
        return fault
    slots = re.findall(r"\[(\w+)\]", template)
    if "person" not in slots or len(slots) < 2:
        return "needs [person] and another slot"
    if len(set(slots)) < len(slots):
        return "has a slot twice"
    if not template.endswith("."):
        return "has no full stop at its end"
    if len(template.split()) > _MAX_WORDS:
        return f"has more than {_MAX_WORDS} words"
    text = re.sub(r"[\[\]]", "", template)
    tidied, rule = clean(text)
    if rule or tidied != text:
        return f"breaks the caption rule {rule or 'tidy'!r}"
    return None


def _collect(growth: Growth, answer: str) -> tuple[dict[str, int], str]:
    """Take the good patterns of an answer; returns counts and a remark for the next turn."""
    known = {pattern_key(template) for template in growth.templates}
    entry = {"new": 0, "repeated": 0, "refused": 0}
    faults = []
    for pattern in read_patterns(answer):
        fault = grown_fault_of(pattern)
        if fault:
            entry["refused"] += 1
            faults.append(f"{pattern[:120]!r} {fault}")
        elif pattern_key(pattern) in known:
            entry["repeated"] += 1
        else:
            known.add(pattern_key(pattern))
            growth.templates.append(pattern)
            entry["new"] += 1
    if not any(entry.values()):
        return entry, "Your last answer held no pattern with slots in square brackets.\n"
    shown = "".join(f"- {fault}\n" for fault in faults[:5])
    return entry, f"These lines of your last answer break the rules:\n{shown}\n" if faults else ""


def _filter(growth: Growth, answer: str) -> tuple[dict[str, Any], str]:
    """Drop what the model picked out; more than half is taken as an answer to another question and set aside."""
    picked = {int(number) for number in re.findall(r"\d+", answer)}
    picked = {number for number in picked if 1 <= number <= len(growth.templates)}
    if 2 * len(picked) > len(growth.templates):
        return {"dropped": 0, "set_aside": len(picked)}, ""
    growth.templates = [template for i, template in enumerate(growth.templates, 1) if i not in picked]
    return {"dropped": len(picked)}, ""


class _Journal:
    """Answers by turn, one JSON line each; a half-written last line is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[dict[str, Any]] = []
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self._entries.append({"asked": entry["asked"], "answer": entry["answer"]})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number} is no answer of a dialogue; remove the file to start over"
                ) from error
        if len(whole) < len(content):
            os.truncate(path, len(whole))

    def get(self, turn: int, messages: Sequence[dict[str, str]]) -> str | None:
        if turn >= len(self._entries):
            return None
        if self._entries[turn]["asked"] != _digest(messages):
            raise ValueError(
                f"{self.path}:{turn + 1} answers other messages than those of this dialogue (its captions or numbers "
                "changed): remove the file to start over, or write to another place"
            )
        return self._entries[turn]["answer"]

    def append(self, turn: int, kind: str, messages: Sequence[dict[str, str]], answer: str) -> None:
        entry = {"turn": turn + 1, "kind": kind, "asked": _digest(messages), "answer": answer}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _digest(messages: Sequence[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(messages), sort_keys=True).encode()).hexdigest()
