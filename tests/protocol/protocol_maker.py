"""Random protocols that the language takes, and a cell to hold them against."""

from hypothesis import strategies as st

from batterylab.cells import CellType
from batterylab.protocol import read
from batterylab.yamlfile import YamlDocument

CELL = CellType.model_validate({
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "4.95 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "10 A", "max_discharge": "15 A"},
    "temperature": {"min": "0 degC", "max": "60 degC"},
})  # fmt: skip

FULL = {"charge": {"rate": "C/3", "until": "v_max", "hold_until": "C/20", "at_most": "6 h"}}
EMPTY = {"discharge": {"rate": "C/3", "until": "v_min", "at_most": "5 h"}, "measure": "capacity"}

rates = st.sampled_from(["C/10", "C/3", "1I3", "1C", "2.5 A", "C/2 of capacity"])
times = st.sampled_from(["1 s", "10 s", "1 min", "30 min", "2 h"])
thens = st.sampled_from(["next", "next", "next", "finish", "fail", "done"])
amounts = st.sampled_from([
    ("voltage", "above 4.1 V"), ("voltage", "below 2.7 V"), ("current", "below C/10"),
    ("current", "below C/10 of capacity"), ("power", "above 30 W"), ("capacity", "above 1 Ah"),
    ("capacity", "above 50 % of capacity"), ("energy", "above 5 Wh"),
    ("energy", "above 20 % of capacity"), ("temperature", "above 40 degC"),
    ("dV/dt", "below 1 mV/min"), ("dT/dt", "above 1 K/min"), ("soc", "below 30 %"),
])  # fmt: skip


def _without_nothing(entry):
    return {key: value for key, value in entry.items() if value not in (None, [])}


ends = st.builds(
    lambda amount, hold, then: _without_nothing({amount[0]: amount[1], "hold": hold, "then": then}),
    amounts, st.sampled_from([None, "3 s"]), thens,
)  # fmt: skip
rest_ends = ends.filter(lambda end: {"voltage", "temperature", "dV/dt", "dT/dt"} & set(end))
stops = st.sampled_from([
    {"when": "temperature", "above": "50 degC", "hold": "3 s"},
    {"when": "capacity", "above": "120 % of rated", "then": "finish"},
    {"when": "voltage", "below": "2.46 V"}, {"when": "dT/dt", "above": "3 K/min"},
])  # fmt: skip
more = st.fixed_dictionaries({}, optional={
    "ends": st.lists(ends, max_size=2), "stop": st.lists(stops, max_size=1),
    "sample_every": st.sampled_from(["1 s", "10 s"]),
})  # fmt: skip
bounds = st.one_of(
    st.builds(lambda t: {"for": t}, times),
    st.builds(lambda t: {"at_most": t, "until": "v_max"}, times),
)


def _drive(word, level, bound, extra):
    bound = dict(bound)
    if "until" in bound:
        bound["until"] = "v_max" if word == "charge" else "v_min"
    return {word: {**level, **bound, **extra}}


levels = st.one_of(
    st.builds(lambda r: {"rate": r}, rates), st.just({"power": "12 W"}),
)  # fmt: skip
steps = st.one_of(
    st.builds(_drive, st.sampled_from(["charge", "discharge"]), levels, bounds, more),
    st.builds(lambda r, s, t: {"discharge": {"rate": r, "to_soc": s, "at_most": t}}, rates,
              st.sampled_from(["80 %", "20 %"]), times),
    st.builds(lambda t, e: {"rest": {"for": t, "ends": e}}, times,
              st.lists(rest_ends, max_size=1)),
    st.builds(lambda t, x: {"hold": {"voltage": "3.9 V", "limit": "C/2", "for": t, **x}}, times,
              more),
    st.builds(lambda n, r: {"pulse": {"discharge": r, "for": "10 s", "rest": "40 s", "times": n}},
              st.integers(1, 3), rates),
    st.just({"profile": {"points": [["10 s", "1C"], ["5 s", "0 A"], ["9 s", "-2 A"]],
                         "times": 3}}),
    st.just({"soak": {"temperature": "35 degC", "for": "1 h"}}),
    st.just({"measure": {"what": "ocv", "as": "ocv_now"}}),
    st.builds(lambda n: {"mark": f"here_{n}"}, st.integers(0, 10**6)),
    st.just(EMPTY),
)  # fmt: skip


def _blocks(inner):
    body = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda n, b: {"repeat": {"times": n}, "steps": b}, st.integers(1, 4), body),
        st.builds(lambda b: {"repeat": {"each_rate": ["C/5", "C/2"]}, "steps": [
            {"pulse": {"discharge": "each_rate", "for": "10 s"}}, *b]}, body),
        st.builds(lambda b: {"until": {"measure": "capacity", "last": 2, "within": "5 % of mean",
                                       "at_most": 3}, "steps": [FULL, EMPTY, *b]}, body),
        st.builds(lambda b: {"until": {"measure": "capacity", "below": "80 % of first",
                                       "at_most": 3}, "steps": [FULL, EMPTY, *b]}, body),
        st.builds(lambda b, o: _without_nothing({
            "if": {"measure": "capacity", "below": "95 % of rated"}, "steps": b, "else": o}),
            body, st.lists(inner, max_size=2)),
    )  # fmt: skip


entries = st.recursive(steps, _blocks, max_leaves=8)
protocols = st.builds(
    lambda body: {
        "schema": "batterylab.protocol/1", "name": "random",
        "steps": [FULL, EMPTY, FULL, *body, {"mark": "done"}, {"rest": {"for": "1 min"}}],
    },
    st.lists(entries, min_size=1, max_size=5),
)  # fmt: skip


def resolved_of(content, folder):
    """Return a protocol's content in numbers for `CELL`."""
    return read(YamlDocument(folder / "random.yaml", content)).resolve(CELL)
