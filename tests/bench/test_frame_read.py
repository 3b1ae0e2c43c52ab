"""A second that ticks between two questions must not move a step."""

import numpy as np

from batterylab.bench.frame import Frame
from batterylab.drivers.roles import LogBlock


class Ticking:
    """A cycler whose clock ticks after `calls` questions; one channel, in its first step."""

    def __init__(self, calls):
        self.calls = calls
        self.second = 10
        self.logged = 5

    def _ask(self):
        self.calls -= 1
        if self.calls == 0:
            self.second += 1

    def drain_log(self, channels):
        self._ask()
        times = np.arange(self.logged + 1, self.second + 1) * 1000
        self.logged = self.second
        shape = (len(times), len(channels))
        return LogBlock(times, np.zeros(shape), np.zeros(shape), np.ones(shape, np.int16))

    def step_times(self, channels):
        self._ask()
        return dict.fromkeys(channels, (1, float(self.second - 3)))


def test_samples_and_step_times_are_of_one_second_whenever_it_ticks():
    for calls in range(1, 6):
        frame = Frame.__new__(Frame)
        frame.driver, frame.numbers = Ticking(calls), [101]
        block, looks = frame.read([101])
        assert list(np.diff(block.time_ms)) == [1000] * (len(block.time_ms) - 1)
        assert block.time_ms[0] == 6000
        assert block.time_ms[-1] / 1000 - looks[101][1] == 3
