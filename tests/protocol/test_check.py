"""What is proved of a protocol, and what a bench cannot do."""

import json
from dataclasses import replace

import pytest
from protocol_maker import CELL
from small_bench import small_study

from batterylab.bench.abilities import abilities
from batterylab.bench.benchfile import BenchFile
from batterylab.cli import main
from batterylab.errors import ProblemsError
from batterylab.protocol import load, names
from batterylab.protocol.check import Abilities, Cycler, Reader, check

HEAD = "schema: batterylab.protocol/1\nname: p\nsteps:\n"
FULL = "  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}\n"
ONBOARD = Cycler("cycler1", (0.01, 6.25), (2.0, 4.5), False,
                 frozenset({"current", "voltage", "profile"}))  # fmt: skip
BENCH = Abilities("bench", (ONBOARD,), (2.45, 4.25), 55.0)


def resolved(folder, steps):
    path = folder / "p.yaml"
    path.write_text(HEAD + FULL + steps)
    return load(path).resolve(CELL)


def test_each_step_has_its_longest_time_and_largest_charge(tmp_path):
    found = check(resolved(tmp_path, """\
  - discharge: {rate: 1C, for: 1 h, ends: [{capacity: above 2 Ah}]}
  - discharge: {rate: C/2, until: v_min, at_most: 3 h, stop: [{when: capacity, above: 6 Ah}]}
  - rest: {for: 90 s}
  - profile: {points: [[1 h, 1C], [30 min, -2C]]}
  - soak: {temperature: 20 degC, for: 1 h, at_most: 2 h}
"""))
    assert [(row.longest_s, pytest.approx(row.most_Ah)) for row in found.steps] == [
        (18000, 5 * 5 / 3), (3600, 2.0), (10800, 6.0), (90, 0.0), (5400, 10.0), (10800, 0.0),
    ]  # fmt: skip
    assert [row.where for row in found.steps][1:3] == [
        "p.yaml:5 (steps.1)", "p.yaml:6 (steps.2)"
    ]
    assert found.most_steps == 6
    assert found.problems == ()


def test_what_the_host_must_do_is_told(tmp_path):
    found = check(resolved(tmp_path, """\
  - discharge: {rate: C/3, to_soc: 50 %, at_most: 2 h}
  - charge: {rate: C/3, until: v_max, at_most: 5 h}
  - discharge: {rate: C/3, until: v_min, at_most: 4 h}
    measure: capacity
  - charge: {rate: C/3 of capacity, until: v_max, at_most: 5 h}
  - rest: {for: 2 h, ends: [{dV/dt: below 1 mV/h, over: 10 min}]}
  - discharge: {rate: C/3, until: v_min, ends: [{time: 1 h, then: late}]}
  - mark: late
  - soak: {temperature: 20 degC, for: 1 h}
"""))
    assert [row.by_host for row in found.steps] == [
        (), ("watches SOC below 50 %",), (), (), ("sets its current from capacity",),
        ("watches dV/dt below 2.778e-07 V/s over 600 s",), ("goes to late when its time is up",),
        ("changes the chamber",),
    ]  # fmt: skip


PLAIN = Reader("ohm", (1e3, 1e3), False, lambda _: 1.0)
SWEEP = Reader("sweep", (0.01, 1e3), True, lambda hertz: 4.0 / hertz)
REFUSED = [
    ("discharge: {power: 5 W, for: 10 s}", {}, "holds no constant power", "another cycler"),
    ("discharge: {resistance: 5 Ohm, for: 10 s}", {}, "no constant resistance", "cycler"),
    ("discharge: {rate: 2C, for: 10 s}", {}, "10 A is outside its range", "0.01 to 6.25 A"),
    ("charge: {rate: C/3, until: 4 V, hold_until: C/1000, at_most: 5 h}", {},
     "0.005 A is outside its range", "0.01 to"),
    ("discharge: {rate: C/3, for: 10 s, sample_every: 0.1 s}", {},
     "a sample every 1 s, not every 0.1 s", "1 s or more"),
    ("rest: {for: 10 s, record: {every: 100 ms}}", {}, "a sample every 1 s", "1 s or more"),
    ("profile: {points: [[0.5 s, 1C], [1 s, 0 A]]}", {}, "steps by whole seconds", "host-stepped"),
    ("profile: {points: [[1 s, 1C], [1 s, 0 A]], times: 200}", {}, "400 points", "at most 250"),
    ("discharge: {rate: C/3, until: v_min, at_most: 4 h}", {"voltage_V": (2.6, 4.25)},
     "2.5 V is beyond the limits of the bench", "2.6 to 4.25 V"),
    ("soak: {temperature: 58 degC, for: 1 h}", {}, "58 °C is not below the bench's limit",
     "below 55"),
    ("soak: {temperature: 40 degC, for: 1 h}", {"without_chamber": ("1-1",)},
     "channel 1-1 has no chamber", "chamber:"),
    ("rest: {for: 1 h, ends: [{temperature: below 30 degC}]}",
     {"without_thermometer": ("1-2",)}, "channel 1-2 has no thermometer", "scanner"),
    ("measure: {what: eis, from: 1 kHz, to: 1 Hz}", {"readers": (("1-1", ()),)},
     "channel 1-1 has no meter that reads eis", "meter:"),
    ("measure: {what: eis, from: 1 kHz, to: 1 Hz}", {"readers": (("1-1", (PLAIN,)),)},
     "no meter reads eis at 1000 to 1 Hz", "ohm reads resistance 1000 Hz"),
    ("measure: {what: ac_resistance, at: 10 Hz}", {"readers": (("1-1", (PLAIN,)),)},
     "no meter reads ac_resistance at 10 Hz", "ohm reads resistance 1000 Hz"),
    ("measure: {what: eis, from: 1 kHz, to: 1 mHz}", {"readers": (("1-1", (SWEEP,)),)},
     "no meter reads eis at 1000 to 0.001 Hz", "sweep reads 0.01 to 1000 Hz"),
    ("measure: {what: eis, from: 1 kHz, to: 10 mHz, at_most: 10 min}",
     {"readers": (("1-1", (PLAIN, SWEEP)),)}, "sweep takes about 1945 s", "longer, or fewer"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "bench", "what", "remedy"), REFUSED)
def test_a_bench_that_cannot_is_told_with_line_and_remedy(tmp_path, step, bench, what, remedy):
    (problem,) = check(resolved(tmp_path, f"  - {step}\n"), replace(BENCH, **bench)).problems
    assert problem.where == "p.yaml:5 (steps.1)"
    assert what in problem.what
    assert remedy in problem.remedy


def test_everything_that_a_bench_cannot_do_comes_at_once(tmp_path):
    steps = "  - discharge: {power: 5 W, for: 10 s}\n  - discharge: {rate: 2C, for: 10 s}\n"
    found = check(resolved(tmp_path, steps), BENCH)
    assert len(found.problems) == 2
    with pytest.raises(ProblemsError, match=r"(?s)5 W|constant power.*10 A"):
        found.raise_problems()


def test_a_host_stepped_supply_samples_faster_and_follows_fast_profiles(tmp_path):
    fast = Cycler("psu", (0.05, 120.0), (0.0, 80.0), True,
                  frozenset({"current", "voltage", "power", "profile"}), 0.1)  # fmt: skip
    plain = resolved(tmp_path, "  - profile: {points: [[0.5 s, 1C], [1 s, 0 A]]}\n"
                     "  - discharge: {power: 5 W, for: 10 s, sample_every: 0.1 s}\n")  # fmt: skip
    assert check(plain, replace(BENCH, cyclers=(fast,))).problems == ()


def test_a_studys_bench_is_asked(tmp_path, capsys):
    study = small_study(tmp_path / "s", HEAD + FULL, cells=1)
    found = abilities(BenchFile.open(study.path / "bench.yaml"))
    assert [(c.is_stepped, c.current_A) for c in found.cyclers] == [(False, (0.01, 6.25))]
    (study.protocols_folder / "p.yaml").write_text(
        HEAD + FULL + "  - discharge: {power: 5 W, for: 10 s}\n"
    )
    with pytest.raises(SystemExit) as left:
        main(["protocol", "check", "p", "--study", str(study.path)])
    assert left.value.code == 2
    assert "holds no constant power" in capsys.readouterr().err


def test_the_command_says_what_is_proved(capsys):
    with pytest.raises(SystemExit) as left:
        main(["protocol", "check", "capacity_resistance"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "host: watches SOC below 80 %" in said
    assert "every step ends; at most 37 steps, 4 sequences" in said
    with pytest.raises(SystemExit):
        main(["protocol", "check", "capacity_resistance", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["problems"] == []
    assert data["most_steps"] == 37
    assert {"path", "where", "text", "longest_s", "most_Ah", "by_host"} == set(data["steps"][0])


def test_the_whole_library_is_checked():
    window = type(CELL.temperature)(min="-40 degC", max="70 degC")
    cell = CELL.model_copy(update={"temperature": window})
    for name in names():
        found = check(load(name).resolve(cell))
        assert all(row.longest_s <= 100 * 86400 for row in found.steps)
