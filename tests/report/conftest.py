"""What the tests of the report share: a study on disk, with sealed recordings."""

from types import SimpleNamespace

import pytest
from report_studies import STUDY, SUPPLIERS, make_recording

from batterylab import archive
from batterylab.study import Study


@pytest.fixture
def study(tmp_path):
    """Return a study of six cells with a recording of three of them."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    serials = [f"{name}{lot}-001" for name in "AB" for lot in (1, 2, 3)]
    lines = [f"{serial},{SUPPLIERS[serial[0]]},{serial[:2]}" for serial in serials]
    (folder / "cells.csv").write_text("\n".join(["serial,supplier,lot", *lines]), encoding="utf-8")
    opened = Study.open(folder)
    opened.archive.mkdir(parents=True, exist_ok=True)
    for serial in ("A1-001", "A2-001", "B1-001"):
        archive.write(make_recording(serial), opened.archive)
    return opened


@pytest.fixture
def place(tmp_path):
    """Return what `write` needs of a study, and no more."""
    return SimpleNamespace(results=tmp_path / "results", archive=tmp_path / "archive")
