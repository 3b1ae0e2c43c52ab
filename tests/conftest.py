"""What all tests share."""

import os
from pathlib import Path

import pytest

REQUIRED = os.environ.get("BATTERYLAB_TEST_DATA_REQUIRED") == "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data and worked cases, or skip."""
    folder = os.environ.get("BATTERYLAB_TEST_DATA")
    if folder and Path(folder, "data").is_dir():
        return Path(folder).resolve()
    reason = "set BATTERYLAB_TEST_DATA to the folder that holds data/ and cases/"
    if REQUIRED:
        pytest.fail(f"BATTERYLAB_TEST_DATA_REQUIRED=1, but {reason}")
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    """Turn a skip into a failure where the data is required."""
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but BATTERYLAB_TEST_DATA_REQUIRED=1: {report.longrepr}"
    return report
