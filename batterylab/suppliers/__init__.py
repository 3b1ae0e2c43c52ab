"""Suppliers and lots: what is believed of them, how firmly, and what to decide.

`scorecard` turns a study and its feature table into plain data; `summary_lines` says it in
five lines. The statistics are in modules of their own and can be used alone: `components`
(cells in lots), `measurement` (gauge studies), `capability`, `comparison`, `acceptance`,
`pack`, `robust`. ``docs/statistics.md`` states every formula and its source.
"""

from batterylab.suppliers.card import SCHEMA, Scorecard, scorecard
from batterylab.suppliers.summary import summary_lines

__all__ = ["SCHEMA", "Scorecard", "scorecard", "summary_lines"]
