"""bench.yaml: patterns, limits, and every mistake with its line."""

import re
from pathlib import Path

import pytest
from small_bench import BENCH, INSTRUMENTS

from batterylab.bench import benchfile
from batterylab.bench.benchfile import BenchFile
from batterylab.cells import CellType
from batterylab.errors import ProblemsError
from batterylab.simulated.population import Channels, Simulation, SupplierTruth
from batterylab.study import Gauge, Limit, Pack, StudyFile, Supplier

CELL = CellType.model_validate({
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "4.95 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "0 degC", "max": "45 degC"},
})  # fmt: skip
GOOD = BENCH.format(poll_s=10, **{name: 15000 + k for k, name in enumerate(INSTRUMENTS)})


def read(folder, text):
    path = folder / "bench.yaml"
    path.write_text(text)
    return BenchFile.open(path, CELL)


def test_patterns_become_channels(tmp_path):
    file = read(tmp_path, GOOD)
    assert list(file.channels) == ["1-1", "1-2", "2-1", "2-2"]
    last = file.channels["2-2"]
    assert (last.cycler_channel, last.scanner, last.scanner_channel) == (202, "temps", 202)
    assert (last.module, last.shelf, last.block) == (2, 2, "cycler1/2/chamber/2")
    assert file.clock_address == ("127.0.0.1", 15004)
    assert file.meter() == "meter"
    assert file.poll_s == 10.0
    assert read(tmp_path, GOOD.rpartition("clock:")[0]).clock_address is None


MISTAKES = [
    ("model: keysight_bt2200", "model: keysight_bt2000", 4, "instruments.cycler1.model",
     "unknown model 'keysight_bt2000'", "keysight_bt2200"),
    (":15001:", ":15000:", 5, "instruments.temps.address", "the address is that of cycler1", ""),
    ("serial: MY58000516", "serial: MY5, calibration_due: soon", 4,
     "instruments.cycler1.calibration_due", "'soon' is no date", "2027-03-01"),
    ("for: 1..2}", "for: 2..1}", 9, "channels.0.for", "the range 2..1 is empty", "1..32"),
    ("for: 1..2}", "for: all}", 9, "channels.0.for", "all", ""),
    ('name: "2-{n}"', 'name: "1-{n}"', 10, "channels.1", "the channel '1-1' stands twice", ""),
    ('channel: "{200+n}"', 'channel: "{100+n}"', 10, "channels.1",
     "2-1 uses the channel of 1-1", ""),
    ('"temps:{200+n}"', '"temps:{100+n}"', 10, "channels.1",
     "2-1 uses the thermocouple of 1-1", "one of its own"),
    ('channel: "{100+n}"', 'channel: "{n+100}"', 9, "channels.0", "is no number", '"{100+n}"'),
    ('"temps:{100+n}"', '"temps"', 9, "channels.0", "names no channel", '"temps:{100+n}"'),
    ("cycler: cycler1", "cycler: cycler2", 9, "channels.0", "there is no instrument 'cycler2'",
     "cycler1, temps"),
    ("cycler: cycler1", "cycler: chamber", 9, "channels.0", "chamber is a chamber, not a cycler",
     ""),
    ("chamber: chamber, shelf: 1", "chamber: temps, shelf: 1", 9, "channels.0",
     "temps is a scanner, not a chamber", ""),
    ("shelf: 1", "shelf: -1", 9, "channels.0.shelf", "greater than or equal to 0", ""),
    ('name: "1-{n}"', 'name: "../{n}"', 9, "channels.0", "cannot name a channel", "letters"),
    ("[2.45 V, 4.25 V]", "[4.25 V, 2.45 V]", 11, "limits.voltage", "is not below", "[2.45 V"),
    ("[2.45 V, 4.25 V]", "[2.6 V, 4.25 V]", 11, "limits.voltage", "the cell needs 2.5 to 4.2 V",
     "a little more"),
    ("[2.45 V, 4.25 V]", "[1 V, 5 V]", 11, "limits.voltage", "too wide to protect this cell",
     "at most 2.2 to 4.3 V"),
    ("[2.45 V, 4.25 V]", "[2.45 V, 4.25]", 11, "limits.voltage.1", "4.25 has no unit", "4.2 V"),
    ("debounce: 3 samples", "debounce: 3", 11, "limits.debounce", "3 has no unit", "1 samples"),
    ("debounce: 3 samples", "debounce: 0 samples", 11, "limits.debounce", "equal to 1", ""),
    ("temperature: 50 degC", "temperature: hot", 11, "limits.temperature", "hot", "30 min"),
    ("poll: 10 s", "poll: 10 min", 12, "poll", "less than or equal to 300", ""),
    ("poll: 10 s", "pol: 10 s", 12, "pol", "unknown key 'pol'", "'poll'"),
    ("127.0.0.1:15004", "127.0.0.1:99999", 13, "clock", "is no address", "127.0.0.1:15000"),
    ("127.0.0.1:15004", "here", 13, "clock", "'here' is no address", "host:port"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "what", "remedy"), MISTAKES,
    ids=[f"{m[2]}-{m[3]}-{i}" for i, m in enumerate(MISTAKES)],
)  # fmt: skip
def test_a_mistake_has_line_key_and_remedy(tmp_path, old, new, line, key, what, remedy):
    assert old in GOOD
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    told = [(p.where, p.what, p.remedy) for p in caught.value.problems]
    where = f"bench.yaml:{line} ({key})"
    assert any(w == where and what in said and remedy in hint for w, said, hint in told), told


def test_the_document_names_every_key_and_its_example_is_read(tmp_path):
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "bench.md").read_text()
    told = text + (docs / "statistics.md").read_text()
    words = {*re.findall(r"\w+", told), *re.findall(r"\w+/\w+", told)}
    parts = [benchfile.BenchText, benchfile.InstrumentEntry, benchfile.ChannelPattern,
             benchfile.Notify, benchfile.InterlockEntry,
             benchfile.Limits, StudyFile, Supplier, Limit, Pack, Gauge, CellType, Simulation,
             SupplierTruth, Channels]  # fmt: skip
    keys = {info.alias or name for part in parts for name, info in part.model_fields.items()}
    assert keys <= words
    example = re.search(r"## `bench.yaml`\n\n```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert len(read(tmp_path, example).channels) == 20


def test_all_mistakes_come_at_once(tmp_path):
    text = GOOD.replace("cycler: cycler1", "cycler: none").replace("4.25 V]", "4.1 V]")
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, text)
    assert len(caught.value.problems) == 3
