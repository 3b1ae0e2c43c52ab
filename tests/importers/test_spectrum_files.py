"""Impedance spectra of potentiostats, published and made, as recordings."""

from pathlib import Path

import numpy as np
import pytest

from batterylab import archive
from batterylab.errors import BatterylabError
from batterylab.fit.impedance import spectra_of
from batterylab.importers.build import Stated, recording_of
from batterylab.importers.registry import reader_of

ROWS = [(1e4 / 2**n, 0.02 + 0.001 * n, -0.002 * n) for n in range(12)]


def made(tmp_path, text, name="spectrum.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path):
    return recording_of(path, Stated("c1"))


def dta(rows, extra="", header="\tPt\tTime\tFreq\tZreal\tZimag\tIdc\tVdc"):
    lines = ["EXPLAIN", "TAG\tEISPOT", "TITLE\tLABEL\tA cell\tTest", "DATE\tLABEL\t4/23/2018\tDate",
             "TIME\tLABEL\t16:43:15\tTime", "PSTAT\tPSTAT\tREF600P\tPotentiostat",
             "ZCURVE\tTABLE", header, "\t#\ts\tHz\tohm\tohm\tA\tV"]  # fmt: skip
    lines += ["\t" + "\t".join(str(v) for v in (n, 2.0 * n + 1, *row, 0.0, 3.7))
              for n, row in enumerate(rows)]  # fmt: skip
    return "\n".join([*lines, extra]) + "\n"


@pytest.mark.parametrize(
    ("name", "count", "first_Hz", "real_ohm"),
    [
        ("impedancepy_exampleData.csv", 66, 0.0031623, (0.015086882844244285, 0.0494998977640506)),
        ("impedancepy_exampleDataBioLogic.mpt", 43, 1000.3201, (57.859802, 110.97003)),
        ("impedancepy_exampleDataGamry.DTA", 72, 200015.6, (825.8584, 17007.49)),
        ("impedancepy_exampleDataGamryABORT.DTA", 72, 200015.6, (825.8584, 17007.49)),
    ],
)
def test_published_spectra_are_those_of_other_readers(shared_data, name, count, first_Hz, real_ohm):
    recording = read(shared_data / "data" / "eis" / name)
    (rows,) = spectra_of(recording)
    assert len(rows) == count
    assert recording.columns["frequency_Hz"][0] == pytest.approx(first_Hz, rel=1e-4)
    real = recording.columns["impedance_real_ohm"]
    assert (real.min(), real.max()) == pytest.approx(real_ohm, rel=1e-6)


def test_an_aborted_experiment_says_so(shared_data):
    recording = read(shared_data / "data" / "eis" / "impedancepy_exampleDataGamryABORT.DTA")
    assert "aborted after 72 frequencies" in " ".join(recording.provenance["remarks"])


def test_a_binary_file_holds_its_four_sweeps(shared_data):
    pytest.importorskip("galvani")
    recording = read(shared_data / "data" / "eis" / "aurora_PEIS.mpr")
    assert len(recording) == 244
    found = spectra_of(recording)
    assert [len(rows) for rows in found] == [61] * 4


def test_a_spectrum_goes_into_the_archive_and_back(tmp_path):
    path = made(tmp_path, dta(ROWS, "EXPERIMENTABORTED\tTOGGLE\tT\tExperiment Aborted"), "a.DTA")
    recording = read(path)
    again = archive.read(archive.write(recording, tmp_path / "archive"))
    for name in ("frequency_Hz", "impedance_real_ohm", "impedance_imaginary_ohm"):
        assert np.array_equal(again.columns[name], recording.columns[name])
    assert again.start_utc.startswith("2018-04-23T16:43:16")
    assert again.provenance["vendor"]["title"] == "A cell"
    assert again.steps[0].kind == "other"


@pytest.mark.parametrize(
    "header",
    ["freq/Hz,Re(Z)/Ohm,-Im(Z)/Ohm", "Frequency / Hz,Zreal / Ohm,Zimag / Ohm",
     "frequency_Hz,impedance_real_ohm,impedance_imaginary_ohm", ""],
)  # fmt: skip
def test_tables_with_and_without_headers_are_read(tmp_path, header):
    sign = -1.0 if "-Im" in header else 1.0
    lines = [header] if header else []
    lines += [f"{f},{re},{sign * im}" for f, re, im in ROWS]
    recording = read(made(tmp_path, "\n".join(lines) + "\n"))
    assert recording.columns["impedance_imaginary_ohm"] == pytest.approx([r[2] for r in ROWS])
    assert np.isnan(recording.columns["voltage_V"]).all()
    assert "the voltage is not known" in " ".join(recording.provenance["remarks"])


def test_a_spectrum_without_voltage_is_archived_but_other_rows_need_one(tmp_path):
    recording = read(made(tmp_path, "\n".join(f"{f},{a},{b}" for f, a, b in ROWS) + "\n"))
    assert archive.write(recording, tmp_path / "archive").is_file()
    recording.columns["frequency_Hz"][3] = np.nan
    with pytest.raises(BatterylabError, match="column voltage_V, row 3"):
        recording.checked()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (dta([]), "ZCURVE has no rows"),
        (dta(ROWS).replace("ZCURVE", "CURVE"), "0 tables ZCURVE"),
        (dta(ROWS).replace("Zimag", "Zother"), "line 8: the column 'Zimag' is missing"),
        (dta(ROWS)[:-40], "is no row of a spectrum|cut short"),
        (dta([(1e3, "x", -1.0)]), "line 10: .* is no row of a spectrum"),
    ],
)
def test_damaged_files_of_gamry_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(BatterylabError, match=message):
        read(made(tmp_path, text, "a.DTA"))


def test_three_columns_that_are_no_spectrum_are_not_taken_for_one(tmp_path):
    path = made(tmp_path, "".join(f"{n},{0.1 * n},3.{n}\n" for n in range(1, 30)))
    with pytest.raises(BatterylabError, match="of no format"):
        reader_of(path)
