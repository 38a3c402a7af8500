"""The published numbers as printed in arXiv 2606.03810."""

import pandas as pd

from ct_pipeline.analysis.published import published_change, published_kind, published_table


def test_published_numbers_are_those_of_the_paper():
    assert published_change("reward_hacking", "act") == -55.2
    assert published_change("sycophancy", "self_refinement") == 7.8
    assert published_kind("emergent_misalignment").runs == 160


def test_what_the_paper_does_not_state_is_missing():
    assert published_change("spurious_correlation", "act") is None
    assert published_change("sycophancy", "null") is None
    assert published_change("unheard_of", "act") is None
    assert published_kind("unheard_of") is None


def test_the_table_keeps_missing_numbers_missing():
    table = published_table(("act", "null")).set_index(["kind", "method"])
    assert table.loc[("sycophancy", "act"), "mean_change_pp"] == 18.8
    assert table.loc[("sycophancy", "null"), "mean_change_pp"] is pd.NA
    assert table["runs"].groupby("kind").first().sum() == 175 + 160 + 173 + 174
