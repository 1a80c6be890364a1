"""Texts of configs without yapf's layout, which takes two thirds of a small run's time."""

import ast


def plain(text: str, **_: object) -> tuple[str, bool]:
    """In place of yapf's ``FormatCode``: as that it refuses what is no Python."""
    ast.parse(text)
    return text, False
