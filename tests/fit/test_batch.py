"""Many recordings in one call of the kernels: the same fits as one by one."""

import numpy as np
import pytest

from batterylab.errors import BatterylabError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.batch import fit_many
from batterylab.fit.circuit import CircuitSettings
from batterylab.fit.circuitsolve import circuit_steps, circuit_voltage, inputs_of
from batterylab.fit.ocv import OcvSettings
from batterylab.fit.ocvsolve import ocv_steps, ocv_voltage, solve_ocv
from batterylab.fit.result import Fit
from batterylab.fit.solve import together


@pytest.mark.parametrize("settings", [CircuitSettings(), CircuitSettings(loss="huber"),
                                      OcvSettings(), OcvSettings(profile=True)])  # fmt: skip
def test_many_are_fitted_as_one_by_one(whole_recording, half_cells, settings):
    model = "ocv" if isinstance(settings, OcvSettings) else "circuit"
    more = {"loss": settings.loss, "profile": settings.profile}
    alone = fit(whole_recording, model, half_cells=half_cells, **more)
    empty = whole_recording
    empty = type(empty)(**{**vars(empty), "steps": empty.steps[:1]})
    many = fit_many([whole_recording, empty, whole_recording], settings, half_cells=half_cells,
                    threads=2)  # fmt: skip
    assert isinstance(many[1], NotSuitedError)
    for one in (many[0], many[2]):
        assert isinstance(one, Fit)
        assert one.values == alone.values and one.profile == alone.profile


def test_no_cell_waits_for_another_s_bounds():
    """Fits that end at once, by bounds and by an error, side by side in three threads."""
    time_s = np.arange(331.0)
    amps = np.where((time_s > 0) & (time_s <= 30), -5.0, 0.0)
    inputs = inputs_of(time_s, amps, np.cumsum(amps) / 150.0)
    truth = np.array([3.7, 0.004, 0.025, 0.008, np.log(3.0), 0.012, np.log(40.0)])
    clean = circuit_voltage(inputs, truth)[0]
    negative = 2 * clean[0] - clean  # a resistance below 0: the bounded optimiser is needed
    still = inputs_of(time_s, np.zeros(331), np.zeros(331))
    found = together([circuit_steps(inputs, clean), circuit_steps(inputs, negative),
                      circuit_steps(still, clean), circuit_steps(inputs, clean)], 3)  # fmt: skip
    assert found[0].steps < 15 and found[1].at_bound.any()
    assert isinstance(found[2], BatterylabError) and "no current" in str(found[2])
    np.testing.assert_array_equal(found[0].parameters, found[3].parameters)


def test_a_charge_and_a_discharge_in_one_ocv_fit(half_cells):
    """Two counters with no common zero share capacities; the second one's shift is found."""
    truth, random = np.array([0.03, 0.9, 0.85, 0.27, 0.06]), np.random.default_rng(8)
    up, down = np.linspace(0.0, 1.0, 300), np.linspace(0.8, 0.05, 200)
    share = np.concatenate([up, down])
    amps = np.concatenate([np.full(300, 0.4), np.full(200, -0.25)])
    volts = ocv_voltage(share, amps, half_cells, truth)[0] + random.normal(0, 5e-4, 500)
    part = np.repeat([0, 1], [300, 200])
    counted = share - 0.2 * part
    found = solve_ocv(counted, amps, volts, half_cells, parts=part)
    assert found.converged and found.parameters[5] == pytest.approx(0.2, abs=2e-4)
    np.testing.assert_allclose(found.parameters[:4], truth[:4], atol=5e-3)
    assert found.parameters[4] == pytest.approx(0.06, abs=2e-3)
    alone = solve_ocv(up, amps[:300], volts[:300], half_cells)
    assert abs(alone.parameters[4] - 0.06) > abs(found.parameters[4] - 0.06)


def test_derivatives_of_the_shift_agree_with_differences(half_cells):
    share, amps = np.linspace(0.1, 0.7, 50), np.full(50, 0.3)
    part = np.repeat([0, 1, 2], [20, 20, 10])
    p = np.array([0.03, 0.9, 0.85, 0.27, 0.06, 0.05, -0.04])
    _, jacobian = ocv_voltage(share, amps, half_cells, p, part)
    for place in range(7):
        up, down = p.copy(), p.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        difference = (ocv_voltage(share, amps, half_cells, up, part)[0]
                      - ocv_voltage(share, amps, half_cells, down, part)[0]) / 2e-6  # fmt: skip
        np.testing.assert_allclose(difference, jacobian[:, place], atol=2e-4)


def test_slow_recordings_are_fitted_together(whole_recording, half_cells):
    made = fit([whole_recording, whole_recording], "ocv", joint=True, half_cells=half_cells)
    alone = fit(whole_recording, "ocv", half_cells=half_cells)
    assert made.values["charge_shift_1_Ah"] == pytest.approx(0.0, abs=0.005)
    assert made.values["lithium_inventory_Ah"] == pytest.approx(
        alone.values["lithium_inventory_Ah"], rel=1e-3)  # fmt: skip
    assert made.rows == 2 * alone.rows and len(made.settings["recordings"]) == 2
    with pytest.raises(BatterylabError, match="takes two recordings to 8"):
        fit([whole_recording], "ocv", joint=True)
    solved = list(together([ocv_steps([0.0, 1.0], [1.0, 1.0], [3.0, 4.0], half_cells)], 1))
    assert isinstance(solved[0], BatterylabError)
