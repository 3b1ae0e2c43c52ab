"""Which cell goes where, and who meets whom in a gauge study."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.bench.allot import allot, gauge_rounds
from batterylab.bench.benchfile import BenchFile, ChannelEntry
from batterylab.bench.gauge import choose
from batterylab.cells import Cell
from batterylab.errors import BatterylabError
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study


def channel(module, n, shelf):
    return ChannelEntry(f"{module}-{n}", "cycler1", 100 * module + n, "temps", n, "chamber", shelf)


def channels_of(*blocks):
    """Return channels in blocks of the given sizes."""
    return [
        channel(module, n, module) for module, size in enumerate(blocks, 1)
        for n in range(1, size + 1)
    ]  # fmt: skip


def cells_of(*lots):
    """Return cells of lots of the given sizes, of two suppliers in turn."""
    return [
        Cell(f"L{k}-{n:03d}", f"S{k % 2}", f"L{k}")
        for k, size in enumerate(lots) for n in range(size)
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 2**31),
)  # fmt: skip
def test_each_lot_is_spread_over_the_blocks_by_their_size(blocks, lots, seed):
    channels, cells = channels_of(*blocks), cells_of(*lots)
    if len(cells) > len(channels):
        with pytest.raises(BatterylabError, match="free channels"):
            allot(cells, channels, seed)
        return
    seats = allot(cells, channels, seed)
    assert sorted(seats.values()) == sorted(cell.serial for cell in cells)
    assert list(seats) == [c.name for c in channels if c.name in seats]
    by_name = {c.name: c for c in channels}
    for lot, size in enumerate(lots):
        found = Counter(
            by_name[name].shelf for name, serial in seats.items() if serial.startswith(f"L{lot}-")
        )
        for block, places in enumerate(blocks, 1):
            # a stretch of n seats takes n * share of each block, within whole cells
            assert abs(found[block] - size * places / len(channels)) < 2


def test_the_same_seed_allots_the_same_and_another_another():
    channels, cells = channels_of(32, 16), cells_of(8, 8, 8, 8, 8, 8)
    assert allot(cells, channels, 1) == allot(cells, channels, 1)
    assert allot(cells, channels, 1) != allot(cells, channels, 2)


def test_a_full_bench_is_balanced():
    channels, cells = channels_of(32, 16), cells_of(*[8] * 6)
    for seed in range(20):
        seats = allot(cells, channels, seed)
        for lot in range(6):
            on_second = sum(1 for name, serial in seats.items()
                            if name.startswith("2-") and serial.startswith(f"L{lot}-"))  # fmt: skip
            assert 2 <= on_second <= 4


def test_no_channel_is_favoured():
    """Over many seeds each cell sits in each channel about equally often."""
    channels, cells = channels_of(4, 4), cells_of(4, 4)
    count = Counter()
    for seed in range(800):
        for name, serial in allot(cells, channels, seed).items():
            count[serial, name] += 1
    assert len(count) == 64
    assert max(count.values()) < 155  # 100 expected, standard deviation below 10
    assert min(count.values()) > 55


@pytest.mark.parametrize(("cells", "channels"), [(6, 4), (4, 6), (2, 2), (5, 5), (2, 7)])
@pytest.mark.parametrize("repeats", [2, 3])
def test_in_a_gauge_study_everybody_meets_everybody(cells, channels, repeats):
    serials = [f"c{k}" for k in range(cells)]
    names = [f"ch{k}" for k in range(channels)]
    rounds = gauge_rounds(serials, names, repeats)
    pairs = Counter(itertools.chain.from_iterable(r.items() for r in rounds))
    assert pairs == {(name, serial): repeats for name in names for serial in serials}
    for seats in rounds:
        assert len(set(seats.values())) == len(seats) == min(cells, channels)
    # a repeat of a pair comes after all other pairs, not at once
    once = len(rounds) // repeats
    for k in range(repeats):
        part = Counter(itertools.chain.from_iterable(
            r.items() for r in rounds[k * once : (k + 1) * once]
        ))  # fmt: skip
        assert set(part.values()) == {1}


def test_the_gauge_study_takes_cells_of_all_lots_and_channels_of_all_blocks(tmp_path):
    write_study(tmp_path / "s", size=Size(2, 3, 2))
    study = Study.open(tmp_path / "s")
    file = BenchFile.open(study.bench_path, study.cell_type)
    cells, channels = choose(study, file)
    assert len({study.cells[serial].lot for serial in cells}) == 6
    assert Counter(file.channels[name].shelf for name in channels) == {1: 2, 2: 2}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gauge: {", "#gauge: {", "has no gauge part"),
        ("cells: 6", "cells: 60", "wants 60 cells on 4 channels, there are 4 and 48"),
        ("channels: 4", "channels: 100", "on 100 channels"),
    ],
)
def test_a_gauge_study_that_cannot_be_is_refused(tmp_path, old, new, message):
    write_study(tmp_path / "s", size=Size(2, 1, 2))
    path = tmp_path / "s" / "study.yaml"
    path.write_text(path.read_text().replace(old, new))
    study = Study.open(tmp_path / "s")
    with pytest.raises(BatterylabError, match=message):
        choose(study, BenchFile.open(study.bench_path, study.cell_type))
