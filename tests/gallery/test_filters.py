"""Conditions on metadata: what they mean, and that nothing but them is understood."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.gallery.filters import mask, milvus, parse
from mmreid_text.gallery.metadata import kinds
from mmreid_text.quiet_log import logs_left_alone

ROWS = pa.table(
    {
        "path": ["a_b/1.jpg", "axb/2.jpg", 'q"u\\o.jpg', "100%.jpg", "é.jpg"],
        "camera": ["c1", "c2", None, "c1", "c10"],
        "time": pa.array([10, None, -5, 70, 30], pa.int64()),
        "quality": [0.5, 1.0, None, 2.0, 0.25],
        "night": [True, False, None, False, True],
    }
)
KINDS = kinds(ROWS.schema)
EXAMPLES = {
    'camera == "c1"': [0, 3],
    'camera != "c1"': [1, 4],
    'not camera == "c1"': [1, 4],
    'camera in ["c1", "c2"]': [0, 1, 3],
    'camera not in ["c1"]': [1, 4],
    "time >= 30": [3, 4],
    "30 <= time": [3, 4],
    "-10 < time < 30": [0, 2],
    "not (-10 < time < 30)": [3, 4],
    "time in [10, 70.0]": [0, 3],
    "quality <= 0.5 or time == 70": [0, 3, 4],
    "not (quality <= 0.5 or time == 70)": [],
    "night": [0, 4],
    "not night": [1, 3],
    "night == true and time > 10": [4],
    '"_b" in path': [0],
    '"%" in path': [3],
    '"\\\\" in path': [2],
    '"b/" not in path': [2, 3, 4],
    'camera >= "c10"': [1, 4],
    'path == "é.jpg" or "\\"u" in path': [2, 4],
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_condition_holds_for_these_rows(text):
    assert mask(parse(text, KINDS), ROWS).nonzero()[0].tolist() == EXAMPLES[text]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid syntax"),
        ("camera", "no comparison"),
        ("camer == 'c1'", "there is no column 'camer'. Did you mean 'camera'?"),
        ("time == 'c1'", "column 'time' holds numbers, and 'c1' is a text"),
        ("night == 1", "column 'night' holds booleans, and 1 is a number"),
        ("night < true", "true or false"),
        ("time is None", "'is' compares nothing here"),
        ("camera == path", "no text, number"),
        ("1 < 2", "compared with no column"),
        ("time in []", "no list of values"),
        ("time > 10 ** 9", "no text, number"),
        ("time > 99999999999999999999", "too large"),
        ("time > 1e999", "infinite"),
        ("camera == 'a\\nb'", "cannot be printed"),
        ("'1' in time", "holds numbers"),
        ("__import__('os').system('true')", "no comparison"),
        ("(lambda: time)() == 1", "compared with no column"),
        ("camera == 'c1'; time == 1", "invalid syntax"),
        ("not " * 100 + "night", "nested too deep"),
        ("(" * 900 + "night" + ")" * 900, "nested"),
        ("night or " * 300 + "night", "more than 2,000"),
    ],
)
def test_nothing_else_is_understood(text, why):
    with pytest.raises(ValueError, match="The condition") as error:
        parse(text, KINDS)
    assert why in str(error.value)


VALUES = {"time": st.sampled_from([-5, 10, 30, 50.5]), "camera": st.sampled_from(["c1", "c10", "d"])}


@st.composite
def conditions(draw):
    """A condition as text, and as a function of a row that gives True, False or None for not known."""
    column = draw(st.sampled_from(["time", "camera"]))
    value, sign = draw(VALUES[column]), draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    tests = {
        "==": lambda x: x == value,
        "!=": lambda x: x != value,
        "<": lambda x: x < value,
        "<=": lambda x: x <= value,
        ">": lambda x: x > value,
        ">=": lambda x: x >= value,
    }
    return f"{column} {sign} {value!r}", lambda row: None if row[column] is None else tests[sign](row[column])


def _negated(inner):
    return f"not ({inner[0]})", lambda row: None if inner[1](row) is None else not inner[1](row)


def _joined(pair, word):
    (left, test_left), (right, test_right) = pair
    decides = word == "or"

    def test(row):
        known = [test_left(row), test_right(row)]
        return decides if decides in known else None if None in known else not decides

    return f"({left}) {word} ({right})", test


trees = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        inner.map(_negated),
        st.tuples(inner, inner).map(lambda pair: _joined(pair, "and")),
        st.tuples(inner, inner).map(lambda pair: _joined(pair, "or")),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(tree=trees)
def test_conditions_mean_what_three_valued_logic_says(tree):
    text, test = tree
    rows = ROWS.to_pylist()
    assert mask(parse(text, KINDS), ROWS).tolist() == [test(row) is True for row in rows]


def test_milvus_finds_the_same_rows(tmp_path):
    with logs_left_alone():
        pymilvus = pytest.importorskip("pymilvus")
    client = pymilvus.MilvusClient(uri=str(tmp_path / "milvus.db"))
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("slot", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=2)
    client.create_collection("rows", schema=schema, consistency_level="Strong")
    client.upsert(
        "rows",
        [
            {"slot": i, "vector": [1.0, 0.0]} | {f"m_{k}": v for k, v in row.items() if v is not None}
            for i, row in enumerate(ROWS.to_pylist())
        ],
    )
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    client.create_index("rows", index)
    client.load_collection("rows")
    for text, wanted in EXAMPLES.items():
        found = client.query("rows", filter=milvus(parse(text, KINDS)), output_fields=["slot"])
        assert sorted(row["slot"] for row in found) == wanted, text
    client.close()
