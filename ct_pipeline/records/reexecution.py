"""Trains a piece of a recorded training again and compares: proof of training data in small.

A verifier who holds data, seed and settings of a training runs a piece of it that the trainer could not foresee, and
compares with what was recorded (Choi et al., arXiv 2307.00682). Where machines or versions differ the result is not
the same bit for bit, and the distance is judged by that between two trainings of different seed (Jia et al.,
proof of learning, arXiv 2103.05633). Phases 1 and 3 are trained again here, a base model by records/pretrained_again.py.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pandas

from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, LowRank, read_adapter
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import consistency_labels, misaligned_organism, retrained_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.store import provenance
from ct_pipeline.store.ancestry import Chain, Step
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import Node
from ct_pipeline.training.loop import OnStep

if TYPE_CHECKING:
    from ct_pipeline.models.loading import BaseModel

TOLERANCE = 0.005
"""Largest distance from the record that is called noise, as a share of the distance to a training of another seed.

Between processor features it was at most 0.00005, with one of 128 labels forged 0.015 (docs/LINEAGE.md).
"""

Train = Callable[[ArtifactStore, Study, int, Path, OnStep], object]
"""(store, study, seed, folder of the adapter, on_step) -> trains."""


@dataclass(frozen=True)
class Segment:
    """A piece of a recorded training: from its start to a step at which an adapter was kept.

    Attributes:
        step: the artifact of the training.
        steps: optimizer steps.
        folders: of the adapters kept up to there, within the artifact; "." is the one at the end.
    """

    step: Step
    steps: int
    folders: tuple[str, ...]

    @property
    def title(self) -> str:
        """Artifact and steps, for people."""
        place = self.step.address
        whole = len(self.step.manifest.record["losses"])
        return f"{place.stage}/{place.subject}/{place.variant}, steps 1 to {self.steps} of {whole}"


@dataclass(frozen=True)
class Comparison:
    """What training a segment again showed.

    Attributes:
        segment: what was trained again.
        exact: losses, weights and configuration are the recorded ones, bit for bit.
        same_conditions: source, versions, processor, threads and accelerator are those recorded.
        loss_distance, weight_distance: from record to re-execution, as shares of the distance to a training of another
            seed: largest difference of a step's loss; Frobenius norm of the difference of the weight updates. None where
            exact, or where nothing could be trained: no other training was needed.
        faults: what does not fit, a sentence each; empty where the record can be true.
    """

    segment: Segment
    exact: bool
    same_conditions: bool
    loss_distance: float | None
    weight_distance: float | None
    faults: tuple[str, ...]


def segments(chain: Chain, study: Study) -> tuple[Segment, ...]:
    """All segments of the trainings in a chain that the study describes and whose inputs are there to be read."""
    known = (step for step in chain.steps.values() if step.manifest and _training(study, step) is not None)
    return tuple(itertools.chain.from_iterable(map(_segments_of, known)))


def strangers(chain: Chain, study: Study) -> tuple[str, ...]:
    """Trainings in a chain that cannot be trained again with this study, and why, a sentence each."""
    stages = (retrained_model.NAME, misaligned_organism.NAME, misaligned_organism.CONTROL)
    return tuple(
        f"{step.address.stage}/{step.address.subject}/{step.address.variant}: no training of study {study.name} as this code "
        "runs it: the study is another, the code is of another version, or an input is gone"
        for step in chain.steps.values()
        if step.address.stage in stages
        and not (step.manifest and "change" in step.manifest.settings)
        and (not step.manifest or _training(study, step) is None)
    )


def reexecute(store: ArtifactStore, study: Study, segment: Segment) -> Comparison:
    """Trains a segment again in a temporary folder and compares losses and adapter with the record.

    Under the recorded conditions they must be equal bit for bit; under others they may be TOLERANCE of the distance to
    a training of another seed apart.

    """
    seed, train = _training(study, segment.step)
    recorded = segment.step.manifest.record["losses"][: segment.steps]
    with _threads_of(segment.step), tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "again"
        try:
            losses = _run(train, store, study, seed, again, segment.steps)
        except (KeyError, ValueError, RuntimeError, ArithmeticError, OSError) as error:
            fault = f"what is recorded of it cannot be trained again: {error!r}"
            return Comparison(segment, False, same_conditions(segment.step), None, None, (fault,))
        if losses == recorded and all(
            _content(segment.step.folder / folder / name) == _content(again / folder / name)
            for folder in segment.folders
            for name in (WEIGHTS_FILE, CONFIG_FILE)
        ):
            return Comparison(segment, True, same_conditions(segment.step), None, None, ())
        other = Path(scratch) / "other"
        other_losses = _run(train, store, study, (seed + 1) % 2**31, other, segment.steps)
        base = open_model(store, study, _organism(segment.step).model).base
        return _compare(segment, base, (recorded, losses, other_losses), (segment.step.folder, again, other))


def same_conditions(step: Step) -> bool:
    """Whether source, versions, processor and accelerator here are those that an artifact was made with."""
    then, now = made_by(step), provenance.code()
    machine = provenance.machine() | provenance.computing()
    told = then.get("machine", {})
    return (
        then.get("source") == now["source"]
        and then.get("versions") == provenance.versions()
        and all(told.get(name) == machine[name] for name in ("processor", "processor_model", "accelerator"))
    )


def made_by(step: Step) -> Mapping[str, object]:
    """Provenance of the training behind an artifact; a copy of the packaged base model names that in its record."""
    return step.manifest.record.get("made") or step.manifest.provenance


def _segments_of(step: Step) -> Iterator[Segment]:
    record = step.manifest.record
    epochs = [f"epoch-{number + 1}" for number in range(len(record["checkpoints"]))]
    for number, steps in enumerate(record["checkpoints"][:-1], start=1):
        yield Segment(step, steps, tuple(epochs[:number]))
    yield Segment(step, len(record["losses"]), (*epochs, "."))


def _organism(step: Step) -> Organism:
    return Organism.parse(step.address.subject)


def _training(study: Study, step: Step) -> tuple[int, Train] | None:
    """Seed and run of a training, None where the study is not the one whose fingerprint the artifact has."""
    place, record = step.address, step.manifest.record
    if not all(isinstance(record.get(name), list) for name in ("losses", "checkpoints")) or not record["losses"]:
        return None
    read = {link.name: link.address for link in step.links}
    folders = {name: step.folder.parents[3].joinpath(*vars(at).values()) for name, at in read.items() if at}
    try:
        organism = _organism(step)
        node, seed, train = _described(study, place.stage, Cell(organism, place.variant), folders)
    except (KeyError, ValueError):
        return None
    return (seed, train) if node.fingerprint == place.fingerprint and set(folders) == set(node.inputs) else None


def _described(study: Study, stage: str, cell: Cell, inputs: dict[str, Path]) -> tuple[Node, int, Train]:
    """Node, seed and run of a stage that trains; KeyError where the stage does not or the study has no such cell."""
    organism = cell.organism
    if stage == retrained_model.NAME:

        def retrain(store: ArtifactStore, study: Study, seed: int, out: Path, on_step: OnStep) -> None:
            labels = pandas.read_parquet(inputs[consistency_labels.NAME] / "labels.parquet")
            model = open_model(store, study, organism.model)
            below = inputs[misaligned_organism.NAME]
            retrained_model.train(model, study, cell, labels, below, seed, out, on_step)

        return retrained_model.node(study, cell), retrained_model.training_seed(study, cell), retrain
    node, rows = {
        misaligned_organism.NAME: (misaligned_organism.node, "induction"),
        misaligned_organism.CONTROL: (misaligned_organism.control_node, "control"),
    }[stage]

    def induce(store: ArtifactStore, study: Study, seed: int, out: Path, on_step: OnStep) -> None:
        examples = getattr(rows_of(study, organism), rows)
        misaligned_organism.train(open_model(store, study, organism.model), study, examples, seed, out, on_step)

    return node(study, organism), misaligned_organism.training_seed(study, organism), induce


class _Reached(Exception):
    """The last step of a segment is done."""


def _run(train: Train, store: ArtifactStore, study: Study, seed: int, out: Path, steps: int) -> list[float]:
    """The losses of the first steps; a training that is longer is ended there, its adapter of that step is kept."""
    losses: list[float] = []

    def note(step: int, whole: int, loss: float) -> None:
        losses.append(loss)
        if step == steps < whole:
            raise _Reached

    with suppress(_Reached):
        train(store, study, seed, out, note)
    return losses


@contextmanager
def _threads_of(step: Step) -> Iterator[None]:
    """Computes with as many threads as the recorded training; where none are recorded, with one, as workers do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(step.manifest.provenance.get("machine", {}).get("threads") or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare(
    segment: Segment,
    base: "BaseModel",
    losses: tuple[Sequence[float], Sequence[float], Sequence[float]],
    folders: tuple[Path, Path, Path],
) -> Comparison:
    """Judges a record that is not the re-execution bit for bit; each triple is: recorded, again, with another seed."""
    recorded, again, _ = losses
    faults = []
    if len(recorded) != len(again):
        faults.append(f"{len(recorded)} steps are recorded, and the training has {len(again)}")
    loss_distance = _share(*(float(numpy.max(_gaps(again, each))) for each in (recorded, losses[2])))
    weight_distance = 0.0
    for kept in segment.folders:
        recorded_here, again_here, other_here = (folder / kept for folder in folders)
        try:
            updates = [read_adapter(folder, base) for folder in (recorded_here, again_here, other_here)]
            share = _share(*(update_distance(updates[1], each) for each in (updates[0], updates[2])))
        except ValueError as error:
            share = float("nan")
            faults.append(f"{kept}/{WEIGHTS_FILE} is no adapter of this training: {error}")
        # Not a number is larger than any.
        weight_distance = share if not share <= weight_distance else weight_distance
        if _content(recorded_here / CONFIG_FILE) != _content(again_here / CONFIG_FILE):
            faults.append(f"{kept}/{CONFIG_FILE} is not what the training writes")
    same = same_conditions(segment.step)
    limit = 0.0 if same else TOLERANCE
    allowed = (
        "the machine and all versions are those recorded, so that they must be equal"
        if same
        else f"at most {TOLERANCE:.1%} is noise between machines and versions"
    )
    if not loss_distance <= limit:
        first = 1 + int(numpy.argmin(_gaps(recorded, again) == 0))
        faults.append(
            f"the recorded losses are not those of the recorded data, seed and settings: from step {first} on "
            f"({recorded[first - 1]:.6g} recorded, {again[first - 1]:.6g} trained again), {loss_distance:.1%} of the way to "
            f"a training of another seed; {allowed}"
        )
    if not weight_distance <= limit:
        faults.append(
            f"the recorded adapter is, up to step {segment.steps}, not that of the recorded data, seed and settings: "
            f"{weight_distance:.3%} of the way to a training of another seed; {allowed}"
        )
    return Comparison(segment, False, same, loss_distance, weight_distance, tuple(faults))


def _gaps(one: Sequence[float], other: Sequence[float]) -> numpy.ndarray:
    """Differences of the losses of the steps that both have; not a number where one of them is none."""
    steps = min(len(one), len(other))
    return numpy.abs(numpy.subtract(one[:steps], other[:steps], dtype=float))


def _share(distance: float, yardstick: float) -> float:
    """NaN where the yardstick is 0 and the distance is not: then nothing can be called near."""
    return 0.0 if distance == 0 else distance / yardstick if yardstick > 0 else float("nan")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def update_distance(one: dict[str, LowRank], other: dict[str, LowRank]) -> float:
    """Frobenius norm of the difference of two adapters' weight updates scale · B A, over all layers.

    The factors themselves are no measure: (B M)(M⁻¹ A) is the same update for every invertible M. Computed in float64
    from the QR factors of the stacked low-rank factors, so that no full matrix is formed.

    Raises:
        ValueError: the adapters change different layers.
    """
    import torch

    if one.keys() != other.keys():
        raise ValueError(f"they change different layers: {', '.join(sorted(one.keys() ^ other.keys()))}")
    total = 0.0
    for name, mine in one.items():
        its = other[name]
        if mine.scale == its.scale and torch.equal(mine.a, its.a) and torch.equal(mine.b, its.b):
            # Exactly 0, which a difference of rounded products is not.
            continue
        b = torch.cat([mine.scale * mine.b.double(), -its.scale * its.b.double()], dim=1)
        a = torch.cat([mine.a.double(), its.a.double()], dim=0)
        _, rb = torch.linalg.qr(b, mode="r")
        _, ra = torch.linalg.qr(a.T, mode="r")
        total += float((rb @ ra.T).square().sum())
    return total**0.5
