"""Plans: durations, batches, calendar, channels for a delivery."""

import json
import math
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from click.testing import CliRunner

from batterylab.cli.protocol import protocol
from batterylab.errors import BatterylabError
from batterylab.protocol.plan import delivery, gantt_svg, plan
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
SHORT = """\
schema: batterylab.protocol/1
name: {name}
chamber: {{temperature: 25 degC, within: 2 degC, soak: 1 h}}
steps:
  - rest: {{for: {hours} h}}
"""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "s"
    write_study(folder, size=Size(2, 3, 8), protocols=("two", "five"))
    for name, hours in (("two", 2), ("five", 5)):
        (folder / "protocols" / f"{name}.yaml").write_text(SHORT.format(name=name, hours=hours))
    text = (folder / "study.yaml").read_text()
    line = next(x for x in text.splitlines() if x.startswith("gauge:"))
    (folder / "study.yaml").write_text(text.replace(line, ""))
    return Study.open(folder)


def test_a_cell_takes_its_protocols_their_soaks_and_a_changeover(study):
    made = plan(study, channels=20, start=MONDAY)
    assert [d.total_h for d in made.durations] == [3.0, 6.0]
    assert made.hours_per_cell == 10.0
    assert (made.cells, made.batches) == (48, 3)
    assert made.end_h == 30.0
    assert made.cells_per_week == pytest.approx(20 * 168 / 10)
    data = made.to_dict()
    assert data["channel_hours"] == 480.0
    assert data["end"] == "2026-12-01T06:00+00:00"
    assert [s["cells"] for s in data["calendar"] if s["what"] == "five"] == [20, 20, 8]
    json.dumps(data, allow_nan=False)


def test_spans_follow_each_other_without_overlap(study):
    spans = plan(study, channels=7, start=MONDAY, attended=True).spans
    for one, other in pairwise(spans):
        assert other.start_h >= one.end_h
    begins = [s.start_h for s in spans if s.what == "changeover"]
    for hours in begins:
        day, hour = divmod(hours, 24)
        assert day % 7 < 5
        assert 8 <= hour < 17


def test_the_bench_file_gives_the_channels_and_the_gauge_its_rounds(tmp_path):
    write_study(tmp_path / "s", protocols=("incoming_inspection",))
    made = plan(Study.open(tmp_path / "s"), start=MONDAY)
    assert made.channels == 48
    assert made.durations[0].hours == pytest.approx(1.517, abs=1e-3)
    assert made.durations[0].source == "simulation"
    gauge = [s for s in made.spans if s.batch == 0 and s.what == "gauge_check"]
    assert len(gauge) == 12  # 6 cells, 4 channels, 2 repeats: six rotations, twice
    hours = sum(span.end_h - span.start_h for span in gauge) + 12 * made.changeover_h
    assert made.gauge_rounds == 12
    assert made.to_dict()["gauge_channel_hours"] == pytest.approx(4 * hours)
    assert made.spans[-1].batch == 1


def test_channels_for_a_delivery_by_hand(study):
    made = plan(study, channels=20, start=MONDAY)
    options = delivery(made, packs_per_week=50, lot=1000, samples=(8,))
    by_key = {("+".join(o["protocols"]), o["per_lot"]): o for o in options}
    every = by_key["two+five", None]
    assert every["cells_per_week"] == 4800  # 96 in series
    assert every["channels"] == 286  # 4800 * 10 h / 168 h = 285.7
    assert not every["fits"]
    some = by_key["two+five", 8]
    assert some["cells_per_week"] == pytest.approx(38.4)
    assert some["channels"] == 3  # 384 h / 168 h = 2.29
    assert some["fits"]
    assert by_key["two", None]["channels"] == 115  # 4800 * 4 / 168 = 114.3


def test_ten_thousand_cells_take_no_time(study):
    begin = time.process_time()
    made = plan(study, channels=48, cells=10_000, start=MONDAY)
    svg = gantt_svg(made)
    assert time.process_time() - begin < 5.0
    assert made.batches == 209
    assert "149 later batches are left out" in svg


def test_the_picture_is_svg_with_every_protocol_named(study):
    root = ET.fromstring(gantt_svg(plan(study, channels=20, start=MONDAY)))
    assert root.tag.endswith("svg")
    text = " ".join(root.itertext())
    for word in ("two", "five", "changeover", "batch 3", "2026-11-30 00:00"):
        assert word in text


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 0}, "no channels"), ({"cells": 0}, "no cells"),
     ({"changeover_h": -1.0}, "changeover of -1 h")],
)  # fmt: skip
def test_what_cannot_be_planned_is_said(study, options, message):
    with pytest.raises(BatterylabError, match=message):
        plan(study, **options)


def test_a_protocol_that_cannot_be_simulated_to_its_end_is_estimated(study):
    (study.protocols_folder / "two.yaml").write_text(
        "schema: batterylab.protocol/1\nname: two\nsteps:\n"
        "  - charge: {rate: C/10, until: v_max, at_most: 1 h}\n"
    )
    first = plan(study, channels=20, start=MONDAY).durations[0]
    assert first.source.startswith("estimate: the simulation stopped")
    assert first.hours == pytest.approx(1.0)


def test_the_command_prints_json_and_draws(study, tmp_path):
    out = tmp_path / "plan.svg"
    arguments = ["plan", str(study.path), "--json", "--packs", "50", "--out", str(out),
                 "--start", "2026-11-30", "--changeover", "30 min"]  # fmt: skip
    done = CliRunner().invoke(protocol, arguments)
    data = json.loads(done.stdout)
    assert data["changeover_h"] == 0.5
    assert data["delivery"]["options"][0]["protocols"] == ["two", "five"]
    assert out.read_text().startswith("<svg")
    words = CliRunner().invoke(protocol, [*arguments[:2], "--packs", "50"]).stdout
    assert "every cell: " in words
    assert "cells a week" in words


def with_chambers(study, *sizes):
    """Give the study a bench of chambers A, B, … with so many channels each."""
    lines = ["schema: batterylab.bench/1", "instruments:",
             '  frame: {model: keysight_bt2200, address: "TCPIP::h::1::SOCKET"}']  # fmt: skip
    channels = ["channels:"]
    for number, size in enumerate(sizes):
        name = "ABC"[number]
        address = f"TCPIP::h::{number + 2}::SOCKET"
        lines.append(f'  {name}: {{model: weiss_simserv, address: "{address}"}}')
        channels.append(
            f'  - {{name: "{name}-{{n}}", cycler: frame, channel: "{{{100 * (number + 1)}+n}}", '
            f"chamber: {name}, shelf: 1, for: 1..{size}}}"
        )
    limits = "limits: {voltage: [2.45 V, 4.25 V], temperature: 65 degC}"
    study.bench_path.write_text("\n".join([*lines, *channels, limits, ""]))
    return Study.open(study.path)


def test_a_batch_fills_a_chamber_and_chambers_go_on_alone(study):
    made = plan(with_chambers(study, 20, 8), start=MONDAY)
    assert made.chambers == {"A": 20, "B": 8}
    # 48 cells: A 20, B 8 at 0 h; A 20 at 10 h; then nothing is left
    begins = [(s.batch, s.chamber, s.cells, s.start_h) for s in made.spans if s.what == "two"]
    assert begins == [(1, "A", 20, 1.0), (2, "B", 8, 1.0), (3, "A", 20, 11.0)]
    assert (made.batches, made.end_h) == (3, 20.0)
    assert made.cells_per_week == pytest.approx(28 * 168 / 10)
    assert "batch 2, B" in " ".join(ET.fromstring(gantt_svg(made)).itertext())
    data = made.to_dict()
    assert data["chambers"] == [{"name": "A", "channels": 20}, {"name": "B", "channels": 8}]
    assert {s["chamber"] for s in data["calendar"]} == {"A", "B"}
    words = CliRunner().invoke(protocol, ["plan", str(study.path)]).stdout
    assert "28 channels, by chamber: 20 in A, 8 in B" in words


@pytest.mark.parametrize(("sizes", "cells"), [((3, 5, 1), 100), ((7,), 7), ((1, 30), 64)])
def test_a_chamber_never_holds_two_protocols_at_a_time(study, sizes, cells):
    made = plan(with_chambers(study, *sizes), cells=cells, start=MONDAY, attended=True)
    for name, size in made.chambers.items():
        own = sorted((s for s in made.spans if s.chamber == name), key=lambda s: s.start_h)
        assert all(other.start_h >= one.end_h for one, other in pairwise(own))
        assert all(s.cells <= size for s in own)
    assert sum(s.cells for s in made.spans if s.what == "five") == cells


def test_people_who_come_once_a_day_halve_what_a_bench_takes(study):
    """Ten hours a batch from 8:00 end after 17:00, so there is one batch a working day."""
    made = plan(study, channels=20, start=MONDAY, attended=True)
    assert made.cells_per_week == pytest.approx(100.0, rel=0.02)
    some = delivery(made, packs_per_week=50, lot=1000, samples=(8,))[0]
    # 50 packs of 96 cells are 4.8 lots; 8 of each are 38.4 cells; 100 cells a week on 20 channels
    assert some["channels"] == math.ceil(38.4 / 5)
    assert some["channel_hours_per_week"] == pytest.approx(384.0)


SOAKING = """\
schema: batterylab.protocol/1
name: two
chamber: {temperature: 25 degC, within: 2 degC}
steps:
  - soak: {temperature: 40 degC, for: 1 h}
  - charge: {rate: 1C, until: v_max, hold_until: C/20, at_most: 3 h}
  - discharge: {rate: C/2, until: v_min, at_most: 4 h}
"""


def test_a_protocol_that_soaks_is_refused_where_there_is_no_chamber(study):
    (study.protocols_folder / "two.yaml").write_text(SOAKING)
    assert plan(study, start=MONDAY).batches == 1
    bench = study.bench_path.read_text()
    study.bench_path.write_text(bench.replace("chamber: chamber, shelf: 2", "shelf: 2"))
    with pytest.raises(BatterylabError, match="two changes the chamber's temperature, and 16 chan"):
        plan(study, start=MONDAY)
    assert plan(study, channels=16, start=MONDAY).batches == 3


def test_another_cell_takes_another_time(study):
    (study.protocols_folder / "two.yaml").write_text(SOAKING)
    ours, other = (plan(study, start=MONDAY, parameter_set=name).durations[0]
                   for name in ("Chen2020", "Ecker2015"))  # fmt: skip
    assert ours.source == other.source == "simulation"
    assert abs(ours.hours - other.hours) > 0.01
    with pytest.raises(BatterylabError, match="'Chen2021' is no full-cell set") as caught:
        plan(study, parameter_set="Chen2021")
    assert "did you mean 'Chen2020'?" in caught.value.hint
