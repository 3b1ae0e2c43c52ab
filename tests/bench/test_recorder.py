"""The record rule, against a reference that does one channel, one second at a time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.bench.journal import ROW
from batterylab.bench.recorder import Recorder, Samples

START_s = 1000.0


def reference(seconds, moves_V):
    """Return the rows to keep of one channel: (time, step, net Ah, net Wh, volts)."""
    kept = []
    net_Ah = net_Wh = 0.0
    rows = []
    for t, current_A, volts, step, every_s in seconds:
        if step >= 0:
            net_Ah += current_A / 3600.0
            net_Wh += current_A * volts / 3600.0
        rows.append((t, step, net_Ah, net_Wh, volts, every_s))
    last = (-np.inf, np.nan)
    before = -1
    for k, (t, step, ah, wh, volts, every_s) in enumerate(rows):
        if step < 0:
            before = -1
            continue
        is_first = step != before
        is_last = k == len(rows) - 1 or rows[k + 1][1] != step
        is_due = t - last[0] >= every_s or abs(volts - last[1]) >= moves_V
        if is_first or is_due:
            last = (t, volts)
        if is_first or is_due or is_last:
            kept.append((t, step, ah, wh, volts))
        before = step
    return kept


@st.composite
def lives(draw):
    """Return the seconds of one channel: runs of steps, gaps between them, and volts that move."""
    seconds = []
    t = START_s
    number = 0
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.integers(1, 25))
        is_recorded = draw(st.integers(0, 4)) > 0
        every_s = draw(st.sampled_from([1.0, 3.0, 10.0]))
        current_A = draw(st.floats(-5, 5, allow_nan=False))
        for _ in range(length):
            t += 1.0
            volts = 3.0 + 0.001 * draw(st.integers(0, 12))
            seconds.append((t, current_A, volts, number if is_recorded else -1, every_s))
        number += is_recorded
    return seconds


def blocks_of(channels, cuts):
    """Cut the seconds of several channels into polls."""
    count = len(channels[0])
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    for first, end in itertools.pairwise(edges):
        part = [channel[first:end] for channel in channels]

        def column(k, part=part):
            return np.array([[second[k] for second in channel] for channel in part]).T

        yield Samples(
            unix_time_s=np.array([second[0] for second in part[0]]),
            current_A=column(1), voltage_V=column(2),
            temperature_degC=column(2) + 20, ambient_degC=column(2) + 19,
            step=column(3).astype(np.int64), cycle=column(3).astype(np.int64),
            every_s=column(4), interval_s=np.ones_like(column(4)),
        )  # fmt: skip


def recorded(channels, cuts, moves_V):
    recorder = Recorder(len(channels), moves_V, START_s)
    parts = [recorder.take(samples) for samples in blocks_of(channels, cuts)]
    parts += [recorder.flush(c) for c in range(len(channels))]
    rows = np.concatenate(parts)
    return [rows[rows[:, 0] == c] for c in range(len(channels))], recorder


@settings(max_examples=300, deadline=None)
@given(
    lives(), lives(), st.lists(st.integers(1, 120), max_size=8),
    st.sampled_from([0.004, 0.0055, np.inf]),
)  # fmt: skip
def test_polls_cut_anywhere_give_the_rows_of_the_reference(one, other, cuts, moves_V):
    count = min(len(one), len(other))
    channels = [one[:count], other[:count]]
    found, recorder = recorded(channels, cuts, moves_V)
    for c, seconds in enumerate(channels):
        wanted = reference(seconds, moves_V)
        rows = found[c]
        assert [(row[2], row[7]) for row in rows] == [(t, step) for t, step, *_ in wanted]
        np.testing.assert_allclose(rows[:, 9], [w[2] for w in wanted], atol=1e-12)
        np.testing.assert_allclose(rows[:, 10], [w[3] for w in wanted], atol=1e-12)
        np.testing.assert_array_equal(rows[:, 4], [w[4] for w in wanted])
        np.testing.assert_allclose(rows[:, 1], rows[:, 2] - START_s)
        np.testing.assert_allclose(rows[:, 5], rows[:, 4] + 20)
        np.testing.assert_allclose(rows[:, 6], rows[:, 4] + 19)
        # what was thinned out is still counted: every one-second sample of a recorded step
        total_Ah = sum(second[1] for second in seconds if second[3] >= 0) / 3600
        assert recorder.net_Ah[c] == pytest.approx(total_Ah, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(lives(), st.lists(st.integers(1, 120), max_size=8))
def test_first_and_last_sample_of_each_step_are_kept_once(seconds, cuts):
    (rows,), _ = recorded([seconds], cuts, np.inf)
    for step in {second[3] for second in seconds if second[3] >= 0}:
        times = [second[0] for second in seconds if second[3] == step]
        mine = rows[rows[:, 7] == step][:, 2]
        assert mine[0] == times[0]
        assert mine[-1] == times[-1]
        assert len(set(mine)) == len(mine)


def test_nothing_in_nothing_out():
    recorder = Recorder(2, 0.005, START_s)
    empty = np.zeros((0, 2))
    samples = Samples(np.zeros(0), empty, empty, empty, empty, empty.astype(np.int64),
                      empty.astype(np.int64), empty, empty)  # fmt: skip
    assert recorder.take(samples).shape == (0, len(ROW))
    assert recorder.flush(0).shape == (0, len(ROW))
