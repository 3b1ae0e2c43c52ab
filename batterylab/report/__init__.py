"""The report: decision first, then the evidence, down to each sealed recording.

`write` makes PDF, HTML, a workbook, a Q-DAS file and the scorecard itself; `png` one page as a
picture; `plot` draws a recording; `trace` follows a code of the report to its samples.
"""

from batterylab.report.files import FORMATS, png, write

__all__ = ["FORMATS", "png", "write"]
