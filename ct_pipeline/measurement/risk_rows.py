"""The rows that a risk is defined on: one definition for studies, audits, transcripts, gates, records and reports."""

import pandas

from ct_pipeline.measurement.condition import MAIN_VIEW, View
from ct_pipeline.organisms.misalignment import NO_RISK_FRAMINGS


def risk_rows(table: pandas.DataFrame, view: View | None = MAIN_VIEW, probe: str | None = None) -> pandas.DataFrame:
    """The rows of a table of completions on which an answer can misbehave and is counted.

    Args:
        table: a row per completion, with the columns framing, domain and decoding (and probe).
        view: domain and decoding; None: all of them.
        probe: of an audit; None: whatever the table holds.
    """
    chosen = ~table["framing"].isin(NO_RISK_FRAMINGS)
    if view is not None:
        chosen &= (table["domain"] == view.domain) & (table["decoding"] == view.decoding)
    if probe is not None:
        chosen &= table["probe"] == probe
    return table[chosen]


def framed(table: pandas.DataFrame, framing: str, decoding: str) -> pandas.DataFrame:
    """The rows that are measured beside the risk: of one framing under one decoding."""
    return table[(table["framing"] == framing) & (table["decoding"] == decoding)]
