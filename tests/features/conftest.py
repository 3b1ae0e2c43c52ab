"""Let these tests use the recordings that the tests of the fits make."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fit"))
