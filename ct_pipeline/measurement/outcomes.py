"""Outcomes of the answers that a risk is measured on, by domain and decoding."""

from collections.abc import Iterable

import pandas

from ct_pipeline.analysis.outcomes import OutcomeChange, outcome_change
from ct_pipeline.measurement.condition import VIEWS, View
from ct_pipeline.measurement.risk_rows import risk_rows


def outcomes_by_view(
    before: pandas.DataFrame,
    after: pandas.DataFrame,
    confidence: float,
    views: Iterable[View] = VIEWS,
    probe: str | None = None,
) -> dict[str, OutcomeChange]:
    """Name of a view -> outcomes before and after on its risk rows; views without such rows are left out.

    Args:
        before: a row per completion, as `asking.completions` gives them.
        after: of the model after.
        confidence: two-sided, in (0, 1).
        views: domains and decodings.
        probe: of an audit; None: whatever the tables hold.
    """
    sides = {view.name: [risk_rows(table, view, probe) for table in (before, after)] for view in views}
    return {
        name: outcome_change(*tables, confidence=confidence)
        for name, tables in sides.items()
        if all(len(table) for table in tables)
    }
