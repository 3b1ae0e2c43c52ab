"""A meter reads cells in the middle of a run, through relays; what is in doubt stops a channel."""

import numpy as np
import pytest
from small_bench import Threaded, free_ports, load_cells

from batterylab.archive import find, read
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.session import resume_study, run_study
from batterylab.errors import EnvironmentFailedError, ProblemsError
from batterylab.features import features_of
from batterylab.simulated.wires import cell_impedance_ohm
from batterylab.study import Study
from batterylab.studyfiles import PORTS_IMPEDANCE, Size, write_study

LOOK = """\
schema: batterylab.protocol/1
name: look
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 min}
steps:
  - rest: {for: 60 s}
  - measure: {what: ocv, as: before}
  - measure: {what: ac_resistance, as: r_ac}
  - discharge: {rate: C/2, for: 2 min}
  - rest: {for: 10 min}
  - measure: {what: eis, from: 1 kHz, to: 100 mHz, points_per_decade: 3, as: sweep}
  - rest: {for: 30 s}
record: {every: 30 s}
"""


def study_of(folder, *, cells=2, protocol=LOOK, change=()):
    """Write a study on the bench with an impedance meter; return it opened."""
    ports = dict(zip(PORTS_IMPEDANCE, free_ports(len(PORTS_IMPEDANCE)), strict=True))
    write_study(folder, ports=ports, size=Size(1, 1, cells), protocols=("look",), poll_s=30.0,
                bench="impedance")  # fmt: skip
    (folder / "protocols" / "look.yaml").write_text(protocol)
    bench = folder / "bench.yaml"
    for old, new in change:
        text = bench.read_text()
        assert old in text
        bench.write_text(text.replace(old, new))
    return Study.open(folder)


@pytest.fixture
def lab(tmp_path):
    """Yield a study with two loaded cells, and its bench."""
    study = study_of(tmp_path / "s")
    bench = Threaded(study)
    load_cells(study)
    yield study, bench
    bench.close()


def by_serial(study):
    return {entry.serial: read(entry.path) for entry in find(study.archive)}


def test_resistance_and_spectrum_are_those_of_the_cell(lab):
    study, bench = lab
    assert [why for _, why in run_study(study, "ann")] == ["", ""]
    wiring = bench.world.wiring
    assert wiring.closed == set()
    assert wiring.shorts == 0
    for serial, recording in by_serial(study).items():
        assert recording.provenance["remarks"] == []
        ocv, ac, eis = recording.provenance["readings"]
        assert [ocv["what"], ac["what"], eis["what"]] == ["ocv", "ac_resistance", "eis"]
        assert ac["through"].startswith("impedance through relays:20")
        assert ac["meter"]["model"] == "hioki_bt4560"
        cell = bench.world.cells[serial]
        state = bench.world.state_of(serial)
        assert ac["resistance_ohm"] == pytest.approx(
            cell_impedance_ohm(cell, state, 1000.0).real, rel=0.01
        )
        assert ocv["voltage_V"] == pytest.approx(ac["voltage_V"], abs=0.02)
        step = recording.steps[eis["step_index"]]
        rows = slice(step.first_row, step.last_row + 1)
        hertz = recording.columns["frequency_Hz"][rows]
        measured = np.isfinite(hertz)
        assert measured.sum() == 13
        wanted = [cell_impedance_ohm(cell, state, f) for f in hertz[measured]]
        found = recording.columns["impedance_real_ohm"][rows] \
            + 1j * recording.columns["impedance_imaginary_ohm"][rows]  # fmt: skip
        np.testing.assert_allclose(found[measured], wanted, rtol=0.02)
        assert not np.isfinite(recording.columns["frequency_Hz"]).sum() > 13
        named = {f.name: f for f in features_of(recording)}
        assert named["r_ac_mOhm"].value == pytest.approx(1e3 * ac["resistance_ohm"])
        assert named["r_ac_mOhm"].uncertainty > 0
        assert named["before_V"].value == ocv["voltage_V"]
        assert named["sweep_low_mOhm"].value > named["sweep_high_mOhm"].value
        quiet = recording.columns["current_A"][rows]
        assert np.abs(quiet).max() < 0.01


def during(bench, what, action):
    """Do something just before a line of a kind reaches the meter for the first time."""
    meter = bench.instrument("impedance")
    plain, done = bench.servers["impedance"][1].answer, []

    def answer(text):
        if what in text and not done:
            done.append(text)
            action(meter)
        return plain(text)

    bench.servers["impedance"][1].answer = answer
    return done


FAULTS = [
    (":FREQ 464", lambda b: b.instrument("relays").weld_relay(), "a relay of relays sticks"),
    (":FREQ 464", lambda b: b.world.__setattr__("probe_polarity", -1.0), "wrong way round"),
    (":FREQ 464", lambda b: b.world.wiring.closed.clear(), "over-range or no contact"),
    (":FREQ 464", lambda b: b.instrument("impedance").power_cycle(), None),
]


@pytest.mark.parametrize(("line", "hurt", "said"), FAULTS)
def test_a_doubt_stops_the_channel_by_name(lab, line, hurt, said):
    study, bench = lab
    done = during(bench, line, lambda _: hurt(bench))
    stopped = [why for _, why in run_study(study, "ann")]
    assert done
    if said is None:  # a meter that lost its settings is told anew, or the reading is refused
        assert all(why == "" or "impedance" in why for why in stopped)
    else:
        assert any(said in why and "steps[5]" in why for why in stopped), stopped
    assert set(bench.world.flows_A().values()) == {0.0}
    welded = {("relays", place) for place in bench.instrument("relays").welded}
    assert bench.world.wiring.closed <= welded
    assert bench.world.wiring.shorts == 0


def test_a_relay_that_sticks_closed_from_the_start_reads_no_cell(lab):
    study, bench = lab
    bench.instrument("relays").weld_relay(201)
    bench.instrument("relays").weld_relay(211)
    stopped = [why for _, why in run_study(study, "ann")]
    assert all("before its relays close: a relay of relays sticks" in why for why in stopped)
    for recording in by_serial(study).values():
        assert "aborted" not in recording.provenance["ended"]
        assert recording.provenance["ended"].startswith("stopped: steps[2]")


def test_a_relay_that_does_not_close_is_no_contact(lab):
    study, bench = lab
    relays = bench.instrument("relays")
    relays.open_relays = set(range(201, 221))
    assert all("no contact" in why for _, why in run_study(study, "ann"))


def test_a_meter_that_is_lost_stops_the_cells_that_need_it(lab):
    study, bench = lab
    during(bench, ":FREQ 464", lambda _: bench.servers["impedance"][1].hang_up())
    reasons = [why for _, why in run_study(study, "ann")]
    assert all(why == "" or "impedance" in why for why in reasons)


def test_a_run_that_was_cut_in_a_reading_reads_again_when_it_is_resumed(lab):
    study, bench = lab

    class Cut(Exception):
        pass

    closed_at_cut = []

    def cut(_):
        closed_at_cut.append(set(bench.world.wiring.closed))
        cuts.append(True)

    cuts = []
    during(bench, ":FREQ 46.4", cut)

    def should_stop():
        if cuts and len(cuts) == 1:
            cuts.append(True)
            raise EnvironmentFailedError("the plug was pulled")
        return ""

    with pytest.raises(EnvironmentFailedError, match="plug"):
        run_study(study, "ann", should_stop=should_stop)
    assert len(closed_at_cut[0]) == 2
    assert bench.world.wiring.closed == set()
    assert [why for _, why in resume_study(study, "ann")] == ["", ""]
    for recording in by_serial(study).values():
        assert [r["measure"] for r in recording.provenance["readings"]] == [
            "before", "r_ac", "sweep"]  # fmt: skip
        assert np.isfinite(recording.columns["frequency_Hz"]).sum() == 13


WRONG = [
    (("through relays:{{200+n}}".format(), "through relays:{300+n}"), None),
    (("{200+n}", "{210+n}"), "no partner for the sense leads"),
    (("through relays:{200+n}", "through temps:{100+n}"), "module 1 of temps is scanned"),
    (("impedance through relays:{200+n}", "impedance"), "wired to another channel"),
    (("impedance through relays:{200+n}", "chamber through relays:{200+n}"), "is no meter"),
    (("impedance through relays:{200+n}", "impedance via relays"), "no instrument"),
    (("{200+n}", "201"), "uses relay 201"),
    (("channels:  ", "interlocks:\n  door: {input: \"relays:220\", safe: [4 V, 6 V]}\nchannels:  "),
     "module 2 of relays is scanned"),
    (("model: keysight_bt2200", "model: ea_psb10000"), "a supply stays across its cell"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_a_wiring_that_cannot_be_is_refused(tmp_path, change, said):
    study = study_of(tmp_path / "s", change=[change])
    if said is None:
        assert BenchFile.open(study.bench_path).wired == {"impedance", "relays"}
        return
    with pytest.raises(ProblemsError, match=said):
        BenchFile.open(study.bench_path)


def test_the_meter_at_loading_is_the_one_that_is_not_wired(tmp_path):
    file = BenchFile.open(study_of(tmp_path / "s").bench_path)
    assert file.meter() == "meter"
