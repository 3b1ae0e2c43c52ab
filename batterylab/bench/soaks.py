"""Changes of temperature in the middle of a protocol: cells that share a chamber wait together.

A cell whose next step changes the air waits without current until every cell of its chamber that
still runs waits as well. Then the chamber is set, and the cells rest in bounded sequences until the
air has arrived and the time to soak has passed.
"""

from collections.abc import Sequence

from batterylab.bench.attendant import Attendant
from batterylab.bench.chambers import Chambers
from batterylab.bench.channelrun import ChannelRun
from batterylab.errors import EnvironmentFailedError
from batterylab.protocol.form import Air


class Soaks:
    """The changes of temperature of a run.

    Parameters
    ----------
    attendants : sequence of Attendant
        Of all cyclers.
    chambers : Chambers
        Of the run.
    runs : sequence of ChannelRun
        All channels.
    """

    def __init__(
        self, attendants: Sequence[Attendant], chambers: Chambers, runs: Sequence[ChannelRun]
    ) -> None:
        self.attendants = attendants
        self.chambers = chambers
        self.runs = runs
        self._arrived_s: dict[str, float] = {}
        self._began_s: dict[str, float] = {}

    @property
    def are_waiting(self) -> bool:
        """Whether a cell waits for its chamber."""
        return any(run.wants_air and run.running is None for run in self.runs)

    def look(self, now_s: float) -> None:
        """Set the chambers that all their cells wait for, and end the soaks that are over.

        Raises
        ------
        EnvironmentFailedError
            If the air does not arrive in time.
        """
        lost = [run.entry.name for run in self.runs
                if run.wants_air and run.entry.chamber not in self.chambers.drivers]  # fmt: skip
        if lost:
            raise EnvironmentFailedError(f"channel {lost[0]} has no chamber to soak in")
        for name in self.chambers.drivers:
            own = [run for run in self.runs if run.entry.chamber == name and run.is_active]
            if own and all(run.wants_air and run.running is None for run in own):
                self._change(name, own, now_s)
            soaking = [run for run in own if run.running is not None and run.wants_air]
            if soaking:
                self._follow(name, soaking, now_s)

    def _change(self, name: str, runs: list[ChannelRun], now_s: float) -> None:
        wanted = _air(runs[0])
        self.chambers.set(name, wanted.temperature_degC, wanted.within_K)
        self.attendants[0].journal.event(
            name, "air", degC=wanted.temperature_degC, within_K=wanted.within_K
        )
        self._began_s[name] = now_s
        self._arrived_s.pop(name, None)
        alike = [run for run in runs if _air(run) == wanted]
        for attendant in self.attendants:
            members = [run for _, run in attendant.frame.members if run in alike]
            if members:
                attendant.begin(members)
                attendant.due_s = min(attendant.due_s, now_s + 1.0)

    def _follow(self, name: str, runs: list[ChannelRun], now_s: float) -> None:
        wanted = _air(runs[0])
        if name not in self._arrived_s:
            if self.chambers.has_arrived(name):
                self._arrived_s[name] = now_s
            elif now_s - self._began_s[name] > wanted.arrive_s:
                raise EnvironmentFailedError(
                    f"{name}: does not reach {wanted.temperature_degC:g} °C"
                )
            return
        for attendant in self.attendants:
            due = [
                run for _, run in attendant.frame.members if run in runs and run.running
                and now_s >= self._arrived_s[name] + run.running.segment.steps[0].duration_s
            ]  # fmt: skip
            if due:
                attendant.end(due, now_s)


def _air(run: ChannelRun) -> Air:
    segment = run.progress.current
    air = segment.steps[0].air if segment else None
    assert air is not None  # noqa: S101  (only runs that want air are asked)
    return air
