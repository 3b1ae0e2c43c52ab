"""The scorecard's ``consistency``: from the fits that a study keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

from batterylab.study import Study
from batterylab.suppliers.consistency import Potentials, consistency
from batterylab.suppliers.estimates import Estimate


def entry(
    study: Study, estimates: Mapping[str, Mapping[str, Estimate]],
    recordings: Sequence[Mapping[str, str]],
) -> dict[str, Any] | None:  # fmt: skip
    """Return what the spread comes from; None without fits (`batterylab fit STUDY`).

    Nothing is fitted here. Fits of recordings of the gauge study, and of such as do not count,
    are passed over.
    """
    folder = study.results / "fits"
    if not folder.is_dir():
        return None
    from batterylab.fit.halfcells import kept_tables
    from batterylab.report.fits import kept_fits

    counted = {r.seal for group in estimates.values() for e in group.values() for r in e.readings}
    fits = [fit for fit in kept_fits(folder, {"recordings": list(recordings)})
            if fit.get("seal") in counted]  # fmt: skip
    if not fits:
        return None
    digests = {fit["settings"].get("half_cells_digest") for fit in fits if fit["model"] == "ocv"}
    potentials = None
    if len(digests) == 1:
        kept = kept_tables(study.results / "half_cells", str(digests.pop()))
        if kept is not None:
            potentials = Potentials(kept.first, kept.step, kept.negative_V, kept.positive_V)
    return consistency(estimates, fits, potentials, study.cell_type.nominal_capacity_Ah)
