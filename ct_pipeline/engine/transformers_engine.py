"""The engine on transformers models: its own decode loop with adapters merged into copies of the base weights."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import Share, check_lengths, left_padded, shares_by_length
from ct_pipeline.engine.drawing import draw, uniform_numbers
from ct_pipeline.engine.kv_cache import expanded_cache, full_length_cache, keep_rows
from ct_pipeline.engine.protocol import Adapters, Completion, Sampling
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, with_adapters
from ct_pipeline.models.loading import BaseModel, load_base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_CPU_TOKENS = 16_384
_SCORED_TOKENS = {"cpu": 4096, "cuda": 131_072}
"""Most positions of one forward pass without a cache; on a CPU more of them fall out of its cache and take longer."""
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
    ) -> None:
        """Opens an engine; the base model is loaded at most once per process.

        Args:
            base: a loaded base model or its folder.
            stop_ids: tokens that end a completion; None takes the model's own. Pass `ChatFormat.stop_ids` for chats.
            most_tokens: most cached positions of one batch; None measures the free memory.
            held_adapters: how many adapted models are kept for later calls.
        """
        self.base = load_base(base)
        self.stop_ids = tuple(self.base.stop_ids if stop_ids is None else stop_ids)
        self._most_tokens = most_tokens or _affordable_tokens(self.base)
        self._scored_tokens = min(self._most_tokens, _SCORED_TOKENS[self.base.device.type])
        self._held_adapters = held_adapters
        self._adapted: OrderedDict[tuple, PreTrainedModel] = OrderedDict()

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int], adapters: Adapters
    ) -> list[list[Completion]]:
        """Draws `sampling.samples` completions of each prompt.

        A row's random numbers depend on its seed alone, so its draws do not depend on its neighbours, and two models
        that draw with the same seeds are paired. Log-probabilities are of float32 logits, summed in float64.

        Raises:
            ValueError: a prompt is empty or leaves no room for the new tokens in the context window; a bad setting.
        """
        import torch

        _check_sampling(sampling)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        new = sampling.max_new_tokens
        check_lengths(prompts, [new] * len(prompts), self.base.context_window, "new")
        model = self._model(adapters)
        completions: list[list[Completion]] = [[] for _ in prompts]
        # The logits of all rows of a step are alive at once.
        vocabulary = self.base.model.config.get_text_config().vocab_size
        rows = max(_LOGITS[self.base.device.type] // vocabulary, 1)
        longest = max(map(len, prompts), default=0) + new
        most_tokens = min(self._most_tokens, rows * longest)
        with torch.inference_mode():
            for batch in shares_by_length([len(p) for p in prompts], sampling.samples, new, most_tokens):
                for share, drawn in zip(batch, self._decode(model, batch, prompts, seeds, sampling), strict=True):
                    completions[share.row] += drawn
        return completions

    def score(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], adapters: Adapters
    ) -> list[np.ndarray]:
        """Log-probability in nats of each completion token given all before it, at temperature 1; float64, per row.

        Raises:
            ValueError: a prompt is empty, or a row exceeds the context window.
        """
        import torch

        check_lengths(prompts, [len(c) for c in completions], self.base.context_window, "completion")
        model = self._model(adapters)
        scores: list[np.ndarray] = [np.zeros(0)] * len(prompts)
        with torch.inference_mode():
            for rows, logits in self._forward(model, prompts, completions):
                for row, row_logits in zip(rows, logits, strict=True):
                    ids = torch.as_tensor(list(completions[row]), device=row_logits.device)
                    # The last position predicts what would come after the completion.
                    kept = row_logits[-1 - len(ids) : -1].float()
                    chosen = kept.gather(-1, ids[:, None]).squeeze(-1) - kept.logsumexp(-1)
                    scores[row] = chosen.double().cpu().numpy()
        return scores

    def choice_logprobs(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[int], adapters: Adapters
    ) -> np.ndarray:
        """Log-probability in nats of each choice as the next token; shape (prompts, choices), float64."""
        import torch

        check_lengths(prompts, [1] * len(prompts), self.base.context_window, "new")
        model = self._model(adapters)
        found = np.zeros((len(prompts), len(choices)))
        with torch.inference_mode():
            for rows, logits in self._forward(model, prompts, [()] * len(prompts)):
                logprobs = logits[:, -1].float().log_softmax(-1)[:, list(choices)]
                found[rows] = logprobs.double().cpu().numpy()
        return found

    def _forward(
        self, model: "PreTrainedModel", prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> "Iterator[tuple[list[int], torch.Tensor]]":
        vocabulary = self.base.model.config.get_text_config().vocab_size
        positions = max(_LOGITS[self.base.device.type] // vocabulary, 1)
        texts = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
        for batch in shares_by_length([len(t) for t in texts], 1, 0, self._scored_tokens):
            kept = 1 + max(len(completions[share.row]) for share in batch)
            size = max(positions // kept, 1)
            for start in range(0, len(batch), size):
                rows = [share.row for share in batch[start : start + size]]
                ids, mask, position_ids = left_padded([texts[row] for row in rows], self.base.device)
                yield (
                    rows,
                    model(
                        input_ids=ids,
                        attention_mask=mask,
                        position_ids=position_ids,
                        use_cache=False,
                        logits_to_keep=kept,
                    ).logits,
                )

    def _decode(
        self,
        model: "PreTrainedModel",
        batch: Sequence[Share],
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[list[Completion]]:
        import torch

        device, new = self.base.device, sampling.max_new_tokens
        ids, mask, position_ids = left_padded([prompts[share.row] for share in batch], device)
        cache = full_length_cache(self.base.model.config.get_text_config().num_hidden_layers)
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        counts = torch.tensor([share.samples for share in batch], device=device)
        width, rows = ids.shape[1], int(counts.sum())
        cache = expanded_cache(cache, counts, width + new)
        logits = logits.repeat_interleave(counts, 0)
        mask = torch.cat([mask, mask.new_ones(len(mask), new)], 1).repeat_interleave(counts, 0)
        lengths = position_ids[:, -1].repeat_interleave(counts, 0) + 1
        uniforms = torch.from_numpy(_uniforms(batch, seeds, sampling)).to(device)
        stops = torch.tensor(self.stop_ids, device=device)
        drawn = torch.zeros(rows, new, dtype=torch.int64, device=device)
        counted = torch.zeros(rows, dtype=torch.int64, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        raw = torch.zeros(rows, dtype=torch.float64, device=device)
        proposal = torch.zeros(rows, dtype=torch.float64, device=device)
        alive = torch.arange(rows, device=device)
        for step in range(new):
            tokens, logprob, proposal_logprob = draw(
                logits.float(), uniforms[alive, step], sampling.temperature, sampling.top_p
            )
            drawn[alive, step] = tokens
            counted[alive] = step + 1
            raw[alive] += logprob
            proposal[alive] += proposal_logprob
            finished = torch.isin(tokens, stops)
            ended[alive] = finished
            left = len(alive) - int(finished.sum())
            if left == 0 or step + 1 == new:
                break
            if left < len(alive):
                # The last living rows move into the places of the finished ones, so a step copies few rows.
                holes = finished[:left].nonzero().squeeze(1)
                movers = left + (~finished[left:]).nonzero().squeeze(1)
                for tensor in (alive, tokens, mask, lengths):
                    tensor[holes] = tensor[movers]
                alive, tokens, mask, lengths = alive[:left], tokens[:left], mask[:left], lengths[:left]
                keep_rows(cache, left, holes, movers)
            logits = model(
                input_ids=tokens[:, None],
                attention_mask=mask[:, : width + step + 1],
                position_ids=(lengths + step)[:, None],
                past_key_values=cache,
            ).logits[:, -1]
        results = zip(drawn.tolist(), counted.tolist(), ended.tolist(), raw.tolist(), proposal.tolist(), strict=True)
        flat = iter([Completion(tuple(row[:count]), end, lp, q) for row, count, end, lp, q in results])
        return [[next(flat) for _ in range(share.samples)] for share in batch]

    def _model(self, adapters: Adapters) -> "PreTrainedModel":
        if not adapters:
            return self.base.model
        # A folder that was overwritten under the same name must not be served from memory.
        key = tuple(
            (
                str(folder),
                *(
                    (folder / name).stat().st_mtime_ns
                    for name in (WEIGHTS_FILE, CONFIG_FILE)
                    if (folder / name).exists()
                ),
            )
            for folder in map(Path, adapters)
        )
        if key not in self._adapted:
            while len(self._adapted) >= self._held_adapters:
                self._adapted.popitem(last=False)
            self._adapted[key] = with_adapters(self.base, [Path(folder) for folder in adapters])
        self._adapted.move_to_end(key)
        return self._adapted[key]


def _uniforms(batch: Sequence[Share], seeds: Sequence[int], sampling: Sampling) -> np.ndarray:
    if sampling.temperature == 0:
        return np.zeros((sum(share.samples for share in batch), sampling.max_new_tokens))
    return np.concatenate(
        [
            uniform_numbers(seeds[share.row], share.first + share.samples, sampling.max_new_tokens)[share.first :]
            for share in batch
        ]
    )


def _check_sampling(sampling: Sampling) -> None:
    if sampling.samples < 1 or sampling.max_new_tokens < 1:
        raise ValueError(f"samples and max_new_tokens are at least 1: {sampling}")
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise ValueError(f"temperature is at least 0 and top_p in (0, 1]: {sampling}")
    if sampling.temperature == 0 and sampling.samples > 1:
        raise ValueError(f"greedy decoding has one completion, not {sampling.samples}")


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
