"""Supervised fine-tuning on label rows: how organisms are made and how labels retrain them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import Trainee
from ct_pipeline.training.examples import LabelRow
from ct_pipeline.training.loss import Objective
from ct_pipeline.training.pairs import IGNORED, logits_at, padded, response_tokens
from ct_pipeline.training.sharding import compute_device

if TYPE_CHECKING:
    import torch

Texts = list[tuple[int, ...]]


@dataclass(frozen=True)
class Labels:
    """−log p of the trained tokens, averaged over those of the effective batch (arXiv 2606.03810, phases 1 and 3).

    Trained are the completion tokens, end-of-sequence token included; with the settings' `loss_on` = sequence the prompt
    tokens too, all but the first, as in the paper's released code.
    """

    def check(self, base: BaseModel, rows: Sequence[LabelRow]) -> None:
        """Refuses rows that cannot be trained on.

        Raises:
            ValueError: no rows, or a row with an empty prompt or completion, or one longer than the context window.
        """
        if not rows:
            raise ValueError("there are no rows to train on")
        for number, row in enumerate(rows):
            if not row.prompt_ids:
                raise ValueError(f"row {number}: the prompt is empty")
            if not row.completion_ids:
                raise ValueError(f"row {number}: the completion is empty")
            if len(row.ids) > base.context_window:
                raise ValueError(
                    f"row {number}: {len(row.ids)} tokens exceed the context window of {base.context_window}"
                )

    @contextmanager
    def begin(self, trainee: Trainee, rows: Sequence[LabelRow], settings: TrainingSettings) -> Iterator[Objective]:
        """The objective; nothing beyond what every run asserts has to hold."""
        prompts, answers = _split(rows, settings.loss_on)
        yield Objective(
            collated=lambda numbers: padded([prompts[n] for n in numbers], [answers[n] for n in numbers], "right"),
            items=lambda batch: (batch["labels"] != IGNORED).sum(),
            summed=_minus_log_p,
            tokens=sum(map(len, answers)),
            of_trl=_has_fused_kernel(compute_device(trainee.base)) or _balances_experts(trainee.base),
        )


def _split(rows: Sequence[LabelRow], loss_on: Literal["response", "sequence"]) -> tuple[Texts, Texts]:
    """What each row is conditioned on, and what of it is trained; the first token is predicted by nothing."""
    if loss_on == "response":
        return [row.prompt_ids for row in rows], [row.completion_ids for row in rows]
    return [row.ids[:1] for row in rows], [row.ids[1:] for row in rows]


def _minus_log_p(model: "torch.nn.Module", batch: dict) -> "torch.Tensor":
    from torch.nn import functional

    # A token is predicted one position before it.
    places = (batch["labels"][:, 1:] != IGNORED).nonzero().T
    return functional.cross_entropy(logits_at(model, batch, places), response_tokens(batch), reduction="sum")


def _has_fused_kernel(device: "torch.device") -> bool:
    """Whether TRL's loss skips untrained positions there; elsewhere it projects every position onto the vocabulary."""
    return device.type != "cpu"


def _balances_experts(base: BaseModel) -> bool:
    """Whether TRL adds the loss that spreads tokens over a mixture's experts."""
    config = base.model.config.get_text_config()
    return hasattr(config, "output_router_logits") and getattr(config, "router_aux_loss_coef", 0.0) != 0.0
