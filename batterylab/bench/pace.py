"""Who steps the supplies: a thread for each on a real bench, the runner on a simulated one.

On the machine's own clock a supply must not wait for another one's slow answer. On a simulated
bench, time stands still until the runner lets it pass: one after the other gives the same
recording every time.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from batterylab.bench.clock import BenchClock, Clock, WallClock
from batterylab.bench.stepper import Stepper

IDLE_s, LONGEST_s = 0.05, 0.5
JOIN_s = 5.0


class Pacer:
    """Lets every stepper take its samples when they are due.

    On a real bench their samples are spread over the period: many at once would wait for each
    other, and be as late as that takes.

    Parameters
    ----------
    clock : Clock
        Of the bench.
    steppers : iterable of Stepper
        May be none.
    """

    def __init__(self, clock: Clock, steppers: Iterable[Stepper]) -> None:
        self.clock = clock
        self.steppers = list(steppers)
        self.is_real = isinstance(clock, WallClock)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._busy: set[int] = set()

    def __enter__(self) -> "Pacer":
        """Start the threads, where there are any."""
        if isinstance(self.clock, BenchClock) and self.steppers:
            self.clock.meanwhile = self._meanwhile
        if self.is_real:
            for number, stepper in enumerate(self.steppers):
                stepper.phase_s = stepper.period_s * number / len(self.steppers)
                thread = threading.Thread(target=self._step, args=(stepper,), daemon=True)
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        if isinstance(self.clock, BenchClock):
            self.clock.meanwhile = None
        self._ended.set()
        for thread in self._threads:
            thread.join(JOIN_s)

    def _step(self, stepper: Stepper) -> None:
        while not self._ended.is_set():
            wait_s = stepper.due_s - self.clock.now()
            if wait_s > 0:
                self._ended.wait(IDLE_s if math.isinf(wait_s) else min(wait_s, LONGEST_s))
                continue
            with contextlib.suppress(Exception):  # kept in the stepper for whoever reads its log
                stepper.sample()

    def due_s(self) -> float:
        """Return when the runner must let a supply be sampled; never on a real bench."""
        if self.is_real:
            return math.inf
        free = (each.due_s for each in self.steppers if id(each) not in self._busy)
        return min(free, default=math.inf)

    def step(self) -> None:
        """Let all samples be taken that are due; on a real bench the threads do."""
        if self.is_real:
            return
        for stepper in self.steppers:
            if id(stepper) in self._busy:
                continue
            self._busy.add(id(stepper))
            try:
                while stepper.due_s <= self.clock.now():
                    stepper.sample()
            finally:
                self._busy.discard(id(stepper))

    def _meanwhile(self, until_s: float) -> None:
        """Sample the others while one supply of a simulated bench is waited for."""
        while (due_s := self.due_s()) <= until_s:
            self.clock.sleep_until(due_s)
            self.step()


def at_once(clock: Clock, jobs: Sequence[Callable[[], Any]]) -> list[BaseException | None]:
    """Do several things, at the same time on a real bench; return what each one raised."""

    def attempt(job: Callable[[], Any]) -> BaseException | None:
        try:
            job()
        except BaseException as error:  # handed to whoever asked
            return error
        return None

    if isinstance(clock, WallClock) and len(jobs) > 1:
        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(attempt, jobs))
    return [attempt(job) for job in jobs]
