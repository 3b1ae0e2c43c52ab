"""BDF files of either naming, as text and as Parquet, and what is wrong in some of them."""

import numpy as np
import polars
import pytest

from batterylab.errors import ProblemsError
from batterylab.importers.build import Stated, recording_of
from batterylab.recording import COLUMNS


def columns(**changed):
    """Return one discharge and one charge under the names of the archive."""
    current_A = np.repeat([-2.0, 2.0], 180)
    time_s = np.arange(360) * 10.0
    step = np.repeat([1, 2], 180)
    moved = np.abs(current_A) * 10.0 / 3600.0
    moved[0] = 0.0
    sides = [np.cumsum(np.where(side, moved, 0.0)) for side in (current_A > 0, current_A < 0)]
    values = {
        "test_time_s": time_s,
        "unix_time_s": 1.7e9 + time_s,
        "current_A": current_A,
        "voltage_V": 3.6 + sides[0] - sides[1],
        "step_index": step,
        "cycle_index": np.ones(360, dtype=int),
        "charge_capacity_Ah": sides[0],
        "discharge_capacity_Ah": sides[1],
    }
    return values | changed


def write(path, values, naming):
    frame = polars.DataFrame({getattr(COLUMNS[k], naming): v for k, v in values.items()})
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.mark.parametrize("naming", ["bdf_name", "bdf_label"])
@pytest.mark.parametrize("suffix", [".bdf.csv", ".parquet"])
def test_both_namings_are_read_from_text_and_parquet(tmp_path, naming, suffix):
    path = write(tmp_path / f"a{suffix}", columns(), naming)
    recording = recording_of(path, Stated("S1"))
    assert [step.kind for step in recording.steps] == ["discharge", "charge"]
    assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(2 * 10 / 3600)
    assert recording.start_utc.startswith("2023-11-14T22:13:20")
    assert recording.provenance["format"] == "BDF"


def test_milliampere_under_the_name_of_ampere_are_refused(tmp_path):
    """What a published converter writes: mA under `Current / A`."""
    path = write(tmp_path / "a.csv", columns(current_A=np.repeat([-2e3, 2e3], 180)), "bdf_label")
    with pytest.raises(ProblemsError, match="is the current in mA"):
        recording_of(path, Stated("S1"))


def test_a_file_without_a_counter_is_read_and_says_so(tmp_path):
    values = columns()
    del values["charge_capacity_Ah"], values["discharge_capacity_Ah"]
    recording = recording_of(write(tmp_path / "a.csv", values, "bdf_name"), Stated("S1"))
    assert "net_capacity_Ah" not in recording.columns
    assert any("no counter" in remark for remark in recording.provenance["remarks"])
