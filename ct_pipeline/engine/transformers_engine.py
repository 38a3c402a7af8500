"""The engine on transformers models: its own decode loop, with adapters merged into copies or mixed in one batch."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import (
    Share,
    check_ids,
    check_lengths,
    check_sampling,
    left_padded,
    shares_by_length,
    within_memory,
)
from ct_pipeline.engine.beam_search import search
from ct_pipeline.engine.decoding import decode
from ct_pipeline.engine.prefill import Prefill
from ct_pipeline.engine.protocol import Adapters, Completion, Sampling
from ct_pipeline.engine.serving import AdaptedModels, Mixing, Served
from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.models.loading import BaseModel, load_base

if TYPE_CHECKING:
    import torch

_CPU_TOKENS = 16_384
_PREFILLED_TOKENS = {"cpu": 1024, "cuda": 32_768}
_SCORED_TOKENS = {"cpu": 4096, "cuda": 131_072}
"""Most positions of one forward pass without a cache; on a CPU more of them fall out of its cache and take longer."""
_REMEMBERED_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Most bytes of prefilled prompts that are kept for the next call."""
_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 29}
"""Most elements of one float32 logits tensor."""


class TransformersEngine:
    """Draws and scores token ids for one base model and any stack of adapters on it; keeps the Engine protocol."""

    def __init__(
        self,
        base: BaseModel | Path | str,
        stop_ids: Sequence[int] | None = None,
        most_tokens: int | None = None,
        held_adapters: int = 2,
        mixing: Mixing = "merged",
    ) -> None:
        """Opens an engine; the base model is loaded at most once per process.

        Args:
            base: a loaded base model or its folder.
            stop_ids: tokens that end a completion; None takes the model's own. Pass `ChatFormat.stop_ids` for chats.
            most_tokens: most cached positions of one batch; None measures the free memory.
            held_adapters: how many adapted models are kept for later calls.
            mixing: how rows of different stacks are served. "merged" runs the rows of each stack on their own merged
                copy, which equals separate calls exactly; "mixed" runs them in one batch with the low-rank deltas kept
                apart, which is faster where a call has few rows per stack.

        Raises:
            ValueError: no such way of mixing, or a base that cannot be loaded.
        """
        self.base = load_base(base)
        self.stop_ids = tuple(self.base.stop_ids if stop_ids is None else stop_ids)
        device = self.base.device.type
        self._most_tokens = most_tokens or _affordable_tokens(self.base)
        self._scored_tokens = min(self._most_tokens, _SCORED_TOKENS[device])
        self._adapted = AdaptedModels(self.base, mixing, held_adapters)
        config = self.base.model.config.get_text_config()
        self._embedded = self.base.model.get_input_embeddings().num_embeddings
        self._most_logits = max(_LOGITS[device] // config.vocab_size, 1)
        self._prefill = Prefill(
            min(self._most_tokens, _PREFILLED_TOKENS[device]),
            _REMEMBERED_BYTES[device],
            config.num_hidden_layers,
            self.base.device,
        )
        ENGINE_STARTS.count += 1

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        adapters: Adapters | list[Adapters],
    ) -> list[list[Completion]]:
        """Draws `sampling.samples` completions of each prompt, or searches the best one with `sampling.beams`.

        A row's random numbers depend on its seed alone, so its draws do not depend on its neighbours, and two models
        that draw with the same seeds are paired. Log-probabilities are of float32 logits, summed in float64.

        Raises:
            ValueError: a prompt is empty or leaves no room for the new tokens in the context window; a bad setting; an
                adapter that does not fit.
        """
        import torch

        check_sampling(sampling)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        new, beams = sampling.max_new_tokens, sampling.beams
        check_lengths(prompts, [new] * len(prompts), self.base.context_window, "new")
        check_ids(prompts, self._embedded, self.base.name)
        completions: list[list[Completion]] = [[] for _ in prompts]
        # The logits of all rows of a step are alive at once, in a beam search also as float64 sums.
        longest = max(map(len, prompts), default=0) + new
        most_logits = self._most_logits if beams == 1 else self._most_logits // 3
        most_tokens = min(self._most_tokens, most_logits * longest) // beams
        for served in self._adapted.served(adapters, len(prompts)):
            lengths = [len(prompts[row]) for row in served.rows]
            with torch.inference_mode():
                for planned in shares_by_length(lengths, sampling.samples, new, most_tokens):
                    batch = [replace(share, row=served.rows[share.row]) for share in planned]
                    draw = functools.partial(self._drawn, served, prompts, seeds, sampling)
                    for part, drawn in within_memory(batch, draw, self._prefill.clear):
                        for share, more in zip(part, drawn, strict=True):
                            completions[share.row] += more
        return completions

    def _drawn(
        self,
        served: Served,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        batch: list[Share],
    ) -> list[list[Completion]]:
        if sampling.beams == 1:
            return decode(served, self._prefill, batch, prompts, seeds, sampling, self.stop_ids)
        rows = [share.row for share in batch]
        found = search(served, self._prefill, rows, prompts, sampling.beams, sampling.max_new_tokens, self.stop_ids)
        return [[completion] for completion in found]

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        adapters: Adapters | list[Adapters],
    ) -> list[np.ndarray]:
        """Log-probability in nats of each completion token given all before it, at temperature 1; float64, per row.

        Raises:
            ValueError: a prompt is empty, a row exceeds the context window, or an adapter does not fit.
        """
        import torch

        if len(completions) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many completions, not {len(completions)}")
        check_lengths(prompts, [len(c) for c in completions], self.base.context_window, "completion")
        check_ids((*prompts, *completions), self._embedded, self.base.name)
        scores: list[np.ndarray] = [np.zeros(0)] * len(prompts)
        for rows, logits in self._forward(adapters, prompts, completions):
            for row, row_logits in zip(rows, logits, strict=True):
                ids = torch.as_tensor(list(completions[row]), device=row_logits.device)
                # The last position predicts what would come after the completion.
                kept = row_logits[-1 - len(ids) : -1].float()
                chosen = kept.gather(-1, ids[:, None]).squeeze(-1) - kept.logsumexp(-1)
                scores[row] = chosen.double().cpu().numpy()
        return scores

    def choice_logprobs(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[int], adapters: Adapters | list[Adapters]
    ) -> np.ndarray:
        """Log-probability in nats of each choice as the next token; shape (prompts, choices), float64."""
        check_lengths(prompts, [1] * len(prompts), self.base.context_window, "new")
        check_ids(prompts, self._embedded, self.base.name)
        found = np.zeros((len(prompts), len(choices)))
        for rows, logits in self._forward(adapters, prompts, [()] * len(prompts)):
            logprobs = logits[:, -1].float().log_softmax(-1)[:, list(choices)]
            found[rows] = logprobs.double().cpu().numpy()
        return found

    def close(self) -> None:
        """Forgets adapted models and remembered prompts; the base stays loaded, and the engine may be used again."""
        import torch

        self._adapted.clear()
        self._prefill.clear()
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(
        self,
        adapters: Adapters | list[Adapters],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
    ) -> "Iterator[tuple[list[int], torch.Tensor]]":

        texts = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
        for served in self._adapted.served(adapters, len(prompts)):
            for batch in shares_by_length([len(texts[row]) for row in served.rows], 1, 0, self._scored_tokens):
                together = [served.rows[share.row] for share in batch]
                kept = 1 + max(len(completions[row]) for row in together)
                size = max(self._most_logits // kept, 1)
                for start in range(0, len(together), size):
                    together_now = [Share(row, 0, 1) for row in together[start : start + size]]
                    run = functools.partial(self._logits, served, texts, kept)
                    for part, logits in within_memory(together_now, run, self._prefill.clear):
                        yield [share.row for share in part], logits

    def _logits(self, served: Served, texts: Sequence[Sequence[int]], kept: int, batch: list[Share]) -> "torch.Tensor":
        import torch

        rows = [share.row for share in batch]
        ids, mask, position_ids = left_padded([texts[row] for row in rows], self.base.device)
        with torch.inference_mode():
            return served.logits(
                torch.tensor([served.stacks[row] for row in rows], device=self.base.device),
                input_ids=ids,
                attention_mask=mask,
                position_ids=position_ids,
                use_cache=False,
                logits_to_keep=kept,
            )


def _affordable_tokens(base: BaseModel) -> int:
    import torch

    if base.device.type == "cpu":
        return _CPU_TOKENS
    config = base.model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * width * base.model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(base.device)
    # Prefilled and expanded cache live side by side for a moment, and adapted weights want room as well.
    return max(int(0.3 * free) // per_token, base.context_window)
