"""What a cell's stored rows say to a reader: completions that differ, and what the labels were."""

import pandas

from ct_pipeline.measurement.condition import GREEDY
from ct_pipeline.measurement.risk_rows import risk_rows

PAIR = ["prompt_id", "decoding", "sample"]


def differing_rows(before: pandas.DataFrame, after: pandas.DataFrame) -> pandas.DataFrame:
    """Completions that changed between two evaluation tables; changed verdicts come first, then greedy ones.

    Columns: prompt, decoding, and completion_/verdict_/correct_ with _before and _after.
    """
    sides = ["completion", "verdict", "correct"]
    merged = risk_rows(before.merge(after[PAIR + sides], on=PAIR, suffixes=("_before", "_after")), None)
    merged = merged[merged["completion_before"] != merged["completion_after"]]
    turned = (merged["verdict_before"] != merged["verdict_after"]).fillna(True)
    order = merged.assign(same=~turned.astype(bool), drawn=merged["decoding"] != GREEDY.name)
    return order.sort_values(["same", "drawn"], kind="stable")[
        ["prompt", "decoding", *(f"{name}_{side}" for name in sides for side in ("before", "after"))]
    ].reset_index(drop=True)
