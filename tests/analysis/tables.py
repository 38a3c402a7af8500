"""Tables of verdicts for tests."""

import pandas as pd


def table(verdicts_by_prompt: dict[str, list]) -> pd.DataFrame:
    """One row per verdict, in the order given."""
    rows = [(prompt, verdict) for prompt, verdicts in verdicts_by_prompt.items() for verdict in verdicts]
    return pd.DataFrame(
        {"prompt": [row[0] for row in rows], "verdict": pd.Series([row[1] for row in rows], dtype="object")}
    )


def singles(verdicts: list) -> pd.DataFrame:
    """One verdict per prompt; prompts are numbered."""
    return table({f"p{index}": [verdict] for index, verdict in enumerate(verdicts)})
