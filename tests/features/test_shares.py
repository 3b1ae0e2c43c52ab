"""Shares of the capacity: cold, hot, fast, after a wait, after cycles."""

import math

import made_recordings as made
import numpy as np
import pytest

from batterylab.cells import CellType
from batterylab.features import features_of
from batterylab.protocol import load
from batterylab.protocol.simulate import simulate
from batterylab.recording import Recording, StepRow

ACCURACY = {q: {"reading": 0.0, "offset": 0.0} for q in ("current_A", "voltage_V")}
CELL = {
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "5 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "-20 degC", "max": "60 degC"},
}  # fmt: skip


def discharges(*wanted, offset_A=0.0, gain=1.0, accuracy=ACCURACY):
    """A recording of (measure, current in A, hours, how it ended), each after an hour's rest."""
    rows, steps, now_s = [(0.0, 0.0, 4.1)], [], 0.0
    for measure, current_A, hours, *ended in wanted:
        first = len(rows)
        times = np.linspace(0.0, hours * 3600.0, 201)[1:]
        volts = np.linspace(4.1, 2.6, 200)
        rows += [(now_s + t, -current_A * gain + offset_A, v)
                 for t, v in zip(times, volts, strict=True)]  # fmt: skip
        steps.append(StepRow(len(steps), first, len(rows) - 1, "discharge", measure=measure,
                             ended_by=ended[0] if ended else "voltage", start_s=now_s,
                             duration_s=hours * 3600.0))  # fmt: skip
        now_s += hours * 3600.0
    time_s, amps, volts = np.array(rows).T
    index = np.zeros(len(rows), "<i4")
    for step in steps:
        index[step.first_row : step.last_row + 1] = step.step_index
    columns = {"test_time_s": time_s, "current_A": amps, "voltage_V": volts, "step_index": index,
               "cycle_index": np.zeros(len(rows), "<i4")}  # fmt: skip
    return Recording("X-1", "Alpha", "A1", columns=columns, steps=steps, protocol="by hand",
                     cell_type=dict(made.CELL_TYPE),
                     provenance={"source": "bench", "accuracy": accuracy}).checked()  # fmt: skip


def shares(recording):
    return {
        f.name.removesuffix("_share_percent"): f
        for f in features_of(recording)
        if f.name.endswith("_share_percent")
    }


def test_a_discharge_by_another_name_is_a_share_of_the_capacity():
    found = shares(discharges(("capacity", 1.0, 5.0), ("capacity_cold", 1.0, 3.6)))
    assert set(found) == {"capacity_cold"}
    assert found["capacity_cold"].value == pytest.approx(72.0)
    assert found["capacity_cold"].steps == (0, 1)
    assert found["capacity_cold"].unit == "percent"


def test_what_was_cut_short_or_has_no_capacity_beside_it_is_no_share():
    assert not shares(discharges(("capacity", 1.0, 5.0), ("retained", 1.0, 4.9, "at_most")))
    assert not shares(discharges(("capacity", 1.0, 5.0), ("retained", 1.0, 4.9),
                                 ("retained", 1.0, 1.0, "stopped")))  # fmt: skip
    assert not shares(discharges(("retained", 1.0, 4.9)))
    assert not shares(discharges(("capacity", 1.0, 5.0), ("dcir", 1.0, 0.1)))


def test_the_500th_and_1000th_cycle_are_counted_with_all_others():
    def life(cycles):
        steps = [("cycle", 1.0, 5.0 - 0.001 * n) for n in range(1, cycles + 1)]
        return shares(discharges(("capacity_before", 1.0, 5.0), *steps))

    assert not life(499)
    assert life(500)["cycle_500"].value == pytest.approx(90.0)
    assert life(1000)["cycle_1000"].value == pytest.approx(80.0)


def test_a_gain_cancels_and_an_offset_moves_the_share_as_its_uncertainty_says():
    wanted = (("capacity", 1.0, 5.0), ("capacity_fast", 5.0, 0.9))
    plain = shares(discharges(*wanted))["capacity_fast"]
    assert shares(discharges(*wanted, gain=1.01))["capacity_fast"].value == pytest.approx(90.0)
    assert plain.uncertainty == 0.0
    stated = {**ACCURACY, "current_A": {"reading": 0.01, "offset": 2e-3}}
    said = shares(discharges(*wanted, accuracy=stated))["capacity_fast"].uncertainty
    moved = shares(discharges(*wanted, offset_A=2e-3))["capacity_fast"].value
    assert said == pytest.approx(abs(moved - plain.value), rel=0.01)
    assert math.isnan(shares(discharges(*wanted, accuracy={}))["capacity_fast"].uncertainty)


@pytest.mark.parametrize(
    ("protocol", "names"),
    [("gbt_31486_high_temperature", {"capacity_hot"}),
     ("gbt_31486_charge_retention", {"retained", "recovered"})],
)  # fmt: skip
def test_the_standards_protocols_yield_their_shares(protocol, names):
    cell = CellType.model_validate(CELL)
    found = shares(simulate(load(protocol).resolve(cell)))
    assert set(found) == names
    for one in found.values():
        assert 90.0 < one.value < 110.0
        assert "degC" in one.method
    if protocol == "gbt_31486_high_temperature":
        assert found["capacity_hot"].value > 100.0  # warm, a cell gives more
        assert "at 4" in found["capacity_hot"].method
