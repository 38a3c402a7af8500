"""The numbers of the published study, to stand beside our own.

Source: Africa & Mani, "Consistency Training Can Entrench Misalignment", arXiv 2606.03810 (ICML 2026). Only what the
paper states is here; everything else is None.
"""

from dataclasses import dataclass

import pandas as pd

SOURCE = "arXiv 2606.03810"
SOURCE_URL = "https://arxiv.org/abs/2606.03810"


@dataclass(frozen=True)
class PublishedKind:
    """What the paper reports for one kind of organism.

    `share_suppressed` is the share of runs in which Δ was below 0; `mean_change` maps a method's name to its mean Δ in
    percentage points; `remark` is a statement that has no number per method.
    """

    kind: str
    runs: int
    share_suppressed: float
    mean_change: dict[str, float]
    remark: str | None


PUBLISHED = (
    PublishedKind(
        "reward_hacking",
        175,
        0.63,
        {
            "diverse_decoding": -27.7,
            "self_refinement": -11.6,
            "act": -55.2,
            "bct": -48.5,
            "greedy_self_training": -7.1,
        },
        None,
    ),
    PublishedKind(
        "emergent_misalignment",
        160,
        0.72,
        {"self_refinement": -5.3, "act": -17.2, "bct": -17.5, "greedy_self_training": -0.8},
        None,
    ),
    PublishedKind("spurious_correlation", 173, 0.50, {}, "changes near 0"),
    PublishedKind(
        "sycophancy",
        174,
        0.25,
        {"self_confidence": 4.2, "self_refinement": 7.8, "act": 18.8, "bct": 10.0, "greedy_self_training": -0.7},
        "base models +19.8, instruct models −0.2",
    ),
)


def published_kind(kind: str) -> PublishedKind | None:
    """What the paper reports for a kind of organism; None for a kind it did not study."""
    return next((one for one in PUBLISHED if one.kind == kind), None)


def published_change(kind: str, method: str) -> float | None:
    """The published mean Δ of a kind and method in percentage points; None where the paper gives none."""
    found = published_kind(kind)
    return None if found is None else found.mean_change.get(method)


def published_table(methods: tuple[str, ...]) -> pd.DataFrame:
    """The published numbers as rows of kind × method.

    Returns:
        Columns kind, method, mean_change_pp, share_suppressed, runs, remark, source; share and runs belong to the
        whole kind.
    """
    rows = [
        {
            "kind": one.kind,
            "method": method,
            "mean_change_pp": one.mean_change.get(method),
            "share_suppressed": one.share_suppressed,
            "runs": one.runs,
            "remark": one.remark,
            "source": SOURCE,
        }
        for one in PUBLISHED
        for method in methods
    ]
    return pd.DataFrame(rows).astype({"mean_change_pp": "Float64"}) if rows else pd.DataFrame()
