"""The newer simulated instruments refuse what the real ones refuse, in their own words."""

import inspect
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.drivers import (
    ea_psb10000,
    espec_p300,
    hioki_bt4560,
    itech_m3900,
    keithley_24xx,
)
from batterylab.simulated import bt4560, ea, espec, faults, itech, keithley
from batterylab.simulated.ag34970a import Ag34970a
from batterylab.simulated.bt4560 import Bt4560
from batterylab.simulated.cell import CellTruth
from batterylab.simulated.ea import Psb10000
from batterylab.simulated.espec import P300
from batterylab.simulated.itech import ItM3905
from batterylab.simulated.keithley import Smu24xx
from batterylab.simulated.world import IDEAL, Place, World

START_s = 1_767_592_800.0
MAKERS = (Psb10000, ItM3905, Smu24xx, Bt4560, Ag34970a, P300)


def make(maker):
    """Return an instrument with a cell at its terminals, if it has any."""
    world = World(1, START_s, {"A-1": CellTruth()}, [Place("1-1", 0, 101, 1)], IDEAL)
    one = maker(world)
    if hasattr(one, "stage"):
        one.stage.insert("A-1")
    return one


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def any_one(request):
    return make(request.param)


def code(instrument):
    return int(instrument.answer("SYST:ERR?")[0].split(",")[0])


@given(st.text(st.characters(max_codepoint=255), max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_line_kills_an_instrument(text):
    for maker in MAKERS:
        assert all(isinstance(reply, str | bytes) for reply in INSTANCES[maker].answer(text))


INSTANCES = {maker: make(maker) for maker in MAKERS}
HEADERS = [(maker, header) for maker in MAKERS[:5] for header in INSTANCES[maker].commands]
ARGUMENTS = ["", "0", "1", "-1", "1e9", "nan", "ON", "4.2", "(@101)", '"CURR"', "BATTERY", "1e400"]


@given(st.sampled_from(HEADERS), st.lists(st.sampled_from(ARGUMENTS), max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_argument_kills_an_instrument(entry, arguments):
    maker, header = entry
    replies = INSTANCES[maker].answer(f"{header} {','.join(arguments)}")
    assert all(isinstance(reply, str | bytes) for reply in replies)


@pytest.mark.parametrize(
    ("driver", "simulated"),
    [(ea_psb10000, ea), (itech_m3900, itech), (keithley_24xx, keithley), (hioki_bt4560, bt4560),
     (espec_p300, espec)],
)  # fmt: skip
def test_driver_and_simulation_share_no_module(driver, simulated):
    ours, theirs = inspect.getsource(driver), inspect.getsource(simulated)
    assert not re.search(r"(from|import) batterylab\.simulated", ours)
    assert not re.search(r"(from|import) batterylab\.drivers", theirs)


# -- EA


def test_ea_takes_settings_only_in_remote_control():
    one = make(Psb10000)
    assert one.answer("VOLT 4") == [] and code(one) == -221
    assert one.answer("MEAS:VOLT?")[0].endswith(" V")
    one.answer("SYST:LOCK ON")
    assert one.answer("VOLT 4") == [] and code(one) == 0
    one.press_local()
    assert one.answer("VOLT 4") == [] and code(one) == -201
    assert one.answer("SYST:LOCK ON;SYST:LOCK:OWN?") == [] and code(one) == -201


def test_ea_chains_full_headers_and_at_most_five():
    one = make(Psb10000)
    one.answer("SYST:LOCK ON")
    assert one.answer("VOLT 4;CURR 1;VOLT?") == ["4.000 V"]
    assert one.answer("VOLT 4;:CURR 1") == [] and code(one) == -100
    assert one.answer(";".join(["*IDN?"] * 6)) == [] and code(one) == -223
    assert one.answer(";".join(["*IDN?"] * 4)) == [] and code(one) == -225


def test_ea_queue_is_short_and_worded_its_own_way():
    one = make(Psb10000)
    for _ in range(9):
        one.answer("NONSENSE")
    replies = [one.answer("SYST:ERR?")[0] for _ in range(6)]
    assert replies == ['-100,"Command error"'] * 5 + ['0,"No error"']


def test_ea_alarm_blocks_the_output_until_it_is_acknowledged():
    one = make(Psb10000)
    for text in ("SYST:LOCK ON", "VOLT 4.1", "CURR 2", "VOLT:PROT 3", "VOLT 2.9", "OUTP ON"):
        one.answer(text)
    assert int(one.answer("STAT:QUES:COND?")[0]) & 1 and one.answer("OUTP?") == ["OFF"]
    one.answer("VOLT:PROT 10")
    one.answer("OUTP ON")
    assert one.answer("OUTP?") == ["OFF"]
    assert code(one) == -221  # which acknowledges the alarm
    assert not int(one.answer("STAT:QUES:COND?")[0]) & 1
    one.answer("OUTP ON")
    assert one.answer("OUTP?") == ["ON"]


# -- ITECH and Keithley


def test_itech_ends_at_once_where_voltages_are_the_wrong_way_round():
    for way, held, end in (("CHAR", 4.1, 4.1), ("DISC", 3.0, 2.9)):
        one = make(ItM3905)
        amps = 1 if way == "CHAR" else -1
        for text in (f"BATT:MODE {way}", f"BATT:{way}:VOLT {held}", f"BATT:{way}:CURR {amps}",
                     f"BATT:SHUT:VOLT {end}", "BATT:SHUT:TIME 100", "BATT:SHUT:CAP 9",
                     "FUNC:MODE BATTERY"):  # fmt: skip
            one.answer(text)
        assert one.answer("OUTP?") == ["0"]
        assert one.answer("SYST:ERR?") == ['0,"No error"']


@pytest.mark.parametrize(
    ("command", "expected"),
    [("BATT:DISC:CURR 1", -222), ("BATT:MODE FAST", -224), ("VOLT 81", -222), ("BATT:CHAR", -113),
     ("FUNC:MODE LIST", -224), ("SYST:COMM:MON:TIM 5", -113)],
)  # fmt: skip
def test_itech_refuses(command, expected):
    one = make(ItM3905)
    assert one.answer(command) == [] and code(one) == expected


def test_keithley_reads_only_with_the_output_on_and_flags_over_range():
    one = make(Smu24xx)
    assert one.answer("READ?") == [] and code(one) == 803
    for text in ("SENS:CURR:RANG 1", "SOUR:VOLT:RANG 20", "SOUR:VOLT:ILIM 0.5", "SOUR:VOLT 4",
                 'SENS:FUNC "CURR"', "OUTP ON"):  # fmt: skip
        assert one.answer(text) == [] and not one.errors, text
    assert one.answer("SOUR:VOLT:ILIM:TRIP?") == ["1"]
    reading = [float(v) for v in one.answer('READ? "defbuffer1", READ, SOUR')[0].split(",")]
    assert reading[0] == pytest.approx(0.5) and 3 < reading[1] < 4
    one.answer("SENS:CURR:RANG 1e-3")
    assert float(one.answer("READ?")[0]) == 9.9e37


@pytest.mark.parametrize(
    ("command", "expected"),
    [("SOUR:VOLT 4", -222), ("SOUR:VOLT:ILIM 1", -221), ("SENS:FUNC CURR", -104),
     ('READ? "mine"', -224), ("OUTP:VOLT:SMOD OPEN", -224), ("SOUR:VOLT:PROT PROT3", -224)],
)  # fmt: skip
def test_keithley_refuses(command, expected):
    one = make(Smu24xx)
    assert one.answer(command) == [] and code(one) == expected


# -- meter and chamber


def test_bt4560_is_silent_when_it_rejects():
    one = make(Bt4560)
    assert one.answer("*ESR?") == ["128"]
    for text, bit in ((":SYST:ERR?", 32), (":READ?", 16), (":FREQ 2000", 16), (":RANG 1", 16)):
        assert one.answer(text) == [], text
        assert one.answer("*ESR?") == [str(bit)], text
    assert one.answer("x" * 257) == []


@pytest.mark.parametrize(
    ("line", "reply"),
    [("TEMP?", "23.0,25.0,185.0,-45.0"), ("MON?", "23.0,,STANDBY,0"), ("MODE?", "STANDBY"),
     ("TYPE?", "T,P300,185.0"), ("MODE,CONSTANT", "OK:MODE,CONSTANT"), ("HUMI?", "NA:CONT NOT "
     "READY-1"), ("BANANA", "NA:CMD ERR"), ("TEMP, S25.05", "NA:PARA ERR"), ("MODE,HOVER",
     "NA:PARA ERR"), ("TEMP, S190.0", "NA:DATA OUT OF RANGE"), ("TEMP, S30.0 H60.0 L0.0",
     "OK:TEMP, S30.0 H60.0 L0.0"), ("temp?", "NA:CMD ERR")],
)  # fmt: skip
def test_p300_answers_every_line(line, reply):
    assert make(P300).answer(line) == [reply]


def test_a_fault_of_figures_leaves_words_alone():
    assert faults._FIGURE.sub("X", "3.700 V, 2.5 A, RUNNING,101,+1.2E+01") == (
        "X V, X A, RUNNING,101,X"
    )


def test_a_supplys_cell_cannot_be_connected_twice():
    one = make(Psb10000)
    with pytest.raises(ValueError, match="A-1 cannot be connected"):
        one.stage.insert("A-1")
    one.stage.remove()
    assert one.stage.voltage_V == 0
    one.stage.insert("A-1")
    assert one.stage.voltage_V > 3
