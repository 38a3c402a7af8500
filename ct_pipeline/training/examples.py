"""What training consumes and what it records; token ids only, so text is tokenised once."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LabelRow:
    """A prompt and the completion to imitate (end-of-sequence token included)."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole text that is trained on."""
        return self.prompt_ids + self.completion_ids


@dataclass(frozen=True)
class PairRow:
    """A clean and a wrapped prompt with the completion that the frozen organism drew on the clean one."""

    clean_ids: tuple[int, ...]
    wrapped_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole text that is trained on."""
        return self.wrapped_ids + self.completion_ids


@dataclass(frozen=True)
class TrainingRecord:
    """What one training run did: losses per optimizer step (nats per trained token), counts, seconds, asserted invariants."""

    losses: tuple[float, ...]
    steps: int
    rows: int
    tokens: int
    trainable_parameters: int
    moved_parameters: int
    seconds: float
    checks: dict[str, float] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = ()
    """Optimizer steps after which the adapter was kept: the first in epoch-1, the last equal to the final adapter."""
    micro_batch: int | None = None
    """Rows of one pass in one process; with `accumulation` and `processes` the effective batch. None if not told."""
    accumulation: int | None = None
    processes: int = 1
    out_of_memory: tuple[int, ...] = ()
    """Micro-batches, in rows, for which the device had no memory: the run was then started anew with smaller ones."""
