"""What each kind of step becomes in plain numbers, and what the cell does not allow."""

import math

import pytest
from protocol_maker import CELL

from batterylab.errors import ProblemsError
from batterylab.protocol import End, If, Mark, Repeat, Until, load

HEAD = """\
schema: batterylab.protocol/1
name: p
stop:
  - {when: temperature, above: 55 degC}
steps:
"""
FULL = "  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}\n"
MEASURED = FULL + "  - discharge: {rate: C/3, until: v_min, at_most: 4 h}\n    measure: cap\n"


def resolved(folder, text):
    (folder / "p.yaml").write_text(HEAD + text)
    return load(folder / "p.yaml").resolve(CELL)


def one(folder, text):
    """Return the last step of a protocol that ends with `text`."""
    return list(resolved(folder, MEASURED + text).steps())[-1]


def told(folder, text):
    with pytest.raises(ProblemsError) as caught:
        resolved(folder, MEASURED + text)
    return [(p.where, p.what, p.remedy) for p in caught.value.problems]


def test_power_and_resistance_bound_the_current(tmp_path):
    step = one(tmp_path, "  - discharge: {power: 30 W, until: 3 V, at_most: 1 h}\n")
    assert (step.mode, step.level, step.kind) == ("power", 30.0, "discharge")
    assert step.current_A == pytest.approx(-10.0)  # at 3 V
    assert step.ends == (End("voltage_V", "below", 3.0),)
    charge = one(tmp_path, "  - charge: {power: 30 W, for: 1 h}\n")
    assert (charge.kind, charge.current_A, charge.is_fixed) == ("charge", 10.0, True)
    load_ = one(tmp_path, "  - discharge: {resistance: 0.7 Ohm, for: 10 s}\n")
    assert (load_.mode, load_.current_A) == ("resistance", pytest.approx(-6.0))


def test_a_hold_needs_no_voltage_end(tmp_path):
    step = one(tmp_path, "  - hold: {voltage: 4 V, limit: C/2, hold_until: C/50, at_most: 2 h}\n")
    assert (step.kind, step.mode, step.current_A, step.voltage_V) == ("hold", "voltage", 2.5, 4.0)
    assert step.ends == (End("current_A", "below", 0.1),)
    assert not step.ends_at_voltage
    down = one(tmp_path, "  - hold: {voltage: 3 V, limit: 1 A, by: discharge, for: 1 min}\n")
    assert (down.current_A, down.on_time, down.ends) == (-1.0, "next", ())


def test_a_train_of_pulses_is_a_repetition(tmp_path):
    plain = resolved(tmp_path, "  - pulse: {discharge: 1C, for: 10 s, rest: 40 s, times: 3}\n"
                     "    measure: dcir\n")  # fmt: skip
    (train,) = plain.nodes
    assert isinstance(train, Repeat)
    assert (train.times, [s.kind for s in train.body]) == (3, ["pulse", "rest"])
    assert [s.measure for s in train.body] == ["dcir", ""]
    single = one(tmp_path, "  - pulse: {charge: 0.75C, for: 5 s}\n")
    assert (single.kind, single.current_A, single.duration_s) == ("pulse", 3.75, 5)


def test_a_profile_is_scaled_and_repeated(tmp_path):
    step = one(tmp_path, "  - profile: {points: [[10 s, 1C], [5 s, 0 A], [2.5 s, -3 A]],"
               " scale: 0.5, times: 2}\n")  # fmt: skip
    assert step.points.time_s == (0.0, 10.0, 15.0, 17.5, 27.5, 32.5)
    assert step.points.value == (2.5, 0.0, -1.5) * 2
    assert (step.points.length_s, step.duration_s, step.current_A) == (35.0, 35, 2.5)
    assert {(e.relation, e.value) for e in step.ends} == {("below", 2.5), ("above", 4.2)}


def test_a_profile_comes_from_a_file_beside_the_protocol(tmp_path):
    (tmp_path / "d.csv").write_text("time_s,note,rate_C\n0,a,-0.5\n60,b,1\n90,,0\n")
    step = one(tmp_path, "  - profile: {file: d.csv}\n")
    assert (step.points.quantity, step.points.value) == ("current_A", (-2.5, 5.0))
    assert step.points.length_s == 90.0


BAD_FILES = [
    ("time_s,current_A\n0,1\n0,1\n", "time goes back"), ("time,amps\n0,1\n", "the columns are"),
    ("time_s,current_A\n0,x\n9,1\n", "d.csv:2: 'x' is not a number"),
    ("time_s,current_A\n5,1\n9,1\n", "must begin at 0"),
    ("time_s,current_A\n0,1\n", "two at least"),
    ("time_s,current_A\n0,99\n9,1\n", "the profile reaches 99 A"), ("\udcff", "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what"), BAD_FILES)
def test_a_profile_that_cannot_be_read_is_told(tmp_path, text, what):
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    ((where, said, _),) = told(tmp_path, "  - profile: {file: d.csv}\n")
    assert what in said
    assert where.startswith("p.yaml:9 (steps.2.profile")


def test_soak_and_readings(tmp_path):
    step = one(tmp_path, "  - soak: {temperature: 40 degC, within: 1 K, for: 2 h, at_most: 6 h}\n")
    assert (step.kind, step.mode, step.duration_s) == ("soak", "rest", 7200)
    assert (step.air.temperature_degC, step.air.within_K, step.air.arrive_s) == (40.0, 1.0, 21600.0)
    eis = one(tmp_path, "  - measure: {what: eis, from: 1 kHz, to: 1 Hz, points_per_decade: 5,"
              " as: e}\n")  # fmt: skip
    assert (eis.kind, eis.measure, eis.read.what) == ("measure", "e", "eis")
    assert len(eis.read.frequency_Hz) == 16
    assert eis.read.frequency_Hz[0] == pytest.approx(1000)
    assert eis.read.frequency_Hz[-1] == pytest.approx(1)
    assert one(tmp_path, "  - measure: {what: ac_resistance}\n").read.frequency_Hz == (1000.0,)


def test_ends_in_plain_numbers(tmp_path):
    step = one(tmp_path, """\
  - discharge:
      rate: C/3
      ends:
        - {time: 2 h, then: late}
        - {capacity: above 80 % of rated}
        - {capacity: above 80 % of cap, then: finish}
        - {current: below C/20 of cap, hold: 3 s}
        - {dV/dt: below 6 mV/min, over: 5 min}
        - {dT/dt: above 0.5 K/h, then: fail}
  - mark: late
""")
    assert (step.duration_s, step.on_time, step.is_fixed) == (7200, "late", True)
    assert step.ends == (
        End("voltage_V", "below", 2.5), End("capacity_Ah", "above", pytest.approx(3.96)),
        End("capacity_Ah", "above", 0.8, of="cap", then="finish"),
        End("current_A", "below", 0.05, of="cap", hold_s=3.0),
        End("voltage_rate_V_per_s", "below", pytest.approx(1e-4), over_s=300.0),
        End("temperature_rate_K_per_s", "above", pytest.approx(0.5 / 3600), over_s=60.0,
            then="fail"),
    )  # fmt: skip


def test_blocks_in_plain_numbers(tmp_path):
    plain = resolved(tmp_path, MEASURED + """\
  - until: {measure: cap, last: 2, within: 2 % of mean, at_most: 4}
    steps:
      - discharge: {rate: C/3, until: v_min, at_most: 4 h}
        measure: cap
  - until: {measure: cap, below: 80 % of first, at_most: 9}
    steps:
      - discharge: {rate: C/3, until: v_min, at_most: 4 h}
        measure: cap
  - if: {measure: cap, above: 4 Ah}
    steps: [{rest: {for: 1 s}}]
    else: [{rest: {for: 2 s}}]
  - mark: here
""")
    settled, aged, choice, mark = plain.nodes[2:]
    assert isinstance(settled, Until)
    assert (settled.last, settled.within_share) == (2, 0.02)
    assert math.isnan(settled.within_Ah)
    assert aged.limit == End("capacity_Ah", "below", 0.8, of="first")
    assert isinstance(choice, If)
    assert choice.limit == End("capacity_Ah", "above", 4.0)
    assert (choice.body[0].duration_s, choice.otherwise[0].duration_s) == (1, 2)
    assert mark == Mark("here")
    assert plain.longest_s() == 3600 * (9 + 4 * 4 + 9 * 4) + 2


def test_stops_of_file_and_step(tmp_path):
    (tmp_path / "p.yaml").write_text(HEAD.replace("steps:", """\
  - {when: temperature, above: 50 degC, hold: 5 s}
  - {when: capacity, above: 150 % of nominal, then: finish}
steps:""") + """\
  - rest: {for: 1 s}
  - discharge: {rate: C/3, for: 1 s, stop: [{when: voltage, below: 2.6 V}]}
""")
    plain = load(tmp_path / "p.yaml").resolve(CELL)
    hot = End("temperature_degC", "above", 50.0, hold_s=5.0, then="fail")
    full = End("capacity_Ah", "above", 7.5, then="finish")
    rest, discharge = plain.steps()
    assert plain.temperature_limits_degC == (-10.0, 55.0)
    assert plain.stops == (hot, full)
    assert rest.stops == (hot,)
    assert discharge.stops == (hot, full, End("voltage_V", "below", 2.6, then="fail"))


MISTAKES = [
    ("discharge: {power: 60 W, until: 3 V, at_most: 1 h}", "60 W is more than the cell allows",
     "at most 45 W"),
    ("discharge: {resistance: 0.2 Ohm, for: 1 s}", "takes 21 A", "at least 0.28 Ohm"),
    ("charge: {resistance: 1 Ohm, for: 1 s}", "a resistance does not charge", "rate"),
    ("charge: {rate: C/3, power: 5 W, for: 1 s}", "how much flows?", "one of rate"),
    ("charge: {rate: 2C of cap, for: 1 s}", "12 A is more than the cell allows", "at most 10 A"),
    ("charge: {rate: C/3 of cup, for: 1 s}", "nothing before this step measures 'cup'", "'cap'"),
    ("hold: {voltage: 4 V, limit: 1C, at_most: 1 h}", "what ends the step?", "for: 1 h"),
    ("hold: {voltage: 5 V, limit: 1C, for: 1 h}", "5 V is outside the cell's limits", "4.2 V"),
    ("pulse: {for: 10 s}", "charge or discharge?", "discharge: 1C"),
    ("pulse: {charge: 1C, for: 10 s, times: 3}", "a pulse train needs rest", "rest: 40 s"),
    ("profile: {scale: 2}", "file or points?", "drive.csv"),
    ("profile: {file: ../x.csv}", "no name of a file beside", "a.csv"),
    ("profile: {file: x.csv}", "there is no file 'x.csv'", "beside the protocol"),
    ("profile: {points: [[0 s, 1C]]}", "lasts no time", "10 s"),
    ("soak: {temperature: 80 degC, for: 1 h}", "80 °C is outside the cell's limits", "60 degC"),
    ("measure: {what: eis}", "eis needs from and to", "1 kHz"),
    ("rest: {for: 1 h, ends: [{capacity: above 1 Ah}]}", "does not change at rest", "dV/dt"),
    ("rest: {for: 1 h, ends: [{dV/dt: 1 mV/h}]}", "above or below?", "below 1 mV/min"),
    ("rest: {for: 1 h, ends: [{dV/dt: below 1 mV}]}", "no change per time", "1 mV/min"),
    ("rest: {for: 1 h, ends: [{voltage: below 3 V, soc: below 3 %}]}", "one quantity", "one of"),
    ("rest: {for: 1 h, ends: [{voltage: below 3 V, then: there}]}", "no mark 'there' further on",
     "- mark: there"),
    ("rest: {for: 1 h, ends: [{voltage: above 5 V}]}", "above 5 V is outside the limits", "4.2 V"),
    ("charge: {rate: 1C, for: 1 s, ends: [{temperature: above 70 degC}]}", "outside the limits",
     "-10 to 55"),
    ("charge: {rate: 1C, for: 1 s, stop: [{when: temperature, above: 58 degC}]}", "would widen",
     "-10 to 55"),
    ("charge: {rate: 1C, for: 1 s, stop: [{when: capacity, above: 80 % of cap}]}",
     "a stop does not wait for a measure", "of rated"),
    ("charge: {rate: 1C, ends: [{soc: above 50 % of cap}], for: 1 s}", "soc cannot be a share",
     "20 %"),
    ("if: {measure: cap}\n    steps: [{rest: {for: 1 s}}]", "above or below?", "95 % of rated"),
    ("if: {measure: cop, above: 1 Ah}\n    steps: [{rest: {for: 1 s}}]",
     "nothing before this step measures 'cop'", "'cap'"),
    ("rest: {for: 1 h}\n    else: [{rest: {for: 1 s}}]", "else without if", "if:"),
    ("until: {measure: cap, at_most: 3}\n    steps: [{rest: {for: 1 s}}]", "until when?", "below"),
    ("mark: next\n  - rest: {for: 1 s}", "a mark cannot be called 'next'", "another name"),
    ("rest: {for: 1 s, ends: [{time: 1 s, then: x}]}\n  - rest: {for: 2 s}\n  - mark: x",
     "no way leads to this step", "then: next"),
    ("rest: {for: 1 s, ends: [{voltage: above 4 V, then: a}]}\n  - mark: a\n  - mark: a",
     "the mark 'a' stands twice", "two names"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "what", "remedy"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_remedy(tmp_path, entry, what, remedy):
    found = told(tmp_path, f"  - {entry}\n")
    assert any(what in said and remedy in hint for _, said, hint in found), found
    assert all(re_line(where) >= 9 for where, _, _ in found), found


def re_line(where):
    return int(where.partition(":")[2].partition(" ")[0])
