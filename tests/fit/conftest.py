"""What the tests of the fits share."""

import made_recordings as made
import pytest

from batterylab.fit.halfcells import from_parameter_set


@pytest.fixture(scope="session")
def half_cells():
    return from_parameter_set("Chen2020")


@pytest.fixture(scope="session")
def whole_recording():
    return made.capacity_resistance(meters=made.Meters(voltage_noise_V=5e-5))
