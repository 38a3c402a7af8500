"""What every consistency loss shares: a teacher on the clean side that is the organism, held, watched and asked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import Trainee
from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.loss import Objective
from ct_pipeline.training.pairs import PairBatches, Side
from ct_pipeline.training.sharding import compute_device

if TYPE_CHECKING:
    import torch

Teacher = Literal["frozen", "live"]
"""The start model, or the model in training, without dropout and without gradient, as released code has it."""
States = list["torch.Tensor"]
"""What is compared of a model on one side: tensors of shape (places, channels), row after row."""
Ask = Callable[[Sequence[int]], States]
"""Row numbers -> a teacher's states on the clean side."""
Read = Callable[["torch.nn.Module", dict], States]

_COMPARED_ROWS = 8
_MEASURED_ROWS = 64
_HELD_BYTES = 1 << 29
_BATCH = 32


class Consistency(ABC):
    """A loss that draws a model's states on the wrapped side to a teacher's on the clean side.

    The sum over positions is divided by those of the effective batch, so it does not depend on how rows are cut into
    micro-batches. A subclass is a frozen dataclass that has the annotated fields.
    """

    teacher: Teacher
    padding: Side
    """The side on which rows are padded in training; changes nothing but rounding."""
    same: ClassVar[dict[str, float]]
    """How far states of one model may differ between batches of another shape, by dtype, as `difference` has it."""

    @abstractmethod
    def check(self, base: BaseModel, rows: Sequence[PairRow]) -> None:
        """Refuses rows, or a base, on which the loss is void or undefined."""

    @abstractmethod
    def batches(self, rows: Sequence[PairRow], device: "torch.device") -> PairBatches:
        """The rows as batches of either side."""

    @abstractmethod
    def read(self, model: "torch.nn.Module", batch: dict) -> States:
        """A model's states on one side."""

    @abstractmethod
    def distance(self, student: States, teacher: States, scales: Sequence[float] | None) -> "torch.Tensor":
        """The unweighted distance, summed over places, that the recorded shifts are in."""

    @abstractmethod
    def summed(self, student: States, teacher: States, batch: dict, scales: Sequence[float] | None) -> "torch.Tensor":
        """The loss of one micro-batch, summed over places; without `asks`, `teacher` is empty."""

    @abstractmethod
    def difference(self, states: States, others: States) -> float:
        """The largest difference of two models' states on the same batch."""

    @property
    def asks(self) -> bool:
        """Whether the loss has a teacher at all."""
        return True

    def scales(self, start: Ask, pairs: PairBatches) -> Sequence[float] | None:
        """What the distances of each tensor of states are divided by."""
        return None

    def readable(self, *models: "torch.nn.Module") -> AbstractContextManager[None]:
        """Lets states be read from models; afterwards the models are as they were."""
        return nullcontext()

    @contextmanager
    def begin(self, trainee: Trainee, rows: Sequence[PairRow], settings: TrainingSettings) -> Iterator[Objective]:
        """Asserts that teacher and student are the organism before the first step, and that the start model stays.

        The checks are the largest differences of teacher and organism, teacher and base, and student and organism on the
        first rows; how far the teacher moved (`teacher_moved`, 0 for a frozen one); and the distance per position from
        the start model's clean side to the student's wrapped side before (`teacher_shift`) and after
        (`remaining_shift`) training.

        Raises:
            RuntimeError: one of these does not hold.
        """
        pairs = self.batches(rows, compute_device(trainee.base))
        first = range(min(len(rows), _COMPARED_ROWS))
        own = [model for model in (trainee.model, trainee.frozen) if model is not None]
        with self.readable(*own):
            anew = _start_states(trainee, pairs, self.read)
            start = _held(anew, pairs) if self.asks and self.teacher == "frozen" else anew
            teacher = _live_states(trainee, pairs, self.read) if self.teacher == "live" else start
            asked = teacher if self.asks else (lambda _numbers: [])
            scales = self.scales(start, pairs)
            checks = self._check_start(trainee, pairs, teacher, first)
            shift = partial(self._shift, trainee, pairs, start, scales)
            checks["teacher_shift"] = shift()
            before, taught = anew(first), teacher(first)

            def summed(model: "torch.nn.Module", batch: dict) -> "torch.Tensor":
                told = asked(batch["rows"])
                return self.summed(self.read(model, batch), told, batch, scales)

            yield Objective(
                collated=lambda numbers: pairs.collated(numbers, self.padding),
                items=lambda batch: pairs.positions(batch["rows"]),
                summed=summed,
                tokens=sum(pairs.lengths),
                checks=checks,
            )
            checks["remaining_shift"] = shift()
            moved = self.difference(anew(first), before)
            checks["teacher_moved"] = self.difference(teacher(first), taught) if self.teacher == "live" else moved
        # Accelerators may add a sum's terms in another order each time.
        if not moved <= (0.0 if trainee.base.device.type == "cpu" else self.same[str(trainee.base.model.dtype)]):
            raise RuntimeError(f"the start model's states moved by {moved} during training")

    def _check_start(self, trainee: Trainee, pairs: PairBatches, teacher: Ask, numbers: range) -> dict[str, float]:
        import torch

        clean, wrapped = pairs.clean(numbers), pairs.wrapped(numbers)
        organism, plain = trainee.rebuilt()
        trainee.model.eval()
        with torch.no_grad(), self.readable(organism, plain):
            taught = teacher(numbers)
            checks = {
                "teacher_organism_difference": self.difference(taught, self.read(organism, clean)),
                "teacher_base_difference": self.difference(taught, self.read(plain, clean)),
                "student_organism_difference": self.difference(
                    self.read(trainee.model, wrapped), self.read(organism, wrapped)
                ),
            }
        limit = self.same[str(trainee.base.model.dtype)]
        for name in ("teacher_organism_difference", "student_organism_difference"):
            if not checks[name] <= limit:
                raise RuntimeError(
                    f"{name} is {checks[name]} before the first step, more than {limit}: not the organism"
                )
        return checks

    def _shift(self, trainee: Trainee, pairs: PairBatches, start: Ask, scales: Sequence[float] | None) -> float:
        import torch

        trainee.model.eval()
        numbers = range(min(len(pairs.rows), _MEASURED_ROWS))
        total = 0.0
        with torch.no_grad():
            for part in chunks(numbers):
                student = self.read(trainee.model, pairs.wrapped(part))
                total += float(self.distance(student, start(part), scales))
        return total / pairs.positions(numbers)


def chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Row numbers in parts that are computed at once outside training."""
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))


def _start_states(trainee: Trainee, pairs: PairBatches, read: Read) -> Ask:
    import torch

    def compute(numbers: Sequence[int]) -> States:
        with torch.no_grad(), trainee.start_model() as start:
            return read(start, pairs.clean(numbers))

    return compute


def _live_states(trainee: Trainee, pairs: PairBatches, read: Read) -> Ask:
    """Those of the model as it is at the time of the call."""
    import torch

    def compute(numbers: Sequence[int]) -> States:
        was_training = trainee.model.training
        trainee.model.eval()
        with torch.no_grad():
            states = read(trainee.model, pairs.clean(numbers))
        trainee.model.train(was_training)
        return states

    return compute


def _held(compute: Ask, pairs: PairBatches) -> Ask:
    """The same states, computed once per row where all of them fit into memory, else anew for each batch."""
    import torch

    held: dict[int, tuple[torch.Tensor, ...]] = {}
    places = [pairs.places(n) for n in range(len(pairs.rows))]
    for numbers in chunks(pairs.by_length()):
        states = compute(numbers)
        if sum(layer.shape[1] * layer.element_size() for layer in states) * sum(places) > _HELD_BYTES:
            return compute
        layers = [layer.split([places[n] for n in numbers]) for layer in states]
        held |= dict(zip(numbers, zip(*layers, strict=True), strict=True))
    return lambda numbers: [torch.cat(layer) for layer in zip(*(held[n] for n in numbers), strict=True)]
