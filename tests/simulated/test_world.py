"""Time, hands and faults of the world behind the instruments, with a frame and a supply in it."""

import numpy as np
import pytest

from batterylab.simulated.bt2200 import Bt2200
from batterylab.simulated.cell import CellTruth
from batterylab.simulated.ea import Psb10000
from batterylab.simulated.process import _server_of
from batterylab.simulated.world import IDEAL, Place, World

START_s = 1_767_592_800.0


@pytest.fixture
def world():
    truths = {"A-1": CellTruth(), "A-2": CellTruth()}
    places = [Place("1-1", 0, 101, 1), Place("supply", -1, 102, 1)]
    made = World(1, START_s, truths, places, IDEAL)
    made.add_supply("supply", "ea")
    return made


def driven(world):
    """Return the supply on the world's channel, its cell charged at 2 A."""
    world.insert("A-2", "supply")
    supply = _server_of("ea_psb10000", "", world, "ea").answer.__self__
    assert isinstance(supply, Psb10000)
    assert supply.stage is world.supplies["ea"]
    for line in ("SYST:LOCK ON", "VOLT 4.2", "CURR 2", "OUTP ON"):
        assert supply.answer(line) == []
    assert supply.answer("SYST:ERR?") == ['0,"No error"']
    return supply


def test_tenths_of_a_second_move_supplies_and_whole_ones_the_frame(world):
    frame = Bt2200(world)
    world.listeners.append(frame.keep)
    world.insert("A-1", "1-1")
    supply = driven(world)
    held = world.state_of("A-2")[0]
    for tenth in range(1, 26):
        world.advance(START_s + 0.1 * tenth)
        assert world.now_s == pytest.approx(START_s + 0.1 * tenth, abs=1e-6)
        assert supply.stage.moment_s == pytest.approx(world.now_s, abs=1e-6)
        assert len(frame.log) == tenth // 10
    moved_Ah = (world.state_of("A-2")[0] - held) * world.cells["A-2"].capacity_Ah["negative"]
    assert moved_Ah == pytest.approx(2.0 * 2.5 / 3600, rel=1e-9)
    world.advance(START_s + 3600.3)
    assert len(frame.log) == 600  # it holds no more
    assert frame.log["time_ms"][-1] == 3600_000
    assert supply.stage.moment_s == pytest.approx(START_s + 3600.3, abs=1e-6)


def test_short_steps_and_long_ones_lead_to_the_same_cell(world):
    supply = driven(world)
    for tenth in range(1, 601):
        world.advance(START_s + 0.1 * tenth)
    fine = supply.stage.cell_V
    other = World(1, START_s, {"A-2": CellTruth()}, [Place("supply", -1, 102, 1)], IDEAL)
    other.add_supply("supply", "ea")
    coarse = driven(other)
    other.advance(START_s + 60.0)
    assert fine == pytest.approx(coarse.stage.cell_V, abs=2e-4)
    assert fine > 3.6


def test_hands_at_a_supply(world):
    supply = driven(world)
    assert world.seat_of == {"A-2": "supply"}
    with pytest.raises(ValueError, match="is running"):
        world.remove("supply")
    world.advance(START_s + 600)
    assert world.thermocouple_degC(102) == pytest.approx(supply.stage.temperature_degC)
    supply.answer("OUTP OFF")
    reached = world.state_of("A-2")[0]
    world.remove("supply")
    assert supply.stage.voltage_V == 0
    assert world.state_of("A-2")[0] == reached
    world.insert("A-2", "1-1")
    assert world.bank.state[0, 0] == reached
    with pytest.raises(ValueError, match="sits in channel"):
        world.insert("A-2", "supply")


def test_a_relay_that_sticks_says_off_and_current_flows_on(world):
    supply = driven(world)
    world.advance(START_s + 2)
    supply.stick_relay()
    supply.answer("OUTP OFF")
    world.advance(START_s + 4)
    assert supply.answer("OUTP?") == ["OFF"]
    assert supply.answer("MEAS:CURR?") == ["2.000 A"]


def test_swapped_leads_read_negative_and_trip_the_undervoltage(world):
    supply = driven(world)
    for line in ("SYST:CONF:UVD 2.4", "SYST:CONF:UVD:ACT ALARM"):
        supply.answer(line)
    supply.swap_leads()
    (reply,) = supply.answer("MEAS:VOLT?")
    assert reply.startswith("-3.")
    world.advance(START_s + 1)
    assert supply.answer("OUTP?") == ["OFF"]
    assert supply.stage.current_A == 0


def test_what_a_relay_of_the_frame_does_when_it_sticks(world):
    frame = Bt2200(world)
    world.insert("A-1", "1-1")
    for line in ("CELL:DEFINE 1001,(@101)", "SEQ:STEP:DEF 1,1,CHARGE,600,1,4.1",
                 "CELL:ENABLE (@1001),1", "CELL:INIT (@1001)"):  # fmt: skip
        frame.answer(line)
    assert frame.answer("SYST:ERR?") == ['+0,"No error"']
    world.advance(START_s + 2)
    frame.stick_relay(101)
    frame.answer("CELL:ABORT (@1001)")
    world.advance(START_s + 4)
    assert frame.answer("STAT:CELL:REP? (@1001)") == ["3"]
    (amps,) = frame.answer("MEAS:CELL:CURR? (@1001)")
    assert float(amps) == pytest.approx(1.0, abs=1e-3)
    frame.swap_leads(101)
    world.advance(START_s + 5)
    (volts,) = frame.answer("MEAS:CELL:VOLT? (@1001)")
    assert float(volts) < -3
    assert not np.isnan(world.bank.state).any()
