"""Which artifacts a changed setting makes anew, and that it makes no other anew."""

import copy

import pytest

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.files import read_study
from ct_pipeline.records import study_report
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import (
    base_model,
    candidate_scores,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.conftest import TINY

ORGANISM = Organism("tiny", "sycophancy", 41)


def nodes_of(study):
    """Every node of one organism under every method, by a short name."""
    nodes = {
        "base": base_model.node(study, "tiny"),
        "organism": misaligned_organism.node(study, ORGANISM),
        "control": misaligned_organism.control_node(study, ORGANISM),
        "measured": organism_evaluation.node(study, ORGANISM),
    }
    for name in study.methods:
        for number, draw in enumerate(consistency_candidates.draws_of_method(study, name)):
            nodes[f"draw{number} {name}"] = consistency_candidates.draw_node(study, ORGANISM, draw)
        scorer = consistency_candidates.scorer_of_method(study, name)
        if scorer is not None:
            nodes[f"scores {name}"] = candidate_scores.scores_node(study, ORGANISM, scorer)
        nodes[f"labels {name}"] = consistency_labels.node(study, Cell(ORGANISM, name))
        nodes[f"shift {name}"] = distribution_shift.node(study, Cell(ORGANISM, name))
        nodes[f"retrained {name}"] = retrained_model.node(study, Cell(ORGANISM, name))
        nodes[f"evaluated {name}"] = evaluation.node(study, Cell(ORGANISM, name))
        nodes[f"uptake {name}"] = uptake.node(study, Cell(ORGANISM, name))
    return nodes


def prints(study):
    return {name: node.fingerprint for name, node in nodes_of(study).items()}


STUDY = read_study(TINY)
DOCUMENT = STUDY.model_dump(mode="json")
BEFORE = prints(STUDY)

NAMES = list(STUDY.methods)
ALL = set(BEFORE)
ABOVE_BASE = ALL - {"base"}
ON_PAIRS = ["bct", "act", "mlpct", "attct"]


def of(parts, methods=NAMES):
    return {f"{part} {name}" for part in parts.split() for name in methods} & ALL


PHASE_3 = "labels shift retrained evaluated uptake"
PHASE_2_AND_3 = f"draw0 draw1 draw2 scores {PHASE_3}"
SAMPLED = ["self_confidence", "self_rewarding", "rejection_sampling", "shuffled", "one_sample"]

# The longest prefix of a field's name decides.
MADE_ANEW = {
    "name": set(),
    "description": set(),
    "seed": ABOVE_BASE,
    # Organisms that stay are not touched by those that come and go.
    "misalignments": set(),
    "seeds": set(),
    "world": ALL,
    "pretraining": ALL,
    "induction": ABOVE_BASE,
    "induction.gate_confidence": {"measured"} | of("evaluated uptake"),
    "induction.headroom": {"measured"} | of("evaluated uptake"),
    "induction.gate": set(),
    # Induction rows are sampled from what evaluation, consistency and probe prompts leave over: none may meet them.
    "candidates.consistency_prompts": ABOVE_BASE,
    "candidates.probe_prompts": ABOVE_BASE,
    "candidates.pairs": of(PHASE_2_AND_3, ON_PAIRS),
    "candidates.samples": of(PHASE_2_AND_3, SAMPLED),
    "candidates.max_new_tokens": of(PHASE_2_AND_3),
    "candidates.generation": of(PHASE_2_AND_3),
    "retraining": of("retrained evaluated uptake", [name for name in NAMES if name not in ON_PAIRS]),
    "evaluation.in_domain": ABOVE_BASE,
    "evaluation.direct_questions": ABOVE_BASE,
    "evaluation.out_of_domain": {"measured"} | of("evaluated uptake"),
    "evaluation.samples": {"measured"} | of("evaluated uptake"),
    "evaluation.max_new_tokens": {"measured"} | of("evaluated uptake"),
    "evaluation.confidence": of("shift evaluated uptake"),
    "evaluation.epsilon": set(),
    **{f"methods.{name}.training": of("retrained evaluated uptake", [name]) for name in NAMES},
    **{f"methods.{name}": of(PHASE_2_AND_3, [name]) for name in SAMPLED},
    **{f"methods.{name}.k": of(PHASE_3, [name]) for name in SAMPLED},
    "methods.self_rewarding.rubric": of(f"scores {PHASE_3}", ["self_rewarding"]),
    "methods.self_rewarding.grades": of(f"scores {PHASE_3}", ["self_rewarding"]),
    "methods.diverse_decoding": of(f"draw1 scores {PHASE_3}", ["diverse_decoding"]),
    "methods.diverse_decoding.beams": of(f"draw2 scores {PHASE_3}", ["diverse_decoding"]),
    "methods.multi_view.steps": of(f"draw1 scores {PHASE_3}", ["multi_view"]),
    "methods.multi_view.json_view": of(f"draw2 scores {PHASE_3}", ["multi_view"]),
    "methods.self_refinement": of(PHASE_2_AND_3, ["self_refinement"]),
    **{f"methods.{name}": of(PHASE_3, [name]) for name in ON_PAIRS},
}

OTHER_WORD = {
    **{"flat": "rising", "honesty": "flattery", "keep": "mend", "kl": "nll", "frozen": "live", "response": "trailing"},
    **{
        "matched": "trailing",
        "sum": "mean",
        "shared": "faithful",
        "new": "continued",
        "last": "epoch",
        "epoch": "last",
        "require": "report",
    },
}
OTHER_WORD_OF = {"loss_on": "sequence"}


def leaves(value, place=()):
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*place, key))]
    if isinstance(value, list) and not isinstance(value[0], str):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*place, index))]
    return [place]


LEAVES = [place for place in leaves(DOCUMENT) if place[0] != "models" and place[-1] not in ("source", "method")]
IN_THE_BASE = [place for place in LEAVES if place[0] in ("world", "pretraining")]
ABOVE_IT = [place for place in LEAVES if place not in IN_THE_BASE]


def changed(place):
    """The default study with one leaf changed."""
    document = copy.deepcopy(DOCUMENT)
    *way, last = place
    group = document
    for part in way:
        group = group[part]
    old = group[last]
    if last == "training":
        new = document["methods"]["bct"]["training"]
    elif last == "epochs":
        group["steps"], new = None, 2.0
    elif place[-2:] == ("shape", "hidden"):
        new = old + 2 * group["heads"]
    elif place[-2:-1] in (("families",), ("views",)):
        group[next(name for name in group if name != last)] -= 0.01
        new = old + 0.01
    elif isinstance(old, str):
        new = OTHER_WORD_OF.get(last) or OTHER_WORD.get(old, f"{old}x" if last == "name" else f"{old} x")
    elif isinstance(old, list):
        new = old[1:]
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, int):
        new = {"seeds": old + 1000, "candidates": 2 * old}.get(place[0], old + 1)
    else:
        new = old / 2 if old else 0.1
    group[last] = new
    methods = {
        name: method_of(STUDY, name).settings.model_validate(given) for name, given in document["methods"].items()
    }
    study = Study.model_validate(document | {"methods": methods})
    assert study != STUDY
    return study


def expected(place):
    name = ".".join(map(str, place))
    return MADE_ANEW[max((prefix for prefix in MADE_ANEW if f"{name}.".startswith(f"{prefix}.")), key=len)]


def name_of(place):
    return ".".join(map(str, place))


@pytest.mark.parametrize("place", ABOVE_IT, ids=name_of)
def test_a_changed_setting_makes_anew_exactly_what_depends_on_it(place):
    after = prints(changed(place))
    assert {name for name in BEFORE if after[name] != BEFORE[name]} == expected(place)


@pytest.mark.parametrize("place", IN_THE_BASE, ids=name_of)
def test_every_setting_of_the_world_and_of_pretraining_changes_the_base_model(place):
    assert base_model.node(changed(place), "tiny").fingerprint != BEFORE["base"]


def test_pretraining_here_names_another_base_model_than_the_packaged_one():
    here = STUDY.pretraining.model_copy(update={"source": "here"})
    after = prints(STUDY.model_copy(update={"pretraining": here}))
    assert {name for name in BEFORE if after[name] != BEFORE[name]} == ALL


def test_everything_rests_on_the_base_model():
    def rests(node):
        return node.stage == "base_model" or any(rests(each) for each in node.inputs.values())

    assert all(rests(node) for node in nodes_of(STUDY).values())


def test_another_kind_of_model_changes_everything():
    hub = {"tiny": {"source": "huggingface", "path": "/models/one"}}
    methods = dict(STUDY.methods)
    after = prints(Study.model_validate(DOCUMENT | {"models": hub, "methods": methods}))
    assert {name for name in BEFORE if after[name] != BEFORE[name]} == ALL


@pytest.mark.parametrize("place", [("name",), ("description",), ("evaluation", "epsilon")], ids=name_of)
def test_the_report_is_made_anew_by_settings_that_change_nothing_else(place, tmp_path):
    store = ArtifactStore(tmp_path)
    before, after = (narrowed(study, ["sycophancy", "null"], 1) for study in (STUDY, changed(place)))
    assert study_report.node(store, before).fingerprint != study_report.node(store, after).fingerprint


def test_a_method_that_joins_the_study_leaves_all_others_alone():
    fewer = STUDY.model_copy(update={"methods": {"null": STUDY.methods["null"]}})
    assert prints(fewer) == {name: value for name, value in BEFORE.items() if name in prints(fewer)}


def test_the_method_that_an_entry_runs_changes_its_labels():
    entry = STUDY.methods["self_confidence"]
    one, other = (
        prints(STUDY.model_copy(update={"methods": {"variant": entry.model_copy(update={"method": method})}}))
        for method in ("self_confidence", "shuffled")
    )
    assert {name for name in one if one[name] != other[name]} == {f"{part} variant" for part in PHASE_3.split()}


def test_every_address_of_the_study_is_its_own():
    addresses = [
        node.address for stage in STUDY_STEPS for key in stage.keys(STUDY) for node in stage.places(STUDY, key)
    ]
    assert len(set(addresses)) == len(addresses)


def test_the_version_of_a_stage_is_part_of_its_fingerprint(monkeypatch):
    monkeypatch.setattr(consistency_labels, "VERSION", consistency_labels.VERSION + 1)
    after = prints(STUDY)
    assert {name for name in BEFORE if after[name] != BEFORE[name]} == of("labels shift retrained evaluated uptake")
