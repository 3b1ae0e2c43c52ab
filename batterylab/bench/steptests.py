"""What the software stepper knows of a step: its tests, and the current that it asks for."""

from batterylab.drivers.roles import OnboardStep, OnboardTest
from batterylab.errors import BatterylabError

#: times are told to the millisecond
TICK_s = 1e-3


def wanted_A(step: OnboardStep, volts: float) -> float:
    """Return the current in A that gives a step's power or resistance at a voltage."""
    if not volts > 0:
        return step.current_A
    amps = step.level / volts if step.control == "power" else volts / step.level
    return min(amps, step.current_A)


def measured(
    test: OnboardTest, volts: float, amps: float, step_Ah: float, step_Wh: float
) -> float:
    """Return what a test looks at; current, power, charge and energy as magnitudes.

    Raises
    ------
    BatterylabError
        If it looks at something else.
    """
    quantity = test.kind.rpartition("_")[0]
    values = {"VOLT": volts, "CURR": abs(amps), "POWER": abs(amps * volts), "AMPH": abs(step_Ah),
              "WATTH": abs(step_Wh)}  # fmt: skip
    if quantity not in values:
        raise BatterylabError(f"a supply stepped by the host knows no test {test.kind}")
    return values[quantity]


def fires(test: OnboardTest, value: float) -> bool:
    """Say whether a value meets a test."""
    return value >= test.value if test.kind.endswith("_GE") else value <= test.value


def is_due(test: OnboardTest, before_s: float, elapsed_s: float) -> bool:
    """Say whether a test counts at this sample; ``AT`` counts once, at the first one after."""
    if test.when == "AT":
        return before_s < test.time_s <= elapsed_s + TICK_s
    if test.when == "AFTER":
        return elapsed_s >= test.time_s
    return elapsed_s <= test.time_s
