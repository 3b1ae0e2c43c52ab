"""What is believed of one feature of one supplier, in the scorecard's form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from batterylab.suppliers.calibration import Levels, levels
from batterylab.suppliers.components import (
    LotSample,
    Pivots,
    lot_interval,
    maximum_likelihood,
    pivots,
    root_interval,
)
from batterylab.suppliers.measurement import (
    CATEGORIES,
    GaugeStudy,
    Variances,
    grr_percent,
)
from batterylab.suppliers.nested import NestedStudy
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    central,
    chi_squares,
    mean_interval,
    points_for,
    sd_interval,
)
from batterylab.suppliers.robust import odd_ones
from batterylab.suppliers.sampling import NO_LOT, Reading

NOT_CORRECTED = (
    "not corrected: without repeats of this feature the spread of the cells holds the bench's "
    "repeatability and the differences between its channels"
)


@dataclass(frozen=True)
class Measurement:
    """The bench's scatter in one feature.

    Attributes
    ----------
    study : GaugeStudy, NestedStudy or None
        None if there is none.
    variances : Variances or None
        Point estimates.
    drawn : Variances or None
        Pivotal quantities.
    """

    study: GaugeStudy | NestedStudy | None = None
    variances: Variances | None = None
    drawn: Variances | None = None

    @classmethod
    def of(
        cls, study: GaugeStudy | NestedStudy | None, confidence: float = CONFIDENCE
    ) -> "Measurement":
        """Take a gauge study's variances, if there is one."""
        if study is None:
            return cls()
        return cls(study, study.variances(), study.pivots(confidence))

    @property
    def variance(self) -> float:
        """Measurement variance of a value; 0 if not known."""
        return float(self.variances.gauge) if self.variances else 0.0

    @property
    def sd(self) -> float | None:
        """Measurement standard deviation; None if not known."""
        return math.sqrt(self.variance) if self.variances else None

    @property
    def pivotal(self) -> Array | None:
        """Pivotal quantities of the measurement variance."""
        return None if self.drawn is None else self.drawn.gauge

    def levels(
        self, sample: LotSample, drawn: Pivots | None, lower: float | None, upper: float | None
    ) -> Levels | None:
        """Return the levels of capability's bounds on this bench; None if it was not studied."""
        if not isinstance(self.study, GaugeStudy) or self.drawn is None or drawn is None:
            return None
        if lower is None and upper is None:
            return None
        return levels(sample, self.study, drawn, self.drawn, lower, upper)

    def to_dict(
        self, samples: Sequence[LotSample], confidence: float = CONFIDENCE
    ) -> dict[str, Any]:
        """Return the scorecard's ``measurement``.

        Parameters
        ----------
        samples : sequence of LotSample
            Of all suppliers: %GRR is the measurement's share of their spread within lots, so
            that differences between suppliers do not flatter the bench.
        """
        study, variances = self.study, self.variances
        names = ("repeatability_sd", "reproducibility_sd", "gauge_sd", "gauge_interval",
                 "grr_percent", "grr_percent_interval", "categories", "categories_interval",
                 "cells", "channels", "repeats")  # fmt: skip
        if study is None or variances is None:
            return {"corrected": False, "method": "none", **dict.fromkeys(names),
                    "note": NOT_CORRECTED}  # fmt: skip
        df = sum(sample.df_within for sample in samples)
        squares = sum(float(sample.sums_of_squares.sum()) for sample in samples)
        spread = squares / df if df else self.variance + float(variances.cell)
        cells = max(spread - self.variance, 0.0)
        gauge_interval = None if self.drawn is None else root_interval(self.drawn.gauge, confidence)
        return {
            "corrected": True,
            "method": "gauge study" if isinstance(study, GaugeStudy) else "nested gauge study",
            "repeatability_sd": math.sqrt(float(variances.repeatability)),
            "reproducibility_sd": self._reproducibility_sd(),
            "gauge_sd": self.sd,
            "gauge_interval": gauge_interval,
            "grr_percent": float(grr_percent(variances.gauge, np.asarray(cells))),
            "grr_percent_interval": self._grr_interval(squares, df, confidence),
            "categories": CATEGORIES * math.sqrt(cells / self.variance) if self.variance else None,
            "categories_interval": self._categories_interval(squares, df, confidence),
            "cells": study.cells,
            "channels": study.channels,
            "repeats": study.repeats,
            "note": self._note(bool(df)),
        }

    def _reproducibility_sd(self) -> float | None:
        if self.study is None or self.variances is None or self.study.channels < 2:
            return None
        return math.sqrt(float(self.variances.reproducibility))

    def _grr_interval(self, squares: float, df: int, confidence: float) -> Interval | None:
        if self.drawn is None:
            return None
        cells = self._cells_drawn(self.drawn, squares, df, confidence)
        return central(grr_percent(self.drawn.gauge, cells), confidence)

    def _categories_interval(self, squares: float, df: int, confidence: float) -> Interval | None:
        if self.drawn is None:
            return None
        cells = self._cells_drawn(self.drawn, squares, df, confidence)
        ratio = cells / np.maximum(self.drawn.gauge, 1e-300)
        return central(CATEGORIES * np.sqrt(ratio), confidence)

    def _cells_drawn(self, drawn: Variances, squares: float, df: int, confidence: float) -> Array:
        """Return draws of the variance of the cells that the bench is held against."""
        if not (df and squares > 0):
            return drawn.cell
        spread = squares / chi_squares(df, 0, points_for(confidence))
        return np.maximum(spread - drawn.gauge, 0.0)

    def _note(self, has_lots: bool) -> str:
        study = self.study
        if study is None:
            return NOT_CORRECTED
        base = "the spread within lots" if has_lots else "the cells of the gauge study"
        parts = [
            "measurement variance taken out of the spread of the cells",
            f"%GRR and categories relate to {base}",
        ]
        if study.channels < 2:
            parts.append("one channel: differences between channels are not taken out")
        elif isinstance(study, GaugeStudy) and study.by_interaction and study.error:
            parts.append(f"interaction {'' if study.pooled else 'not '}pooled with the repeats")
        return "; ".join((*parts, *study.remarks))


@dataclass(frozen=True)
class Estimate:
    """One feature of one supplier.

    Attributes
    ----------
    sample : LotSample
        The cells as measured.
    readings : sequence of Reading
        One a cell.
    sd_cell, sd_lot, sd_total : float or None
        Standard deviations; `sd_cell` and `sd_total` without the measurement's part where it
        is known. None where lots cannot tell them apart.
    drawn : Pivots or None
        Pivotal quantities behind the intervals.
    notes : list of str
        What could not be computed, and why.
    """

    sample: LotSample
    readings: Sequence[Reading]
    sd_cell: float | None
    sd_lot: float | None
    sd_total: float | None
    drawn: Pivots | None
    confidence: float = CONFIDENCE
    corrected: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def lots(self) -> int:
        """Number of lots that have a name."""
        return 0 if self.sample.lots == (NO_LOT,) else len(self.sample.lots)

    @property
    def cv_percent(self) -> float | None:
        """Coefficient of variation of single cells, all lots together, in percent."""
        if self.sd_total is None or not self._is_ratio_scale():
            return None
        return 100.0 * self.sd_total / abs(self.sample.mean)

    def cv_interval(self) -> Interval | None:
        """Return the interval of the coefficient of variation, in percent."""
        if self.drawn is None or self.cv_percent is None:
            return None
        mean = np.maximum(np.abs(self.drawn.mean), 1e-300)
        return central(100.0 * np.sqrt(self.drawn.total) / mean, self.confidence)

    def _is_ratio_scale(self) -> bool:
        """Return whether the mean is far enough from zero for a ratio to it."""
        return self.sd_total is not None and abs(self.sample.mean) > 5.0 * self.sd_total

    def total_interval(self) -> Interval | None:
        """Return the interval of the standard deviation of single cells, all lots together."""
        return None if self.drawn is None else root_interval(self.drawn.total, self.confidence)

    def cell_interval(self) -> Interval | None:
        """Return the interval of the standard deviation within lots."""
        if self.drawn is None or not self.sample.within:
            return None
        if not self.corrected:
            return self.sample.within_interval(self.confidence)
        return root_interval(self.drawn.cell, self.confidence)

    def lot_interval(self) -> Interval | None:
        """Return the interval of the standard deviation between lots."""
        if self.drawn is None:
            return None
        return lot_interval(self.sample, self.drawn, self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry, without capability and cells outside."""
        sample = self.sample
        return {
            "lots": self.lots,
            "cells": sample.cells,
            "mean": sample.mean,
            "mean_interval": sample.mean_interval(self.confidence) if sample.varies else None,
            "sd_total": self.sd_total,
            "sd_total_interval": self.total_interval(),
            "sd_cell": self.sd_cell,
            "sd_cell_interval": self.cell_interval(),
            "sd_lot": self.sd_lot,
            "sd_lot_interval": self.lot_interval(),
            "cv_percent": self.cv_percent,
            "cv_percent_interval": self.cv_interval(),
            "minimum": sample.minimum,
            "maximum": sample.maximum,
            "lot": {name: self._lot(number) for number, name in enumerate(sample.lots)},
            "notes": self.notes,
        }

    def _lot(self, number: int) -> dict[str, Any]:
        count = round(float(self.sample.counts[number]))
        mean = float(self.sample.means[number])
        squares = float(self.sample.sums_of_squares[number])
        entry: dict[str, Any] = {
            "cells": count,
            "mean": mean,
            "mean_interval": None,
            "sd": None,
            "sd_interval": None,
        }
        if count > 1:
            variance = squares / (count - 1)
            entry["sd"] = math.sqrt(variance)
            if variance > 0:
                error = math.sqrt(variance / count)
                entry["mean_interval"] = mean_interval(mean, error, count - 1, self.confidence)
                entry["sd_interval"] = sd_interval(variance, count - 1, self.confidence)
        return entry


def estimate(
    readings: Sequence[Reading], measurement: Measurement, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate mean and spreads of one feature of one supplier.

    Parameters
    ----------
    readings : sequence of Reading
        One a cell, at least one.
    measurement : Measurement
        Of the feature; its variance is taken out.
    confidence : float
        Of all intervals.
    """
    values = [reading.value for reading in readings]
    lots = [reading.lot for reading in readings]
    sample = LotSample.of(values, lots)
    drawn = pivots(sample, confidence, gauge=measurement.pivotal)
    sd_cell, sd_lot, sd_total = _spreads(sample, measurement.variance)
    notes = _notes(sample, measurement)
    for place, distance in odd_ones(values, lots):
        notes.append(
            f"{readings[place].serial} lies {abs(distance):.1f} robust standard deviations "
            f"{'above' if distance > 0 else 'below'} its lot; it counts all the same"
        )
    return Estimate(
        sample, readings, sd_cell, sd_lot, sd_total, drawn, confidence,
        measurement.variances is not None, notes,
    )  # fmt: skip


def _spreads(sample: LotSample, gauge: float) -> tuple[float | None, float | None, float | None]:
    """Return the standard deviations of cells, lots and both."""
    if sample.cells < 2:
        return None, None, None
    if sample.within is None:
        total = max(float(sample.lot_mean_variance or 0.0) - gauge, 0.0)
        return None, None, math.sqrt(total)
    cell = max(sample.within - gauge, 0.0)
    if not sample.df_between:
        return math.sqrt(cell), None, math.sqrt(cell)
    found = maximum_likelihood(sample)
    lot = found.lot_variance if found else float(sample.lot_mean_variance or 0.0)
    return math.sqrt(cell), math.sqrt(lot), math.sqrt(lot + cell)


def _notes(sample: LotSample, measurement: Measurement) -> list[str]:
    notes = []
    if sample.lots == (NO_LOT,):
        notes.append(
            "no lot is named: no interval of the mean, and the spread is that of these cells"
        )
    elif len(sample.lots) == 1:
        notes.append(
            "one lot: no interval of the mean and nothing on how lots differ; "
            "the total spread is that of this lot"
        )
    if sample.cells < 2:
        notes.append("one cell: no spread")
    elif not sample.varies:
        notes.append("all values are equal: the spread lies below their resolution")
    elif sample.within is None:
        notes.append("one cell a lot: the spreads of cells and lots cannot be told apart")
    elif sample.within == 0:
        notes.append("equal values within lots: no interval of the spread of cells")
    elif measurement.variances and measurement.variance >= sample.within:
        notes.append("the bench scatters as much as the cells do: their own spread is not resolved")
    return notes
