"""A model of lm-eval over our engine: its texts become our token ids, its requests our engine's calls."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ct_pipeline.engine.harness_scorer import HarnessScorer, Request
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.settings.seeds import derive_seed

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM

MOST_NEW_TOKENS = 256
"""Of a generated answer whose task names no limit: lm-eval's own."""
KNOWN_SETTINGS = frozenset({"until", "do_sample", "max_gen_toks", "temperature", "top_p"})


def harness_model(scorer: HarnessScorer, templated: bool = False, greedy: bool = True, seed: int = 0) -> "TemplateLM":
    """The model that `lm_eval.evaluator.evaluate` takes.

    A context and its continuation are tokenised together and cut where the context's own tokens end, spaces at its end
    counted to the continuation, as lm-eval does. Special tokens inside documents are broken up first.

    Args:
        scorer: the model and its adapters.
        templated: whether contexts are texts of `apply_chat_template`, whose control tokens are meant.
        greedy: whether `is_greedy` is looked for; without, it is False.
        seed: of sampled answers.
    """
    from lm_eval.api.model import TemplateLM

    class EngineLM(TemplateLM):
        """Keeps lm-eval's contract for one model and adapter stack."""

        @property
        def eot_token_id(self) -> int:
            return scorer.chat.stop_ids[0]

        @property
        def prefix_token_id(self) -> int:
            return scorer.chat.prefix_id

        @property
        def tokenizer_name(self) -> str:
            return scorer.chat.template_hash

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_unused: object) -> list[int]:
            own = add_special_tokens is not False and not templated
            return list(scorer.chat.text_ids(string, neutral=templated, opened=own))

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            turns = [Message(turn["role"], turn["content"]) for turn in chat_history]
            return scorer.chat.rendered(turns, continued=not add_generation_prompt)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            kept = len(context.rstrip())
            context, continuation = context[:kept], context[kept:] + continuation
            if not templated:
                context = scorer.chat.neutralised(context)
            whole = f"{context}{scorer.chat.neutralised(continuation)}"
            start, both = (scorer.chat.text_ids(text, neutral=True, opened=not templated) for text in (context, whole))
            return list(start) or [self.prefix_token_id], list(both[len(start) :])

        def _loglikelihood_tokens(self, requests: list, **_unused: object) -> list[tuple[float, bool]]:
            return scorer.loglikelihoods([(tuple(start), tuple(end)) for _, start, end in requests], greedy)

        def loglikelihood_rolling(self, requests: "list[Instance]", disable_tqdm: bool = False) -> list[float]:
            return _rolling(self, scorer, [request.args[0] for request in requests])

        def generate_until(self, requests: "list[Instance]", disable_tqdm: bool = False) -> list[str]:
            return scorer.texts(_requests(self, [request.args for request in requests], seed))

    return EngineLM()


def _rolling(model: "TemplateLM", scorer: HarnessScorer, texts: Sequence[str]) -> list[float]:
    """The log-likelihood of whole texts, each token predicted once, from as much before it as the window holds."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    owners, windows = [], []
    for owner, text in enumerate(texts):
        ids = model.tok_encode(text)
        for window in get_rolling_token_windows(ids, model.prefix_token_id, scorer.window - 1, 1):
            context, continuation = make_disjoint_window(window)
            owners.append(owner)
            windows.append((tuple(context), tuple(continuation)))
    totals = [0.0] * len(texts)
    for owner, (value, _) in zip(owners, scorer.loglikelihoods(windows, False), strict=True):
        totals[owner] += value
    return totals


def _requests(model: "TemplateLM", asked: Sequence[tuple[str, Mapping]], seed: int) -> list[Request]:
    """Requests in our terms; a text that is asked for several times is drawn under as many seeds."""
    from lm_eval.models.utils import normalize_gen_kwargs

    met: Counter[str] = Counter()
    requests = []
    for context, given in asked:
        settings = normalize_gen_kwargs(dict(given), MOST_NEW_TOKENS)
        if strange := sorted(set(settings) - KNOWN_SETTINGS):
            raise ValueError(
                f"generation_kwargs: found {', '.join(strange)}; allowed: {', '.join(sorted(KNOWN_SETTINGS))}"
            )
        met[context] += 1
        requests.append(
            Request(
                context=tuple(model.tok_encode(context)) or (model.prefix_token_id,),
                stops=tuple(settings.get("until") or ()),
                max_new_tokens=int(settings["max_gen_toks"]),
                temperature=float(settings["temperature"]) if settings.get("do_sample") else 0.0,
                top_p=float(settings.get("top_p", 1.0)),
                seed=derive_seed(seed, context, met[context]),
            )
        )
    return requests
