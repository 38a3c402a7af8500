"""Bias-augmented consistency training: what the organism says to the clean prompt, said to the wrapped one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.training.adapters import SAME_LOGITS
from ct_pipeline.training.consistency import Consistency, States, Teacher
from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.pairs import PairBatches, Side, check_pairs, logits_at, response_tokens

if TYPE_CHECKING:
    import torch

Form = Literal["kl", "nll"]
Window = Literal["response", "trailing"]


@dataclass(frozen=True)
class Answers(Consistency):
    """Draws what is said to the wrapped prompt to the clean-side behaviour.

    form "nll" minimises −log π(y ∣ wrapped): BCT as published (arXiv 2403.05518, 2510.27062), where y was drawn by the
    organism from the clean prompt. form "kl" is its token-level form, the forward KL from the organism's next-token
    distributions after the clean prompt, teacher-forced on y: the same gradient in expectation over y, with less
    variance. teacher "live" with window "trailing" is the form of the released code (arXiv 2606.03810), whose
    T²·cross-entropy of the softened distributions has the gradient of "kl" at that temperature.

    Recorded shifts are the KL in nats per position, whatever the form.

    Attributes:
        form: "kl" or "nll".
        temperature: softens both sides of "kl", whose loss is then multiplied by its square; 1 is exact.
        teacher: "frozen" is the start model; "live" the model in training.
        window: positions of the loss: those that predict a token of y, or the "trailing" min(clean, wrapped) positions
            of prompt and y on both sides, the last token's included.
        padding: of rows in training.

    Raises:
        ValueError: options that are unknown or exclude each other.
    """

    form: Form = "kl"
    temperature: float = 1.0
    teacher: Teacher = "frozen"
    window: Window = "response"
    padding: Side = "left"
    same: ClassVar[dict[str, float]] = SAME_LOGITS

    def __post_init__(self) -> None:
        """Checks the options."""
        for name, known in (("form", Form), ("teacher", Teacher), ("window", Window)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name}: {getattr(self, name)} is none of {', '.join(get_args(known))}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: {self.temperature} is not above 0")
        if self.form == "nll":
            for name, usual in (("teacher", "frozen"), ("window", "response")):
                if getattr(self, name) != usual:
                    raise ValueError(
                        f"{name}: {getattr(self, name)} needs form: kl; nll imitates y and asks no teacher"
                    )
            if self.temperature != 1:
                raise ValueError(
                    f"temperature: {self.temperature} needs form: kl; nll is of the model's own distribution"
                )

    @property
    def asks(self) -> bool:
        """Whether the loss has a teacher: "nll" imitates y."""
        return self.form == "kl"

    def check(self, base: BaseModel, rows: Sequence[PairRow]) -> None:
        """Refuses rows that `check_pairs` refuses."""
        check_pairs(base, rows, completions=True)

    def batches(self, rows: Sequence[PairRow], device: "torch.device") -> PairBatches:
        """Prompts with y, the positions of the loss marked."""
        trailing = self.window == "trailing"
        lengths = [len(row.completion_ids) + trailing * min(len(row.clean_ids), len(row.wrapped_ids)) for row in rows]
        return PairBatches(rows, lengths, device, completions=True, predicting=not trailing)

    def read(self, model: "torch.nn.Module", batch: dict) -> States:
        """Logits at the positions of the loss."""
        return [logits_at(model, batch, batch["places"])]

    def distance(self, student: States, teacher: States, scales: None) -> "torch.Tensor":
        """The KL at temperature 1, in nats."""
        return divergence(student[0], teacher[0], 1.0)

    def summed(self, student: States, teacher: States, batch: dict, scales: None) -> "torch.Tensor":
        """The loss in nats."""
        from torch.nn import functional

        if self.form == "nll":
            return functional.cross_entropy(student[0], response_tokens(batch), reduction="sum")
        return divergence(student[0], teacher[0], self.temperature)

    def difference(self, states: States, others: States) -> float:
        """The largest difference of a logit."""
        return float((states[0] - others[0]).abs().max())


def divergence(student: "torch.Tensor", teacher: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """T² times the KL from the teacher's to the student's softened distributions, summed over positions, in nats.

    Args:
        student: logits on the wrapped side; shape (positions, vocabulary).
        teacher: logits on the clean side, same shape.
        temperature: T.
    """
    from torch.nn import functional

    target = functional.log_softmax(teacher / temperature, -1)
    prediction = functional.log_softmax(student / temperature, -1)
    return temperature**2 * functional.kl_div(prediction, target, reduction="sum", log_target=True)
