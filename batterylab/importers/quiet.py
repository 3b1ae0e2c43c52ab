"""Listen to what a reader's library says while it reads, instead of letting it print."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: warnings that say nothing of a file
FOR_PROGRAMMERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


@contextmanager
def overheard(logger_name: str, said: list[str]) -> Iterator[None]:
    """Keep a library's warnings off the terminal and collect their first lines.

    Parameters
    ----------
    logger_name : str
        The library's logger; an empty name is the root logger.
    said : list of str
        Receives each warning once.
    """

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = record.getMessage().splitlines()[0]
            if line not in said:
                said.append(line)

    logger = logging.getLogger(logger_name or None)
    handler, propagate = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
        texts = {
            str(warning.message).splitlines()[0]
            for warning in warned
            if not issubclass(warning.category, FOR_PROGRAMMERS)
        }
        said += sorted(texts - set(said))
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
