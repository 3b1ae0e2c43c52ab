"""Simulated instruments answer what real ones do, and nothing else: what is wrong is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.simulated import bank as b
from batterylab.simulated.bt2200 import RECORD, Bt2200
from batterylab.simulated.cell import CellTruth
from batterylab.simulated.control import Control
from batterylab.simulated.daq970a import Daq970a
from batterylab.simulated.hioki import Bt3562a, mantissa
from batterylab.simulated.scpi import ScpiInstrument, spellings
from batterylab.simulated.weiss import SimServ
from batterylab.simulated.world import IDEAL, Place, World

START_s = 1_767_592_800.0
SEP = "\xb6"


def make_world():
    places = [Place("1-1", 0, 101, 1), Place("1-2", 1, 102, 1)]
    world = World(1, START_s, {"A-1": CellTruth(), "A-2": CellTruth()}, places, IDEAL)
    world.insert("A-1", "1-1")
    return world


@pytest.fixture
def world():
    return make_world()


@pytest.fixture
def frame(world):
    frame = Bt2200(world)
    world.listeners.append(frame.keep)
    return frame


def errors(instrument):
    """Return the codes in the error queue, and empty it."""
    codes = []
    while (reply := instrument.answer("SYST:ERR?")[0]) != '+0,"No error"':
        codes.append(int(reply.split(",")[0]))
    return codes


# -- SCPI core


def test_a_keyword_is_short_or_long_and_nothing_between():
    assert set(spellings("SYSTem:ERRor[:NEXT]?")) == {
        f"{a}:{b_}{c}?"
        for a in ("SYST", "SYSTEM") for b_ in ("ERR", "ERROR") for c in ("", ":NEXT")
    }  # fmt: skip
    instrument = ScpiInstrument("A,B,1,2")
    for text in ("syst:err?", "SYSTem:ERRor?", ":SYST:ERROR:NEXT?"):
        assert instrument.answer(text) == ['+0,"No error"']
    for text in ("SYSTE:ERR?", "SYST:ERRO?", "SYST:ERR", "SYS:ERR?", "*IDN", "IDN?"):
        assert instrument.answer(text) == []
        assert errors(instrument) == [-113], text


def test_a_line_goes_on_at_the_level_of_the_command_before():
    instrument = ScpiInstrument("A,B,1,2")
    assert instrument.answer("SYST:ERR?;ERR?;*IDN?") == ['+0,"No error";+0,"No error";A,B,1,2']
    assert instrument.answer("SYST:ERR?;SYST:ERR?") == ['+0,"No error"']
    assert errors(instrument) == [-113]
    assert instrument.answer("SYST:ERR?;:SYST:ERR?") == ['+0,"No error";+0,"No error"']


def test_wrong_numbers_of_arguments_have_their_own_errors():
    instrument = ScpiInstrument("A,B,1,2")
    assert instrument.answer("*IDN? 1") == [] and errors(instrument) == [-108]
    instrument.add("SET", lambda value: None)
    assert instrument.answer("SET") == [] and errors(instrument) == [-109]


def test_the_error_queue_overflows_and_the_event_register_keeps():
    instrument = ScpiInstrument("A,B,1,2", queue_length=3)
    for _ in range(5):
        instrument.answer("NONSENSE")
    assert errors(instrument) == [-113, -113, -350]
    assert int(instrument.answer("*ESR?")[0]) & 32
    assert instrument.answer("*ESR?") == ["0"]


@given(st.text(st.characters(max_codepoint=255), max_size=80))
@settings(max_examples=150, deadline=None)
def test_no_line_kills_an_instrument(text):
    world = make_world()
    for instrument in (
        Bt2200(world), Bt3562a(world), Daq970a(world), SimServ(world), Control(world)
    ):  # fmt: skip
        replies = instrument.answer(text)
        assert all(isinstance(reply, str | bytes) for reply in replies)


ARGUMENT = st.sampled_from(
    ["0", "1", "9", "-1", "1e9", "nan", "CHARGE", "REST", "(@1001)", "(@)", "(@1001:1032)", "4.2",
     "VOLT_GE", "AFTER", "NEXT", "", "(@101,", "ON", "1e400"]
)  # fmt: skip


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_no_argument_kills_the_frame(data):
    frame = Bt2200(make_world())
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("SEQ:STEP:DEF 1,1,REST,5")
    commands = sorted(frame.commands)
    for _ in range(5):
        command = data.draw(st.sampled_from(commands))
        arguments = data.draw(st.lists(ARGUMENT, max_size=8))
        frame.answer(f"{command} {','.join(arguments)}")
    frame.world.advance(START_s + 10)


# -- BT2200


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("SYST:PROB:LIM 2", -109),
        ("SYST:PROB:LIM 2,1", -224),
        ("SYST:PROB:LIM 11,0", -222),
        ("CELL:DEFINE 1001,(@102)", -221),
        ("CELL:DEFINE 1033,(@133)", -222),
        ("CELL:DEFINE 1001,101", -104),
        ("CELL:ENABLE (@1001),9", -222),
        ("CELL:ENABLE (@1001),1", -221),
        ("CELL:INIT (@1001)", -221),
        ("CELL:INIT (@2001)", -221),
        ("SEQ:STEP:DEF 1,1,CHARGE,60", -109),
        ("SEQ:STEP:DEF 1,1,CHARGE,60,7,4.2", -222),
        ("SEQ:STEP:DEF 1,1,CHARGE,60,1,4.6", -222),
        ("SEQ:STEP:DEF 1,1,CHARGE,0,1,4.2", -222),
        ("SEQ:STEP:DEF 1,1,CHARGE,1.5,1,4.2", -104),
        ("SEQ:STEP:DEF 1,257,CHARGE,60,1,4.2", -222),
        ("SEQ:STEP:DEF 9,1,CHARGE,60,1,4.2", -222),
        ("SEQ:STEP:DEF 1,1,PRECHARGE,901,1,1.5", -222),
        ("SEQ:STEP:DEF 1,1,PRECHARGE,60,1,2.5", -222),
        ("SEQ:STEP:DEF 1,1,HOLD,60,1,4.2", -224),
        ("SEQ:TEST:DEF 1,1,1,VOLT_GE,4.2,AFTER,0,NEXT", -221),
        ("SEQ:STEP:COUN? 1", -113),
        ("STAT:CELL:VERB? 1001,1002", -108),
        ("STAT:CELL:VERB? (@1001)", -104),
        ("MEAS:CELL:VOLT? (@8033)", -222),
        ("DATA:LOG:REC:AVA?", -113),
    ],
)
def test_the_frame_refuses(frame, command, code):
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("CELL:CLEAR 0")
    frame.answer("CELL:DEF 1001,(@101)")
    assert errors(frame) == []
    assert frame.answer(command) == []
    assert errors(frame) == [code]


def test_the_frame_takes_what_was_seen_on_the_wire(frame):
    for command in (
        "SYST:PROB:LIM 2,0", "CELL:DEFINE 1001,(@101)", "CELL:DEF:QUICk 1", "SEQ:CLEar 1",
        "SEQ:STEP:DEF 1,1,PRECHARGE,30,1.0,1.0", "SEQ:STEP:DEF 1,2,CHARGE,180,2.0,4.2",
        "SEQ:TEST:DEF 1,2,1,CURR_LE,0.01,BEFORE,60,FAIL", "SEQ:STEP:DEF 1,3,REST,300",
        "CELL:FSET ON", "CELL:TRAN REST", "CELL:ENABLE (@1001:1002),1", "DATA:LOG:CLEar",
        "CELL:ABORT 0", "SEQ:ABORT", "*CLS",
    ):  # fmt: skip
        assert frame.answer(command) == []
        assert errors(frame) == [], command
    assert frame.answer("SEQ:STEP:DEF? 1,1") == ["PRECHARGE,30,1,1"]
    assert frame.answer("SEQ:CAT?") == ["1"]
    assert frame.answer("SYST:CARD:DET:NOW? 0") == ["1"]  # eight equal flags are one
    assert len(frame.answer("MEAS:VOLT? 0000")[0].split(",")) == 256
    assert len(frame.answer("STAT:CELL:VERB? 1001")[0].split(",")) == 10
    assert len(frame.answer("STAT:CELL:REP? (@1001:1032)")[0]) + 1 == 64
    assert len(frame.answer("CELL:STEP:TIME? (@1001,1002)")[0].split(",")) == 4


def test_tests_are_not_evaluated_in_a_rest(frame):
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("SEQ:STEP:DEF 1,1,REST,20")
    frame.answer("SEQ:TEST:DEF 1,1,1,VOLT_GE,1.0,AFTER,0,FAIL")
    frame.answer("CELL:ENAB (@1001),1;:CELL:INIT (@1001)")
    frame.world.advance(START_s + 10)
    assert frame.answer("STAT:CELL:REP? (@1001)") == ["1"]


def test_definitions_survive_the_clearing_of_another_and_assignments_their_own(frame):
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("SEQ:STEP:DEF 1,1,REST,20")
    frame.answer("SEQ:STEP:DEF 2,1,REST,20")
    frame.answer("CELL:ENAB (@1001),1")
    frame.answer("SEQ:CLE 1")
    assert frame.answer("SEQ:CAT?") == ["2"]
    frame.answer("CELL:INIT (@1001)")
    assert errors(frame) == [-221]
    frame.answer("SEQ:STEP:DEF 1,1,REST,20")
    frame.answer("CELL:INIT (@1001)")
    assert errors(frame) == []


def test_after_a_reset_the_frame_is_silent_for_five_seconds(frame):
    frame.answer("*RST")
    assert frame.answer("*IDN?") == []
    frame.world.advance(START_s + 4)
    assert frame.answer("*IDN?") == []
    frame.world.advance(START_s + 5)
    assert frame.answer("*IDN?") != []


def test_cells_start_all_or_none(frame):
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("SEQ:STEP:DEF 1,1,REST,20")
    frame.answer("CELL:ENAB (@1001),1")
    frame.answer("CELL:INIT (@1001,1002)")
    assert errors(frame) == [-221]
    assert frame.answer("STAT:CELL:REP? (@1001)") == ["0"]


def test_the_log_holds_at_most_ten_records_a_reply_and_keeps_the_newest(frame):
    assert frame.answer("DATA:LOG?") == [b"#14\x00\x00\x00\x00"]
    frame.world.advance(START_s + 700)
    assert frame.answer("DATA:LOG:REC:AVAIL?") == ["600"]
    (reply,) = frame.answer("DATA:LOG?")
    assert reply[:7] == b"#561524" and len(reply) == 7 + 4 + 10 * 6152
    records = np.frombuffer(reply, RECORD, offset=11)
    assert records["time_ms"].tolist() == [1000 * s for s in range(101, 111)]
    assert np.all(records["dcir1"] > 1000)
    frame.answer("DATA:LOG:CLE")
    assert frame.answer("DATA:LOG:REC:AVAIL?") == ["0"]


def test_amp_hours_and_watt_hours_are_signed_sums(frame):
    frame.answer("CELL:DEF:QUIC 1")
    frame.answer("SEQ:STEP:DEF 1,1,DISCHARGE,360,5,2.5")
    frame.answer("CELL:ENAB (@1001),1;:CELL:INIT (@1001)")
    frame.world.advance(START_s + 400)
    assert float(frame.answer("MEAS:CELL:CAP:AHR? (@1001)")[0]) == pytest.approx(-0.5, abs=1e-6)
    assert -2.1 < float(frame.answer("MEAS:CELL:CAP:WHR? (@1001)")[0]) < -1.5


def test_each_channel_errs_in_its_own_way_and_the_seed_decides():
    def readings(seed):
        places = [Place("1-1", 0, 101, 1)]
        world = World(seed, START_s, {"A-1": CellTruth()}, places)
        frame = Bt2200(world)
        world.insert("A-1", "1-1")
        frame.answer("CELL:DEF:QUIC 1")
        frame.answer("SEQ:STEP:DEF 1,1,DISCHARGE,360,5,2.5")
        frame.answer("CELL:ENAB (@1001),1;:CELL:INIT (@1001)")
        world.advance(START_s + 10)
        run = world.bank.run[0]
        return run[b.CURRENT], run[b.TRUE_CURRENT]

    read, true = readings(1)
    assert readings(1) == (read, true) != readings(2)
    assert 1e-6 < abs(true - -5.0) < 5e-3  # the channel believes that it drives 5 A


# -- Hioki


def test_the_meters_numbers_have_a_fixed_width():
    ranges = {"30m": (30e-3, 3, 7, -3), "300m": (300e-3, 2, 7, -3), "6V": (6.0, 5, 7, 0)}
    assert mantissa(0.015123, ranges["30m"]) == "  15.123E-3"
    assert mantissa(0.15123, ranges["300m"]) == "  151.23E-3"
    assert mantissa(3.85012, ranges["6V"]) == " 3.85012E+0"
    assert mantissa(-3.85012, ranges["6V"]) == "-3.85012E+0"
    assert mantissa(float("inf"), ranges["300m"]) == " 1000.00E+6"
    assert mantissa(float("-inf"), ranges["300m"]) == "-1000.00E+6"
    assert mantissa(float("nan"), ranges["300m"]) == "+1000.00E+7"
    assert mantissa(float("inf"), ranges["6V"]) == " 1.00000E+9"
    assert mantissa(float("nan"), ranges["6V"]) == "+1.00000E+10"


def test_the_meter_is_silent_when_it_rejects(world):
    meter = Bt3562a(world)
    assert meter.answer("*ESR?") == ["128"]
    for command, bit in (
        (":SYST:ERR?", 32), (":NONSENSE?", 32), (":READ?", 16), (":SAMP:RATE TURBO", 16),
        (":RES:RANG 5000", 16), (":FUNC?;:FUNC RV", 4), (":FUNC", 32), (":INIT", 16),
    ):  # fmt: skip
        assert meter.answer(command) == []
        assert meter.answer("*ESR?") == [str(bit)], command
        assert meter.answer("*ESR?") == ["0"]


def test_the_meter_triggers_once_with_continuous_measurement_off(world):
    meter = Bt3562a(world)
    world.probe("A-1")
    meter.answer(":INIT:CONT OFF")
    assert len(meter.answer(":READ?")) == 1
    first = meter.answer(":FETC?")
    assert meter.answer(":FETCH?") == first
    meter.answer(":TRIG:SOUR EXT")
    assert meter.answer(":READ?") == []
    assert meter.answer("*ESR?") == ["128"]
    meter.press_local()
    assert meter.answer(":INIT:CONT?") == ["ON"]


def test_the_meters_ranges_headers_and_functions(world):
    meter = Bt3562a(world)
    meter.answer(":RES:RANG 0.02")
    assert meter.answer(":RES:RANG?") == ["30.000E-3"]
    assert meter.answer(":AUT?") == ["OFF"]
    meter.answer(":VOLT:RANG 4")
    assert meter.answer(":VOLT:RANG?") == ["6.00000E+0"]
    meter.answer(":SYST:HEAD ON")
    assert meter.answer(":FUNC?") == [":FUNCTION RV"]
    meter.answer(":SYST:HEAD OFF;:FUNC RES;:INIT:CONT OFF")
    world.probe("A-1")
    assert "," not in meter.answer(":READ?")[0]
    assert meter.answer("*IDN?") == ["HIOKI,BT3562A,0,V2.10"]


# -- scanner


def test_the_scanners_formats(world):
    scanner = Daq970a(world)
    scanner.answer("CONF:TEMP TC,K,(@101:103);:ROUT:SCAN (@103,101)")
    first, second = (float(text) for text in scanner.answer("READ?")[0].split(","))
    assert second == 9.9e37 and first == pytest.approx(world.thermocouple_degC(101), abs=1e-6)
    for option in ("UNIT", "TIME", "CHAN", "ALAR"):
        scanner.answer(f"FORM:READ:{option} ON")
    value, time, channel, alarm = scanner.answer("READ?")[0].split(",")[:4]
    assert value.endswith(" C") and time == "00000000.000" and (channel, alarm) == ("101", "0")
    assert scanner.answer("FETC?") == scanner.answer("FETC?")
    assert scanner.answer("ROUT:SCAN?") == [b"#210(@101,103)"]
    assert scanner.answer("SYST:CTYP? 100")[0].startswith("Keysight Technologies,DAQM901A")
    assert errors(scanner) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("CONF:TEMP TC,X,(@101)", -224), ("CONF:TEMP RTD,85,(@101)", -224),
        ("CONF:TEMP TC,K,(@121)", -222), ("CONF:TEMP TC,K", -109), ("ROUT:SCAN 101", -104),
        ("ROUT:SCAN (@401)", -222), ("READ?", -221), ("FETC?", -230), ("R?", -113),
        ("SYST:CTYP? 400", -222), ("FORM:READ:CHAN MAYBE", -224), ("READ", -113),
    ],
)  # fmt: skip
def test_the_scanner_refuses(world, command, code):
    scanner = Daq970a(world)
    assert scanner.answer(command) == []
    assert errors(scanner) == [code]


def test_a_channel_left_a_voltmeter_gives_volts(world):
    scanner = Daq970a(world)
    scanner.answer("ROUT:SCAN (@101)")
    assert abs(float(scanner.answer("READ?")[0])) < 1e-3


# -- chamber


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (("11004", "1", "1"), "1\xb623.0000"), (("11004", "2", "1"), "1\xb623.0000"),
        (("99999", "1"), "-5"), (("1100", "1", "1"), "-5"), (("", "1"), "-5"),
        (("11004",), "-6"), (("11004", "1"), "-6"), (("11004", "1", "1", "1"), "-6"),
        (("11004", "x", "1"), "-6"), (("11004", "1", "x"), "-6"), (("11004", "1", "2"), "-8"),
        (("11001", "1", "1", "warm"), "-6"), (("11001", "1", "1", "181"), "-6"),
        (("11001", "1", "1", "1e1"), "-6"), (("11001", "1", "1", ""), "-6"),
        (("14001", "1", "1", "2"), "-6"), (("14001", "1", "8", "1"), "-8"),
        (("14003", "1", "0"), "-6"), (("17007", "1", "1"), "-8"),
        (("10012", "1"), "1\xb61"), (("11007", "1", "1"), "1\xb6-40.0"), (("17002", "1"), "1\xb60"),
    ],
)  # fmt: skip
def test_the_chambers_answers(world, request_, reply):
    assert SimServ(world).answer(SEP.join(request_)) == [reply]


def test_the_register_follows_later_and_start_is_digital_channel_1(world):
    chamber = SimServ(world)

    def ask(*fields):
        return chamber.answer(SEP.join(fields))[0]

    assert ask("11001", "1", "1", "45.0") == "1"
    assert ask("11002", "1", "1") == "1\xb625.00"
    world.advance(START_s + 1)
    assert ask("11002", "1", "1") == "1\xb645.00"
    assert ask("14003", "1", "1") == "1\xb60"
    assert ask("14001", "1", "1", "1") == "1"
    assert (ask("14003", "1", "1"), ask("10012", "1")) == ("1\xb61", "1\xb63")
    world.advance(START_s + 61)
    assert float(ask("11004", "1", "1")[2:]) == pytest.approx(26.0, abs=1e-6)  # 3 K/min
    assert ask("11068", "1", "1", "6") == "1"
    world.advance(START_s + 121)
    assert float(ask("11004", "1", "1")[2:]) == pytest.approx(32.0, abs=1e-6)
    chamber.messages.append(("1", "Door open"))
    assert ask("10012", "1") == "1\xb611"
    assert ask("17007", "1", "1") == "1\xb6Door open"
    assert ask("17012", "1") == "1"
    assert ask("10012", "1") == "1\xb63"
