"""Conditions on metadata, such as ``camera == "c2" and time >= 120000``, for every kind of store.

The language is a small part of Python's: comparisons of a column with literals, chained or not, ``in`` and ``not in``
with lists, ``"text" in column``, ``and``, ``or``, ``not`` and parentheses. It is parsed and never run. An image that
lacks a column's value fits no comparison with it, negated ones included.
"""

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.engine.config_options import nearest
from mmreid_text.gallery.image_files import is_text

MAX_CHARACTERS = 2000
"""Of a condition."""
MAX_DEPTH = 50
MILVUS_PREFIX = "m_"
"""Of the metadata's names in Milvus, which has words and fields of its own."""

Kind: TypeAlias = Literal["text", "number", "boolean"]
Value: TypeAlias = str | int | float | bool
_NEGATED = {"==": "!=", "<": ">=", "<=": ">", "in": "not in", "contains": "lacks"}
_NEGATED |= {after: before for before, after in _NEGATED.items()}
_SIDES = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPERATORS = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_COMPARE: dict[str, Callable[..., pa.Array]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


@dataclass(frozen=True)
class Comparison:
    """A column beside a literal; ``value`` is a tuple with the operators ``in`` and ``not in``."""

    column: str
    operator: str
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class Junction:
    """Conditions of which all, or else any, must hold."""

    every: bool
    parts: "tuple[Condition, ...]"


Condition: TypeAlias = Comparison | Junction


def parse(text: str, columns: Mapping[str, Kind]) -> Condition:
    """Read a condition.

    Args:
        text: Such as ``camera in ["c1", "c2"] and not "night" in path``.
        columns: Kinds of the columns by name.

    Raises:
        ValueError: It is no condition of this language, or names no column; the message says what and where.

    >>> parse('1 <= camera < 3', {'camera': 'number'}).parts[1]
    Comparison(column='camera', operator='<', value=3)
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The condition has {len(text):,} characters, more than {MAX_CHARACTERS:,}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return _Reader(columns).condition(tree, False, 0)
    except (SyntaxError, MemoryError, RecursionError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"The condition {_shown(text)} cannot be read: {reason}. Write it as in "
            "'camera == \"c2\" and time >= 120000'."
        ) from error


class _Reader:
    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self.columns = columns

    def condition(self, node: ast.expr, negated: bool, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise ValueError("parentheses are nested too deep")
        if isinstance(node, ast.BoolOp):
            every = isinstance(node.op, ast.And) != negated
            return Junction(every, tuple(self.condition(part, negated, depth + 1) for part in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.condition(node.operand, not negated, depth + 1)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [self._pair(a, op, b, negated) for a, op, b in zip(sides, node.ops, sides[1:])]
            return pairs[0] if len(pairs) == 1 else Junction(not negated, tuple(pairs))
        if isinstance(node, ast.Name) and self._kind(node.id) == "boolean":
            return Comparison(node.id, "==", not negated)
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no comparison of a column with a value")

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr, negated: bool) -> Comparison:
        name = _OPERATORS.get(type(op))
        if name is None:
            raise ValueError("'is' compares nothing here; use == or !=")
        value: Value | tuple[Value, ...]
        if name in ("in", "not in") and isinstance(right, ast.Name):  # "text" in column
            column, value, name = right.id, _literal(left), {"in": "contains", "not in": "lacks"}[name]
        elif isinstance(left, ast.Name):
            column, value = left.id, _literals(right) if name in ("in", "not in") else _literal(right)
        elif isinstance(right, ast.Name):
            column, value, name = right.id, _literal(left), _SIDES[name]
        else:
            raise ValueError(f"{ast.unparse(left)[:60]!r} is compared with no column")
        self._check(column, name, value)
        return Comparison(column, _NEGATED[name] if negated else name, value)

    def _kind(self, column: str) -> Kind:
        if column not in self.columns:
            raise ValueError(f"there is no column {column!r}.{nearest(column, set(self.columns))}".rstrip("."))
        return self.columns[column]

    def _check(self, column: str, name: str, value: Value | tuple[Value, ...]) -> None:
        kind = self._kind(column)
        for item in value if isinstance(value, tuple) else (value,):
            if kind_of(item) != kind:
                raise ValueError(f"column {column!r} holds {kind}s, and {item!r} is a {kind_of(item)}")
        if kind == "boolean" and name not in ("==", "!=", "in", "not in"):
            raise ValueError(f"column {column!r} is true or false: compare it with == or !=")
        if kind != "text" and name in ("contains", "lacks"):
            raise ValueError(f"column {column!r} holds {kind}s, which contain nothing")


def kind_of(value: Value) -> Kind:
    """Kind of a literal."""
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _literal(node: ast.expr) -> Value:
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return node.id == "true"
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, bool)):
        value: Any = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{ast.unparse(node)!r} is no number")
        value = -value
    else:
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no text, number, True or False")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"the number {str(value)[:20]}... is too large")
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError("a number is infinite")
    if isinstance(value, str) and not is_text(value):
        raise ValueError("a text has characters in it that cannot be printed")
    return value


def _literals(node: ast.expr) -> tuple[Value, ...]:
    if not isinstance(node, (ast.List, ast.Tuple, ast.Set)) or not node.elts:
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no list of values, as in [1, 2]")
    return tuple(map(_literal, node.elts))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def mask(condition: Condition, table: pa.Table) -> np.ndarray:
    """Rows of a table that a condition holds for, bool (rows,)."""
    if isinstance(condition, Junction):
        join = np.logical_and if condition.every else np.logical_or
        return join.reduce([mask(part, table) for part in condition.parts])
    column = table.column(condition.column)
    return pc.fill_null(_holds(condition, column), False).to_numpy().astype(bool)


def _holds(leaf: Comparison, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if leaf.operator in ("in", "not in"):
        assert isinstance(leaf.value, tuple)
        exact = pa.float64() if pa.types.is_floating(column.type) or _has_float(leaf.value) else column.type
        found = pc.is_in(column.cast(exact), value_set=pa.array(list(leaf.value), exact))
        known = pc.is_valid(column)
        return pc.and_(known, found if leaf.operator == "in" else pc.invert(found))
    if leaf.operator in ("contains", "lacks"):
        found = pc.match_substring(column, str(leaf.value))
        return found if leaf.operator == "contains" else pc.invert(found)
    return _COMPARE[leaf.operator](column, pa.scalar(leaf.value))


def _has_float(values: tuple[Value, ...]) -> bool:
    return any(isinstance(value, float) for value in values)


def milvus(condition: Condition) -> str:
    """The condition in Milvus's language, over fields that are called as the columns with :data:`MILVUS_PREFIX`."""
    if isinstance(condition, Junction):
        return "(" + (" and " if condition.every else " or ").join(map(milvus, condition.parts)) + ")"
    field = MILVUS_PREFIX + condition.column
    negative = condition.operator in ("!=", "not in", "lacks")
    name = _NEGATED[condition.operator] if negative else condition.operator
    if name == "contains":
        escaped = str(condition.value).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        test = f"{field} like {_quoted(f'%{escaped}%')}"
    elif name == "in":
        assert isinstance(condition.value, tuple)
        test = f"{field} in [{', '.join(map(_quoted, condition.value))}]"
    else:
        assert not isinstance(condition.value, tuple)
        test = f"{field} {name} {_quoted(condition.value)}"
    return f"(exists {field} and not ({test}))" if negative else f"({test})"


def _quoted(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
