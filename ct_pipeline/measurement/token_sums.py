"""Token-wise KL between two laws along responses, summed to one row per response."""

from collections.abc import Sequence

import pandas

from ct_pipeline.engine.token_divergence import Distribution, token_divergences
from ct_pipeline.models.loading import BaseModel


def token_sums(
    base: BaseModel, p: Distribution, q: Distribution, prompt_ids: Sequence[str], responses: Sequence[Sequence[int]]
) -> pandas.DataFrame:
    """One row per response that was drawn from `p`: prompt_id, tokens, nats; what `divergence.of_token_sums` takes."""
    sums = [float(values.sum()) for values in token_divergences(base, p, q, responses)]
    return pandas.DataFrame({"prompt_id": prompt_ids, "tokens": list(map(len, responses)), "nats": sums})
