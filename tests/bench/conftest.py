"""Simulated benches in a thread, for tests that hurt them."""

import pytest
from small_bench import SHORT, Threaded, load_cells, small_study


@pytest.fixture
def bench_of(tmp_path):
    """Return a maker of benches: a study, its cells loaded, its instruments in a thread."""
    benches = []

    def make(protocol=SHORT, *, is_loaded=True, name="s", **options):
        study = small_study(tmp_path / name, protocol, **options)
        bench = Threaded(study)
        benches.append(bench)
        if is_loaded:
            load_cells(study)
        return bench

    yield make
    for bench in benches:
        bench.close()
