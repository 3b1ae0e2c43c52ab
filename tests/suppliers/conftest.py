"""What several tests of suppliers share."""

import pytest
from supplier_tables import make_study


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")
