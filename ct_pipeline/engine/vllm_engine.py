"""The engine on vLLM: prompts in flight together, one LoRA per stack of adapters, log-probabilities of both kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import check_lengths, check_sampling
from ct_pipeline.engine.protocol import Adapters, Completion, Sampling
from ct_pipeline.engine.vllm_base import source_of
from ct_pipeline.engine.vllm_beams import search
from ct_pipeline.engine.vllm_process import Options, VllmProcess, check_installed, process_of
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.seeds import derive_seed

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

_LEAST_TEMPERATURE = 0.01
"""Below it vLLM silently draws at this temperature."""
_CHOICES_PER_REQUEST = 128
"""MAX_LOGPROB_TOKEN_IDS of vLLM 0.32."""


class VllmEngine:
    """Draws and scores token ids for one base model and any stack of adapters on it; keeps the Engine protocol.

    The base is read from disk by vLLM alone. All engines of one base in a process share one vLLM engine, which starts at
    the first request. Sample i of a row is a request with a seed derived of the row's seed and i, so equal prompts with
    other seeds differ, and more samples only add to the first; the draws are not those of another engine.

    vLLM is asked for log-probabilities of the distribution drawn from, after temperature and nucleus. At temperature 1
    without a nucleus, and at temperature 0, these are the model's own. Otherwise `Completion.logprob` comes of a second
    pass that scores each distinct completion, since vLLM returns one kind of them only.
    """

    def __init__(
        self,
        base: BaseModel | Path | str,
        stop_ids: Sequence[int] | None = None,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        max_lora_rank: int = 64,
        gpu_memory_utilization: float | None = None,
        tensor_parallel_size: int = 1,
    ) -> None:
        """Reads the base model's configuration; no weights yet.

        Args:
            base: the folder of a base model, a Hub id with a `revision`, or a loaded base that came from one of these.
            stop_ids: tokens that end a completion; None takes the model's own. Pass `ChatFormat.stop_ids` for chats.
            revision: the commit of a Hub id.
            dtype: float32, bfloat16 or float16 on a GPU (bfloat16 if None); a CPU computes in float32.
            max_lora_rank: rank that stacks of adapters may have; a stack of a larger one (up to 512) makes the vLLM
                engine start again. On a CPU every request with adapters costs in proportion to it.
            gpu_memory_utilization: share of a GPU's memory that vLLM takes; None: nine tenths of what is free then.
            tensor_parallel_size: GPUs that share the model.

        Raises:
            ValueError: vLLM is not installed; no base model that can be served; the base is being served with other
                settings.
        """
        check_installed()
        options = Options(dtype, gpu_memory_utilization, tensor_parallel_size)
        self._process: VllmProcess = process_of(source_of(base, revision), options, max_lora_rank)
        shapes = self._process.shapes
        self.stop_ids = tuple(shapes.stop_ids if stop_ids is None else stop_ids)
        self._window = shapes.context_window
        self._vocabulary = shapes.model.config.get_text_config().vocab_size

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        adapters: Adapters | list[Adapters],
    ) -> list[list[Completion]]:
        """Draws `sampling.samples` completions of each prompt.

        Raises:
            ValueError: a prompt is empty or leaves no room for the new tokens in the context window; a bad setting, a
                temperature between 0 and 0.01; an adapter that does not fit.
        """
        check_sampling(sampling)
        _check_temperature(sampling)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        check_lengths(prompts, [sampling.max_new_tokens] * len(prompts), self._window, "new")
        loras = self._loras(adapters, len(prompts))
        if sampling.beams > 1:
            return self._search(prompts, sampling, loras)
        return self._draw(prompts, sampling, seeds, loras)

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
        if len(completions) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many completions, not {len(completions)}")
        check_lengths(prompts, [len(c) for c in completions], self._window, "completion")
        return self._scores(prompts, completions, self._loras(adapters, len(prompts)))

    def choice_logprobs(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[int], adapters: Adapters | list[Adapters]
    ) -> np.ndarray:
        """Log-probability in nats of each choice as the next token; shape (prompts, choices), float64.

        Raises:
            ValueError: a prompt is empty or fills the context window, or an adapter does not fit.
        """
        check_lengths(prompts, [1] * len(prompts), self._window, "new")
        return self._choices(prompts, choices, self._loras(adapters, len(prompts)))

    def close(self) -> None:
        """Ends the vLLM engine of this base model, for all who share it; the next request starts another."""
        self._process.close()

    def _loras(self, adapters: Adapters | list[Adapters], rows: int) -> "list[LoRARequest | None]":
        stacks = adapters if isinstance(adapters, list) else [adapters] * rows
        if len(stacks) != rows:
            raise ValueError(f"{rows} prompts need as many stacks of adapters, not {len(stacks)}")
        return self._process.loras(stacks)

    def _draw(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        loras: "Sequence[LoRARequest | None]",
    ) -> list[list[Completion]]:
        rows = [row for row in range(len(prompts)) for _ in range(sampling.samples)]
        texts, wanted = [prompts[row] for row in rows], [loras[row] for row in rows]
        params = [
            _params(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=derive_seed(seeds[row], sample) if sampling.temperature > 0 else None,
                stop_token_ids=list(self.stop_ids),
                logprobs=0,
            )
            for row in range(len(prompts))
            for sample in range(sampling.samples)
        ]
        outputs = [request.outputs[0] for request in self._process.run(texts, params, wanted)]
        drawn = [tuple(output.token_ids) for output in outputs]
        proposals = [sum(output.logprobs.logprobs) for output in outputs]
        raw = proposals
        if sampling.temperature == 0:
            proposals = [0.0] * len(raw)
        elif sampling.temperature != 1 or sampling.top_p < 1:
            raw = self._sums(rows, prompts, drawn, loras)
        completions = [
            Completion(ids, ids[-1] in self.stop_ids, logprob, proposal)
            for ids, logprob, proposal in zip(drawn, raw, proposals, strict=True)
        ]
        size = sampling.samples
        return [completions[row * size : (row + 1) * size] for row in range(len(prompts))]

    def _sums(
        self,
        rows: Sequence[int],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[tuple[int, ...]],
        loras: "Sequence[LoRARequest | None]",
    ) -> list[float]:
        distinct = list(dict.fromkeys(zip(rows, completions, strict=True)))
        scores = self._scores(
            [prompts[row] for row, _ in distinct], [ids for _, ids in distinct], [loras[row] for row, _ in distinct]
        )
        sums = {pair: float(score.sum()) for pair, score in zip(distinct, scores, strict=True)}
        return [sums[pair] for pair in zip(rows, completions, strict=True)]

    def _search(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, loras: "Sequence[LoRARequest | None]"
    ) -> list[list[Completion]]:
        def expand(pairs: list[tuple[int, tuple[int, ...]]], count: int) -> list[dict[int, float]]:
            params = _params(temperature=0, max_tokens=1, logprobs=count)
            texts = [(*prompts[row], *ids) for row, ids in pairs]
            return [
                _next_logprobs(request)
                for request in self._process.run(texts, [params] * len(pairs), [loras[row] for row, _ in pairs])
            ]

        def stop_logprobs(pairs: list[tuple[int, tuple[int, ...]]]) -> np.ndarray:
            texts = [(*prompts[row], *ids) for row, ids in pairs]
            return self._choices(texts, self.stop_ids, [loras[row] for row, _ in pairs])

        best = search(
            len(prompts),
            sampling.beams,
            sampling.max_new_tokens,
            self.stop_ids,
            self._vocabulary,
            expand,
            stop_logprobs,
        )
        return [[Completion(found.ids, found.ids[-1] in self.stop_ids, found.logprob, 0.0)] for found in best]

    def _scores(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        loras: "Sequence[LoRARequest | None]",
    ) -> list[np.ndarray]:
        rows = [row for row, completion in enumerate(completions) if len(completion)]
        texts = [(*prompts[row], *completions[row]) for row in rows]
        # The last token is asked for as a choice of the next one, so a text may fill the context window.
        params = [
            _params(
                temperature=0,
                max_tokens=1,
                prompt_logprobs=0 if len(completions[row]) > 1 else None,
                logprob_token_ids=[text[-1]],
            )
            for row, text in zip(rows, texts, strict=True)
        ]
        outputs = self._process.run([text[:-1] for text in texts], params, [loras[row] for row in rows]) if rows else []
        scores = [np.zeros(0)] * len(completions)
        for row, text, request in zip(rows, texts, outputs, strict=True):
            inner = request.prompt_logprobs.logprobs[1 - len(completions[row]) :] if len(completions[row]) > 1 else []
            scores[row] = np.array([*inner, _next_logprobs(request)[text[-1]]])
        return scores

    def _choices(
        self, texts: Sequence[Sequence[int]], choices: Sequence[int], loras: "Sequence[LoRARequest | None]"
    ) -> np.ndarray:
        table = np.zeros((len(texts), len(choices)))
        for start in range(0, len(choices) if len(texts) else 0, _CHOICES_PER_REQUEST):
            part = [int(choice) for choice in choices[start : start + _CHOICES_PER_REQUEST]]
            params = _params(temperature=0, max_tokens=1, logprob_token_ids=part)
            for row, request in enumerate(self._process.run(texts, [params] * len(texts), loras)):
                found = _next_logprobs(request)
                table[row, start : start + len(part)] = [found[choice] for choice in part]
        return table


def _params(**settings: object) -> "SamplingParams":
    from vllm import SamplingParams

    return SamplingParams(**settings, ignore_eos=True, detokenize=False, flat_logprobs=True)


def _next_logprobs(request: object) -> dict[int, float]:
    logprobs = request.outputs[0].logprobs
    return dict(zip(logprobs.token_ids, logprobs.logprobs, strict=True))


def _check_temperature(sampling: Sampling) -> None:
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        raise ValueError(f"vLLM draws at a temperature of 0 or at least {_LEAST_TEMPERATURE}: {sampling}")
