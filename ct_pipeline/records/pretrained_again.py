"""Pretrains a recorded base model of the tiny world again and compares what both know of it.

The same threads, versions and processor give the same weights bit for bit. Where they differ, rounding grows over 1,656
steps until the weights are other ones, and only what a model knows can be compared: its accuracy and its held-out loss.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.organisms.case import TONES
from ct_pipeline.records.reexecution import made_by, same_conditions
from ct_pipeline.settings.blocks import TinyWorldModel
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model
from ct_pipeline.store.ancestry import Chain, Step
from ct_pipeline.tinyworld.gate import knowledge_of_folder
from ct_pipeline.tinyworld.pretraining import pretrain

ACCURACY_DEVIATIONS = 4.0
"""Largest difference of accuracies that is called noise, in standard deviations of two independent shares; a question in
its three tones counts as one."""
LOSS_NOISE = 0.06
"""Largest difference of held-out losses that is called noise, as a share of the recorded model's (docs/LINEAGE.md)."""
ROUNDING = 0.005
"""Largest difference between a recorded accuracy and that of the recorded weights here: six of 1,284 near ties."""


@dataclass(frozen=True)
class PretrainedAgain:
    """What pretraining a base model again showed.

    Attributes:
        exact: all files are the recorded ones, bit for bit.
        same_conditions: source, versions, processor and accelerator are those recorded.
        accuracies: direct questions answered rightly, as shares: by the recorded weights, by those pretrained again.
        losses: held-out losses of the two, nats per learned token.
        faults: what does not fit, a sentence each; empty where the record can be true.
    """

    exact: bool
    same_conditions: bool
    accuracies: tuple[float, float]
    losses: tuple[float, float]
    faults: tuple[str, ...]


def title(step: Step) -> str:
    """How a base model is named, for people and for `verify`."""
    return f"{step.address.stage}/{step.address.subject}"


def base_models(chain: Chain) -> tuple[Step, ...]:
    """The base models of a chain; a pinned Hugging Face model is one, too."""
    return tuple(step for step in chain.steps.values() if step.address.stage == base_model.NAME)


def pretrainings(chain: Chain, study: Study) -> tuple[Step, ...]:
    """The base models that the study describes and that say what they can do."""
    return tuple(step for step in base_models(chain) if _can_be_repeated(step, study))


def strange_pretrainings(chain: Chain, study: Study) -> tuple[str, ...]:
    """Base models of a tiny world that cannot be pretrained again with this study, and why, a sentence each."""
    return tuple(
        f"{title(step)}: no pretraining of study {study.name}: the study is another, or the code is of another version"
        for step in base_models(chain)
        if step.manifest and not step.faults and "pretraining" in step.manifest.settings
        if not _can_be_repeated(step, study)
    )


def _can_be_repeated(step: Step, study: Study) -> bool:
    model = step.address.subject
    return (
        step.manifest is not None
        and not step.faults
        and isinstance(study.models.get(model), TinyWorldModel)
        and base_model.node(study, model).address == step.address
        and isinstance(step.manifest.record.get("direct_accuracy"), float)
    )


def pretrain_again(study: Study, step: Step) -> PretrainedAgain:
    """Pretrains in a temporary folder, with as many threads as recorded, and compares."""
    record = step.manifest.record
    threads = record.get("threads") or made_by(step).get("machine", {}).get("threads") or 1
    with tempfile.TemporaryDirectory() as scratch:
        again = pretrain(study.world, study.pretraining, Path(scratch), threads)
        exact = all(
            (step.folder / name).read_bytes() == (Path(scratch) / name).read_bytes() for name in step.manifest.files
        )
    kept = knowledge_of_folder(step.folder, study.world)
    accuracies = (kept.direct_accuracy, again.direct_accuracy)
    losses = (kept.held_out_loss, again.held_out_loss)
    same, faults = same_conditions(step), []
    if not abs(record["direct_accuracy"] - accuracies[0]) <= ROUNDING:
        faults.append(
            f"the recorded accuracy is not that of the recorded weights: {record['direct_accuracy']:.2%} recorded, "
            f"{accuracies[0]:.2%} measured"
        )
    if same and not exact:
        faults.append(
            "the machine and all versions are those recorded, and the weights pretrained again are other ones"
        )
    share = sum(accuracies) / 2
    limit = ACCURACY_DEVIATIONS * (2 * share * (1 - share) * len(TONES) / kept.direct_questions) ** 0.5
    if not abs(accuracies[0] - accuracies[1]) <= limit:
        faults.append(
            f"the recorded weights answer {accuracies[0]:.2%} of direct questions rightly, those pretrained again "
            f"{accuracies[1]:.2%}; at most {limit:.2%} is noise"
        )
    if not abs(losses[0] - losses[1]) <= LOSS_NOISE * losses[0]:
        faults.append(
            f"the held-out loss of the recorded weights is {losses[0]:.4f}, of those pretrained again {losses[1]:.4f} nats "
            f"a token; at most {LOSS_NOISE:.0%} is noise"
        )
    return PretrainedAgain(exact, same, accuracies, losses, tuple(faults))
