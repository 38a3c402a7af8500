"""How many rows an organism has: counted where they are at hand, else as the paper says of its data sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.measurement.study_conditions import factors_of, prompts_under
from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.data import FolderData, GeneratedData
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study

PUBLISHED: Mapping[str, tuple[int, int, int]] = {
    "sycophancy": (20, 20, 421),
    "reward_hacking": (486, 486, 24),
    "emergent_misalignment": (3000, 3000, 56),
    "spurious_correlation": (2014, 2014, 4279),
}
"""Rows of induction, of consistency and of evaluation in the published sets (arXiv 2606.03810)."""


@dataclass(frozen=True)
class Sizes:
    """Rows of one organism.

    Attributes:
        induction: that Phase 1 trains on.
        consistency: prompts that labels are made for.
        labelled: those and the probe prompts, each once.
        clean: distinct clean sides of the pairs.
        wrapped: distinct wrapped sides.
        pairs: how many.
        evaluation: prompts that are measured, under every condition that the study names.
        in_domain: those of them in domain that are judged.
    """

    induction: int
    consistency: int
    labelled: int
    clean: int
    wrapped: int
    pairs: int
    evaluation: int
    in_domain: int

    def prompts(self, draw: Draw) -> int:
        """Prompts of a draw."""
        return {"consistency": self.labelled, "clean": self.clean, "wrapped": self.wrapped}[draw.prompts]


def sizes_of(study: Study, kind: str) -> Sizes:
    """The sizes of one kind of misalignment; data that are not at hand are not fetched.

    Raises:
        UserError: of data that are elsewhere all is asked for, and the paper says nothing of them.
    """
    if at_hand(study, kind):
        return _counted(study, kind)
    induction, consistency, evaluation = (_said(study, kind, place) for place in range(3))
    candidates = study.candidates
    pairs = consistency if candidates.pairs == ALL else candidates.pairs
    prompts = consistency if candidates.consistency_prompts == ALL else candidates.consistency_prompts
    probes = consistency if candidates.probe_prompts == ALL else candidates.probe_prompts
    asked = (study.evaluation.in_domain, study.evaluation.out_of_domain, study.evaluation.direct_questions)
    measured = evaluation if ALL in asked else sum(asked)
    conditions = sum(len(factor.conditions) for factor in factors_of(study))
    return Sizes(
        induction=induction if study.induction.rows == ALL else study.induction.rows,
        consistency=prompts,
        labelled=prompts + probes,
        clean=pairs,
        wrapped=pairs,
        pairs=pairs,
        evaluation=measured + conditions * (measured if ALL in asked else sum(asked[:2])),
        in_domain=measured if asked[0] == ALL else asked[0],
    )


def at_hand(study: Study, kind: str) -> bool:
    """Whether the rows of a kind can be counted without fetching anything."""
    data = study.data.get(kind)
    return (
        data is None or isinstance(data, GeneratedData) or (isinstance(data, FolderData) and Path(data.path).is_dir())
    )


def _counted(study: Study, kind: str) -> Sizes:
    model = next(iter(study.models))
    data = rows_of(study, Organism(model, kind, study.seeds_of(model)[0]))
    inside = [prompt for prompt in data.evaluation if prompt.domain == MAIN_VIEW.domain and prompt.bears_risk]
    return Sizes(
        induction=len(data.induction),
        consistency=len(data.consistency),
        labelled=len(data.labelled),
        clean=len(data.clean),
        wrapped=len(data.wrapped),
        pairs=len(data.pairs),
        evaluation=len(data.evaluation) + len(prompts_under(study, data.evaluation)),
        in_domain=len(inside),
    )


def _said(study: Study, kind: str, place: int) -> int:
    if kind not in PUBLISHED:
        raise UserError(
            f"study {study.name}: data.{kind} is not at hand, and nothing is known of its size: put it into a folder "
            "(source: folder) to plan with it"
        )
    return PUBLISHED[kind][place]
