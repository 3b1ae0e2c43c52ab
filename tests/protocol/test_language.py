"""The protocol language: what it takes, and how it says what it does not take."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.cells import CellType
from batterylab.errors import BatterylabError, ProblemsError
from batterylab.protocol import language, load, names

CELL = CellType.model_validate({
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "4.95 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "0 degC", "max": "45 degC"},
})  # fmt: skip

GOOD = """\
schema: batterylab.protocol/1
name: good
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 h}
stop:
  - {when: temperature, above: 50 degC}
steps:
  - until: {measure: capacity, last: 3, within: 3 % of rated, at_most: 5}
    steps:
      - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}
      - discharge: {rate: C/3, until: v_min, at_most: 4 h}
        measure: capacity
  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}
  - discharge: {current: 1.5 A, to_soc: 50 %, at_most: 2 h}
  - rest: {for: 1 h}
  - repeat: {times: 3}
    steps:
      - discharge: {rate: 1C, for: 10 s, sample_every: 1 s}
        measure: dcir
      - rest: {for: 10 min}
record: {every: 30 s, or_when: {voltage_moves: 5 mV}}
"""


def written(folder, text):
    path = folder / "p.yaml"
    path.write_text(text)
    return path


def resolved(folder, text):
    return load(written(folder, text)).resolve(CELL)


def test_the_good_one_is_read_whole(tmp_path):
    steps = list(resolved(tmp_path, GOOD).steps())
    assert [step.kind for step in steps] == [
        "charge", "discharge", "charge", "discharge", "rest", "pulse", "rest",
    ]  # fmt: skip
    assert steps[0].current_A == pytest.approx(5 / 3)
    assert steps[0].hold_until_A == pytest.approx(0.25)
    assert steps[1].voltage_V == 2.5
    assert (steps[1].measure, steps[1].path) == ("capacity", "steps[0].steps[1]")
    assert (steps[3].current_A, steps[3].to_soc_percent) == (-1.5, 50.0)
    assert (steps[5].current_A, steps[5].duration_s, steps[5].is_fixed) == (-5.0, 10, True)
    assert steps[5].sample_every_s == 1.0


# each mistake: what stands there, what is written instead, line, key, what is said, remedy
MISTAKES = [
    ("schema: batterylab.protocol/1", "schema: batterylab.protocol/2", 1, "schema",
     "newer than this batterylab", "batterylab.protocol/1"),
    ("schema: batterylab.protocol/1\n", "", 1, "schema", "there is no schema", "batterylab.prot"),
    ("name: good", "name: Good One", 2, "name", "'Good One' is no name", "a-z"),
    ("soak: 1 h}", "soak: 1}", 3, "chamber.soak", "1 has no unit", "1 s"),
    ("soak: 1 h}", "soka: 1 h}", 3, "chamber.soka", "unknown key 'soka'", "'soak'"),
    ("temperature: 25 degC", "temperature: 25 K", 3, "chamber.temperature",
     "not a temperature", "degC"),
    ("temperature: 25 degC", "temperature: 60 degC", 3, "chamber.temperature",
     "60 °C is outside the cell's limits", "0 to 45 degC"),
    ("above: 50 degC", "above: 4 V", 5, "stop.0", "'4 V' is no temperature", "50 degC"),
    ("above: 50 degC", "abov: 50 degC", 5, "stop.0.abov", "unknown key 'abov'", "'above'"),
    ("above: 50 degC", "above: -20 degC", 5, "stop.0", "nothing is left between", "limits"),
    (", above: 50 degC", "", 5, "stop.0", "give above or below", "above: 50 degC"),
    ("last: 3, within", "last: 1, within", 7, "steps.0.until.last", "greater than or equal to 2",
     ""),
    ("3 % of rated", "3 mV of rated", 7, "steps.0.until", "3 mV of rated", "3 % of rated"),
    ("3 % of rated", "3 %", 7, "steps.0.until", "within: '3 %'", "3 % of rated"),
    ("at_most: 5}", "at_most: 2}", 7, "steps.0.until", "fewer than last 3", "at_most: 5"),
    ("measure: capacity, last", "measure: capcity, last", 7, "steps.0.until.measure",
     "no step of this part measures 'capcity'", "beside a discharge"),
    ("rate: C/3, until: v_max", "rate: 3C, until: v_max", 9, "steps.0.steps.0.charge.rate",
     "15 A is more than the cell allows", "at most 5 A"),
    ("rate: C/3, until: v_max", "rate: C/0, until: v_max", 9, "steps.0.steps.0.charge.rate",
     "divides by a positive number", "C/3"),
    ("rate: C/3, until: v_max", "rate: 3, until: v_max", 9, "steps.0.steps.0.charge.rate",
     "3 has no unit", "C/3"),
    ("rate: C/3, until: v_max", "rate: C/3, current: 1 A, until: v_max", 9,
     "steps.0.steps.0.charge", "both rate and current", "keep one"),
    ("until: v_max, hold", "until: 4.3 V, hold", 9, "steps.0.steps.0.charge.until",
     "4.3 V is outside the cell's limits", "2.5 V to 4.2 V"),
    ("until: v_max, hold", "until: vmax, hold", 9, "steps.0.steps.0.charge.until",
     "vmax", "4.2 V"),
    ("hold_until: C/20", "hold_until: C/2", 9, "steps.0.steps.0.charge.hold_until",
     "2.5 A is not below the step's", "C/20"),
    ("until: v_max, hold_until", "hold_until", 9, "steps.0.steps.0.charge", "what ends", "v_max"),
    (", at_most: 4 h}", "}", 10, "steps.0.steps.1.discharge", "needs `for` or `at_most`", "5 h"),
    ("at_most: 4 h}", "at_most: 4 h, for: 1 h}", 10, "steps.0.steps.1.discharge",
     "needs `for` or `at_most`", "5 h"),
    ("at_most: 4 h}", "at_most: 101 d}", 10, "steps.0.steps.1.discharge", "100 d", "5 h"),
    ("        measure: capacity", "        meassure: capacity", 11, "steps.0.steps.1.meassure",
     "unknown key 'meassure'", "'measure'"),
    ("        measure: capacity", "        measure: Capacity!", 11, "steps.0.steps.1.measure",
     "'Capacity!' is no name", "dcir_10s"),
    ("to_soc: 50 %", "to_soc: 120 %", 13, "steps.2.discharge", "between 0 % and 100 %", "50 %"),
    ("to_soc: 50 %", "to_soc: 50", 13, "steps.2.discharge.to_soc", "50 has no unit", "1 %"),
    ("rest: {for: 1 h}", "rest: {for: 1 V}", 14, "steps.3.rest.for", "not a duration", "1 s"),
    ("rest: {for: 1 h}", "rest: {for: 0 s}", 14, "steps.3.rest.for", "greater than or equal to 1",
     ""),
    ("rest: {for: 1 h}", "rest: {at_most: 1 h}", 14, "steps.3.rest.at_most", "unknown key", ""),
    ("rest: {for: 1 h}", "rest: {for: 1 h}\n    measure: x", 14, "steps.3",
     "only a charge or a discharge is measured", "remove measure"),
    ("rest: {for: 1 h}", "rest: {for: 1 h}\n    charge: {rate: C/3, for: 1 s}", 14, "steps.3",
     "this is charge and rest", "charge, discharge, rest"),
    ("times: 3", "times: 0", 15, "steps.4.repeat.times", "greater than or equal to 1", ""),
    ("times: 3", "time: 3", 15, "steps.4.repeat.time", "unknown key 'time'", "'times'"),
    ("voltage_moves: 5 mV", "voltage_moves: 0 mV", 20, "record.or_when.voltage_moves",
     "greater than 0", ""),
    ("every: 30 s", "every: 30 min of it", 20, "record.every", "not a number with a unit",
     "30 min"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "what", "remedy"), MISTAKES,
    ids=[f"{m[2]}-{m[3]}-{i}" for i, m in enumerate(MISTAKES)],
)  # fmt: skip
def test_a_mistake_has_line_key_and_remedy(tmp_path, old, new, line, key, what, remedy):
    assert old in GOOD
    with pytest.raises(ProblemsError) as caught:
        resolved(tmp_path, GOOD.replace(old, new, 1))
    told = [(p.where, p.what, p.remedy) for p in caught.value.problems]
    where = f"p.yaml:{line} ({key})"
    assert any(w == where and what in said and remedy in hint for w, said, hint in told), told


def test_all_mistakes_come_at_once(tmp_path):
    text = GOOD.replace("to_soc: 50 %", "to_soc: 50").replace("times: 3", "times: 0")
    with pytest.raises(ProblemsError) as caught:
        resolved(tmp_path, text)
    assert [p.where.split()[0] for p in caught.value.problems] == ["p.yaml:13", "p.yaml:15"]


def test_all_steps_that_the_cell_does_not_allow_come_at_once(tmp_path):
    text = GOOD.replace("rate: 1C", "rate: 3C").replace("until: v_min", "until: 2 V")
    with pytest.raises(ProblemsError) as caught:
        resolved(tmp_path, text)
    assert [p.where.split()[0] for p in caught.value.problems] == ["p.yaml:10", "p.yaml:17"]


def test_a_state_of_charge_needs_a_full_charge_before_it(tmp_path):
    text = """\
schema: batterylab.protocol/1
name: p
steps:
  - charge: {rate: C/3, until: 4.1 V, hold_until: C/20, at_most: 5 h}
  - discharge: {rate: C/3, to_soc: 50 %, at_most: 2 h}
"""
    with pytest.raises(ProblemsError) as caught:
        resolved(tmp_path, text)
    (problem,) = caught.value.problems
    assert problem.where == "p.yaml:5 (steps.1.discharge.to_soc)"
    assert "without a full charge before it" in problem.what
    assert "until: v_max" in problem.remedy
    resolved(tmp_path, text.replace("4.1 V", "v_max"))


@pytest.mark.parametrize("text", ["", "[]", "name: x", "- 1", "\x00", "a: [", "steps: &a [*a]"])
def test_what_is_no_protocol_is_told_so(tmp_path, text):
    with pytest.raises(ProblemsError):
        resolved(tmp_path, text)


def test_a_name_that_nobody_knows_gets_the_nearest(tmp_path):
    with pytest.raises(BatterylabError, match="did you mean 'capacity_resistance'"):
        load("capacity_resistence")
    with pytest.raises(BatterylabError, match="there is no such file"):
        load(tmp_path / "none.yaml")


def test_folders_are_searched_in_order(tmp_path, monkeypatch):
    own, study = tmp_path / "own", tmp_path / "study"
    for folder, description in ((own, "lab"), (study, "study")):
        folder.mkdir()
        text = GOOD.replace("name: good", f"name: gauge_capacity\ndescription: {description}")
        (folder / "gauge_capacity.yaml").write_text(text)
    assert "bench itself" in load("gauge_capacity").file.description
    monkeypatch.setenv("BATTERYLAB_PROTOCOLS", str(own))
    assert load("gauge_capacity").file.description == "lab"
    assert load("gauge_capacity", [study]).file.description == "study"
    assert set(names()) >= {"gauge_capacity", "capacity_resistance", "incoming_inspection"}


@pytest.mark.parametrize("name", ["capacity_resistance", "incoming_inspection", "gauge_capacity"])
def test_the_shipped_ones_resolve_and_end(name):
    protocol = load(name)
    plain = protocol.resolve(CELL)
    assert protocol.name == plain.name == name
    assert plain.basis
    assert 0 < plain.expected_s() <= plain.longest_s()
    assert plain.temperature_limits_degC == (-10.0, 50.0)


def test_lengths_of_the_shipped_ones():
    def hours(name):
        return load(name).resolve(CELL).expected_s() / 3600

    assert hours("incoming_inspection") == pytest.approx(1.5, abs=0.1)
    assert 35 < hours("capacity_resistance") < 50


@pytest.mark.parametrize(
    ("rate", "amps"), [("1I3", 1.65), ("I3", 1.65), ("0.5I1", 2.475), ("1.5 I 3", 2.475)]
)
def test_rates_of_the_standards_refer_to_the_rated_capacity(tmp_path, rate, amps):
    text = GOOD.replace("rate: C/3, until: v_min", f"rate: {rate}, until: v_min")
    plain = resolved(tmp_path, text)
    assert list(plain.steps())[1].current_A == pytest.approx(-amps)


def test_the_document_names_every_key():
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    words = set(re.findall(r"\w+", text))
    parts = [getattr(language, name) for name in language.__all__ if name != "SCHEMA"]
    keys = {info.alias or name for part in parts for name, info in part.model_fields.items()}
    assert {key for key in keys if key not in words and f"`{key}`" not in text} == set()
    plain = load("capacity_resistance").resolve(CELL).to_dict()
    assert set(plain) <= words
    assert {key for node in plain["nodes"] for key in node} <= words
    example = re.search(r"```yaml\n(schema: .*?)```", text, re.DOTALL)[1]
    assert "until: {measure: capacity" in example


DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.split("\n")[0][:30] for e in EXAMPLES])
def test_every_example_of_the_document_is_taken(tmp_path, example):
    if not example.startswith("schema:"):
        first = "- charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}\n"
        example = "schema: batterylab.protocol/1\nname: p\nsteps:\n" + "".join(
            f"  {line}\n" for line in (first + example).splitlines()
        )
    cell = CELL.model_copy(update={"current": type(CELL.current)(
        max_charge="10 A", max_discharge="15 A")})  # fmt: skip
    plain = load(written(tmp_path, example)).resolve(cell)
    assert len(list(plain.steps())) >= 2
    assert 0 < plain.expected_s() <= plain.longest_s()


# -- whatever is written ---------------------------------------------------------------------
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(),
    st.sampled_from([
        "C/3", "1C", "5 A", "v_min", "v_max", "4.1 V", "50 %", "10 s", "5 h", "25 degC",
        "3 % of rated", "capacity", "1e400 s", "C/1e-300", "-1 s", "", "nan s", "1 e s",
    ]),
    st.text(string.printable, max_size=8),
)  # fmt: skip
KEYS = st.sampled_from([
    "schema", "name", "steps", "charge", "discharge", "rest", "repeat", "until", "rate",
    "current", "hold_until", "to_soc", "for", "at_most", "sample_every", "measure", "times",
    "last", "within", "chamber", "temperature", "soak", "stop", "when", "above", "below",
    "record", "every", "or_when", "voltage_moves", "x",
])  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=25,
)


def resolved_or_told(path):
    try:
        plain = load(path).resolve(CELL)
    except BatterylabError as error:
        assert str(error)
        if isinstance(error, ProblemsError):
            assert all(problem.where.startswith(f"{path.name}:") for problem in error.problems)
        return
    assert plain.longest_s() > 0
    plain.to_dict()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_told_off_politely(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    resolved_or_told(path)


@settings(max_examples=200, deadline=None)
@given(TREES, st.lists(st.dictionaries(KEYS, TREES, max_size=3), min_size=1, max_size=3))
def test_any_tree_is_resolved_or_told_off(tmp_path_factory, more, steps):
    import json

    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    tree = {"schema": "batterylab.protocol/1", "name": "p", "steps": steps}
    if isinstance(more, dict):
        tree = {**more, **tree}
    path.write_text(json.dumps(tree))
    resolved_or_told(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_good_one_with_anything_changed_is_resolved_or_told_off(tmp_path_factory, data):
    lines = GOOD.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    column = data.draw(st.integers(0, len(lines[at])))
    what = data.draw(st.sampled_from(["", " ", ":", "{", "}", "\t", "&a ", "*a", "9", "%", "!!x "]))
    length = data.draw(st.integers(0, 6))
    lines[at] = lines[at][:column] + what + lines[at][column + length :]
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_text("\n".join(lines))
    resolved_or_told(path)
