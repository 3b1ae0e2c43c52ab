"""What can go wrong, and how the command line answers.

BatterylabError            2   wrong use, file or argument; nothing was started
├── ProblemsError          2   every mistake of a file at once
├── OutOfRangeError        2   a value outside what instrument or cell allows
├── EnvironmentFailedError 1   a port, a link, a disk
├── NotMetError            3   a limit or a check is not met
├── SafetyStopError        4   a channel was stopped for safety
└── PausedError            0   a run was paused, as somebody wished
"""

from collections.abc import Sequence
from dataclasses import dataclass


class BatterylabError(Exception):
    """A failure with a cause and, where there is one, a remedy.

    Parameters
    ----------
    message : str
        What is wrong, and where.
    hint : str, optional
        What would be right, or the next move.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, and the hint on a line of its own."""
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class OutOfRangeError(BatterylabError, ValueError):
    """A value lies outside what the instrument or the cell allows."""


class EnvironmentFailedError(BatterylabError):
    """Something outside the program failed: a port, a link, a disk."""

    exit_code = 1


class NotMetError(BatterylabError):
    """A limit or a check is not met."""

    exit_code = 3


class SafetyStopError(BatterylabError):
    """A channel was stopped for safety."""

    exit_code = 4


class PausedError(BatterylabError):
    """A run was paused: every channel is safe, and it can be resumed."""

    exit_code = 0


@dataclass(frozen=True)
class Problem:
    """One mistake in a file that somebody wrote.

    Attributes
    ----------
    where : str
        File, line and key, such as ``study.yaml:12 (limits.0.lower)``.
    what : str
        What is wrong, with the offending text.
    remedy : str
        What would be right.
    """

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return one line, and the remedy on a line of its own."""
        line = f"{self.where}: {self.what}"
        return f"{line}\n  hint: {self.remedy}" if self.remedy else line


class ProblemsError(BatterylabError):
    """Every mistake of a file at once.

    Parameters
    ----------
    problems : sequence of Problem
        At least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
