"""The capability block: what it refuses, and that a study without it is what it was."""

import pytest
from pydantic import ValidationError

from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.capability import CapabilitySettings, HarmfulnessSettings, TaskSettings
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.fingerprint import fingerprint, plain
from tests.conftest import REPOSITORY

COMMIT = "0" * 40
PROBE = {"prompts": {"source": "file", "path": "a.csv"}, "judge": "judge.yaml"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prompts": 5}, "needs the pinned revision"),
        ({"prompts": 5, "revision": "main"}, "pattern"),
        ({"prompts": 5, "path": "a.yaml", "revision": COMMIT}, "neither task nor revision"),
        ({"prompts": 0, "path": "a.yaml"}, "greater than or equal to 1"),
        ({"path": "a.yaml"}, "Field required"),
    ],
)
def test_a_task_is_pinned_or_ones_own(fields, text):
    with pytest.raises(ValidationError, match=text):
        TaskSettings(**fields)


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        ({"source": "file", "path": "a.txt"}, "pattern"),
        ({"source": "url", "url": "http://example.org/a.csv", "sha256": "0" * 64}, "pattern"),
        ({"source": "url", "url": "https://example.org/a.csv"}, "Field required"),
    ],
)
def test_requests_are_a_file_or_pinned(prompts, text):
    with pytest.raises(ValidationError, match=text):
        HarmfulnessSettings(**PROBE | {"prompts": prompts})


def test_a_block_measures_something():
    with pytest.raises(ValidationError, match="at least one of tasks and harmfulness"):
        CapabilitySettings()
    with pytest.raises(ValidationError, match="another name than harmfulness"):
        CapabilitySettings(tasks={"harmfulness": {"path": "a.yaml", "prompts": 1}})
    assert CapabilitySettings(harmfulness=PROBE).harmfulness.sample == "all"


def test_a_mistake_is_told_with_its_line(tmp_path, tiny_text):
    path = tmp_path / "study.yaml"
    path.write_text(f"{tiny_text}\ncapability:\n  tasks:\n    mmlu: {{ revision: {COMMIT}, prompt: 5 }}\n")
    with pytest.raises(
        SpecError, match=r"study.yaml:\d+: capability.tasks.mmlu.prompt: found an unknown field"
    ) as error:
        read_study(path)
    assert "capability.tasks.mmlu.prompts: found nothing" in str(error.value)
    path.write_text(
        f"{tiny_text}\ncapability:\n  harmfulness:\n    prompts: {{ source: file, path: a.txt }}\n    judge: x\n"
    )
    with pytest.raises(SpecError, match=r"capability.harmfulness.prompts.path: found 'a.txt'"):
        read_study(path)


def test_a_study_without_the_block_has_the_fingerprint_that_it_had(tiny_study):
    assert "capability" not in plain(tiny_study)
    block = CapabilitySettings(harmfulness=PROBE)
    assert fingerprint(study=tiny_study) != fingerprint(study=tiny_study.model_copy(update={"capability": block}))


@pytest.mark.parametrize(("name", "tasks"), [("paper", 4), ("smoke", 2)])
def test_presets_pin_their_tasks(name, tasks):
    block = read_study(REPOSITORY / "studies" / f"{name}.yaml").capability
    assert len(block.tasks) == tasks
    assert all(len(task.revision) == 40 for task in block.tasks.values())
