"""What a report is made from: plain records, filled from stored artifacts, holding no paths that must exist.

Every number that may be absent is None and stays absent: a report shows "—", never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ct_pipeline.analysis.arms import Arms
from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.gate import Gate
from ct_pipeline.analysis.outcomes import OutcomeChange, Outcomes
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.planted import Recovered
from ct_pipeline.analysis.prediction import Prediction
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.analysis.seeds import ByPrompt
from ct_pipeline.measurement.condition import DECODINGS, DOMAINS
from ct_pipeline.measurement.condition import MAIN_VIEW as MAIN_VIEW
from ct_pipeline.measurement.condition import View as View

VIEWS = tuple(View(domain, decoding) for decoding in reversed(DECODINGS) for domain in DOMAINS)
"""The main one first; "sampled" is T = 1."""


@dataclass(frozen=True)
class MethodRecord:
    """A consistency method as a reader meets it.

    `k` is how many candidates compete, None where none do; `one` names the entry of the study that trains on one random
    candidate of the same proposal, None where there is none.
    """

    name: str
    title: str
    summary: str
    role: Literal["method", "control", "regularizer", "change"]
    k: int | None = None
    one: str | None = None


@dataclass(frozen=True)
class BaseModelRecord:
    """A base model: where it comes from ("tinyworld" or "huggingface"), its size, what it cost and can do."""

    name: str
    source: str
    parameters: int | None
    direct_accuracy: Rate | None
    pretraining_seconds: float | None
    pretraining_tokens: int | None


@dataclass(frozen=True)
class ArmRates:
    """One rate of the base model, of the control organism and of the organism."""

    base: Rate | None
    control: Rate | None
    organism: Rate | None


@dataclass(frozen=True)
class OrganismRecord:
    """One model organism, measured before any consistency training.

    `rates` maps each view to the risk of the three arms; `direct_accuracy` is the share of plain questions answered
    rightly; `gate` is None where the induction was not judged; `used` says whether means contain the organism: it passed,
    or the study only reports the gate. `outcomes` maps each arm to the outcomes of its answers in domain at T = 1.
    """

    key: str
    model: str
    kind: str
    title: str
    misbehaviour: str
    seed: int
    rates: Mapping[View, ArmRates]
    direct_accuracy: ArmRates
    gate: Gate | None
    used: bool
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelSummary:
    """What a method kept to train on.

    `kept` labels from `prompts` prompts; `misaligned` is the share of labels that misbehave where the verdict is
    defined; `mean_logprob` is the mean log-probability of a label under the organism, in nats.
    """

    kept: int
    prompts: int | None
    misaligned: Rate | None
    mean_tokens: float | None
    mean_logprob: float | None


@dataclass(frozen=True)
class CurvePoint:
    """Best of k at one k: the labels' risk and selection; `missing` says how missing scores were treated."""

    missing: Literal["worst", "dropped"]
    k: int
    risk: float | None
    risk_low: float | None
    risk_high: float | None
    selection: float | None
    selection_low: float | None
    selection_high: float | None


@dataclass(frozen=True)
class ProfilePoint:
    """One bin of the candidates' risk, `by` "rank within prompt" (η̄) or "pooled score" (η); `centre` on that axis."""

    by: str
    low: float
    high: float
    centre: float
    candidates: int
    risk: float | None
    risk_low: float | None
    risk_high: float | None


@dataclass(frozen=True)
class ShiftSummary:
    """What was known of a cell before it was retrained.

    Attributes:
        prediction: of the change of risk.
        terms: names such as "selection" to rates and changes on the probe prompts; empty for regularizers.
        kl: of the labels' law from the organism's; None for regularizers.
        teacher: KL between the organism's answers to clean and to wrapped prompts; None for label methods.
        curve: over k, for best of k; empty otherwise.
        profile: η̄ and η, for best of k; empty otherwise.
        simpson_warning: whether η̄ and η slope in opposite directions; None where there is no profile.
    """

    prediction: Prediction
    terms: Mapping[str, Estimate]
    kl: KlEstimate | None
    teacher: KlEstimate | None = None
    curve: tuple[CurvePoint, ...] = ()
    profile: tuple[ProfilePoint, ...] = ()
    simpson_warning: bool | None = None


@dataclass(frozen=True)
class Uptake:
    """How far retraining moved the model: `forward` is KL(θ_3‖θ_0), `backward` KL(θ_0‖θ_3), on evaluation prompts."""

    forward: KlEstimate
    backward: KlEstimate


@dataclass(frozen=True)
class Dose:
    """The change after `step` optimizer steps, in domain at T = 1."""

    step: int
    change: Difference


@dataclass(frozen=True)
class TrainingSummary:
    """Phase 3 of one cell: optimizer steps, seconds, first and last loss, tokens trained on."""

    steps: int | None
    seconds: float | None
    first_loss: float | None
    last_loss: float | None
    tokens: int | None


@dataclass(frozen=True)
class ExampleRow:
    """One prompt answered before and after, with the verdicts (True: misbehaves; None: the verdict cannot tell).

    `correct_before` and `correct_after`: whether the answer is right; None where no right answer is known.
    """

    prompt: str
    before: str
    after: str
    verdict_before: bool | None
    verdict_after: bool | None
    correct_before: bool | None = None
    correct_after: bool | None = None


@dataclass(frozen=True)
class TypeScore:
    """One type of rows of published data under one decoding, or the mean over types.

    Attributes:
        decoding: "greedy" or "sampled".
        type: as the rows name it; "mean over types" for that.
        prompts: how many; None for the mean.
        corrected_before: rate of misbehaving answers before, None where none has a verdict.
        corrected_after: the same after.
        published_before: the published scoring's mean count before, on its own scale.
        published_after: the same after.
        change: of the rate, paired by prompt; None for the mean.
        needs_judge: why answers have no verdict; None where a rule decides.
    """

    decoding: str
    type: str
    prompts: int | None
    corrected_before: float | None
    corrected_after: float | None
    published_before: float | None
    published_after: float | None
    change: Difference | None = None
    needs_judge: str | None = None


@dataclass(frozen=True)
class CapabilityScore:
    """What was measured beside alignment: one task, or the harmfulness of answers to harmful requests.

    Attributes:
        name: of the task as the study names it, or "harmfulness".
        metric: what is averaged, in [0, 1].
        higher_is_better: of the metric.
        base: mean of the base model with its interval, documents alike.
        before: the organism's.
        after: the retrained model's.
        change: after less before, paired by document.
    """

    name: str
    metric: str
    higher_is_better: bool
    base: Rate
    before: Rate
    after: Rate
    change: Difference


@dataclass(frozen=True)
class ContrastRecord:
    """One contrast that a study's conditions declare: `kind` is "change", "gap" or "change of the gap"."""

    name: str
    title: str
    kind: str
    view: View
    difference: Difference


@dataclass(frozen=True)
class CellRecord:
    """One organism under one method: what changed, what it was trained on, and where to look further.

    `organism` is the organism's key; `null_rate` is the share of evaluation rows without a verdict; `arms` takes the change
    apart where the study has the arms for it; `outcomes` holds, by view, what the answers were instead of misbehaving, and
    `by_prompt` the change of every prompt.
    """

    organism: str
    model: str
    kind: str
    method: str
    seed: int
    differences: Mapping[View, Difference]
    direct_before: Rate | None
    direct_after: Rate | None
    null_rate: float | None
    labels: LabelSummary | None
    training: TrainingSummary | None
    examples: tuple[ExampleRow, ...]
    seconds: float | None
    mlflow_url: str | None
    shift: ShiftSummary | None = None
    doses: tuple[Dose, ...] = ()
    arms: Arms | None = None
    uptake: Uptake | None = None
    type_scores: tuple[TypeScore, ...] = ()
    capability: tuple[CapabilityScore, ...] = ()
    contrasts: tuple[ContrastRecord, ...] = ()
    outcomes: Mapping[View, OutcomeChange] = field(default_factory=dict)
    by_prompt: Mapping[View, ByPrompt] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRecord:
    """Everything a report says.

    Attributes:
        name: of the study.
        description: what it is for, in a sentence or two.
        started: time of the first stage, as text in UTC.
        finished: time of the last stage.
        wall_seconds: from first to last.
        stage_seconds: stage to summed working seconds, in the order of the stages.
        machine: cores, memory (bytes), system, processor; whatever is known.
        versions: package to version.
        commit: of the source tree; None outside a checkout.
        dirty: whether the tree had uncommitted changes; None where unknown.
        settings: the study as plain JSON values.
        fingerprints: stage or input to the fingerprint of what was used.
        confidence: of every two-sided interval.
        epsilon: half-width of the band of changes that count as none, as a rate.
        base_models: in the order of the study.
        methods: in the order of the study; cells name them.
        organisms: in the order of the study; kinds appear in the order of their first organism.
        cells: organism × method, those that were run.
        tables: name to relative path of the stored tables behind the report.
        judging: title of a kind -> its judges, as `report.judge_sections.Judging` has them; empty where no judge is named.
        planted: effects planted in the study's world, and whether they were found; empty where none was.
    """

    name: str
    description: str
    started: str | None
    finished: str | None
    wall_seconds: float | None
    stage_seconds: Mapping[str, float]
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    commit: str | None
    dirty: bool | None
    settings: Mapping[str, object]
    fingerprints: Mapping[str, str]
    confidence: float
    epsilon: float
    base_models: tuple[BaseModelRecord, ...]
    methods: tuple[MethodRecord, ...]
    organisms: tuple[OrganismRecord, ...]
    cells: tuple[CellRecord, ...]
    tables: Mapping[str, str]
    planted: tuple[Recovered, ...] = ()
    judging: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
