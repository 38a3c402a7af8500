"""The base model that comes with the package: of the default world, whole, what its record says, made by today's code."""

import fnmatch
import tomllib

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.manifest import MANIFEST, Manifest
from ct_pipeline.tinyworld import packaged
from ct_pipeline.tinyworld.corpus import all_words
from ct_pipeline.tinyworld.gate import knowledge_of_folder
from ct_pipeline.tinyworld.pretraining import pretrain
from ct_pipeline.tinyworld.tokenizer import build_tokenizer
from ct_pipeline.tinyworld.world import TinyWorld
from tests.conftest import REPOSITORY, TINY
from tests.tinyworld.settings import pretraining_settings, world_settings

DEFAULT = read_study(REPOSITORY / "studies" / "tiny.yaml")
WORLD, PRETRAINING = DEFAULT.world, DEFAULT.pretraining


@pytest.fixture(scope="module")
def manifest():
    return Manifest.from_json((packaged.FOLDER / MANIFEST).read_text())


@pytest.mark.parametrize("spec", [REPOSITORY / "studies" / "tiny.yaml", TINY], ids=["default study", "tests' study"])
def test_it_is_of_the_world_of(spec):
    study = read_study(spec)
    assert packaged.fits(study.world, study.pretraining)


def test_another_world_another_pretraining_and_one_that_is_wanted_here_are_not_its_own():
    assert not packaged.fits(WORLD.model_copy(update={"seed": 8}), PRETRAINING)
    assert not packaged.fits(WORLD, PRETRAINING.model_copy(update={"tokens": PRETRAINING.tokens + 1}))
    assert not packaged.fits(WORLD, PRETRAINING.model_copy(update={"source": "here"}))


def test_its_weights_know_what_its_record_says_and_pass_the_gate(manifest):
    known = knowledge_of_folder(packaged.FOLDER, WORLD)
    assert known.direct_questions == manifest.record["direct_questions"]
    assert known.direct_accuracy == pytest.approx(manifest.record["direct_accuracy"], abs=0.003)
    assert known.held_out_loss == pytest.approx(manifest.record["held_out_loss"], rel=1e-3)
    assert known.direct_accuracy > PRETRAINING.gate_accuracy


def test_todays_code_takes_the_same_first_steps_in_the_same_words(manifest, tmp_path):
    class Enough(Exception):
        pass

    losses = []

    def note(step, steps, loss):
        losses.append(loss)
        if step == 6:
            assert steps == manifest.record["steps"]
            raise Enough

    with pytest.raises(Enough):
        pretrain(WORLD, PRETRAINING, tmp_path, manifest.record["threads"], note)
    assert losses == pytest.approx(manifest.record["losses"][:6], rel=1e-4)
    tokenizer = build_tokenizer(all_words(TinyWorld(WORLD)), PRETRAINING.shape.positions)
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (packaged.FOLDER / name).read_bytes()


def test_the_command_makes_a_folder_that_is_known_by_its_world_and_copied_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "package")
    world, pretraining = world_settings(), pretraining_settings(tokens=2_000)
    packaged.package(world, pretraining, 1, "the command", packaged.FOLDER)
    assert packaged.fits(world, pretraining)
    assert not packaged.fits(WORLD, PRETRAINING)
    (tmp_path / "copy").mkdir()
    record = packaged.copy_to(tmp_path / "copy", world, pretraining)
    assert (record["source"], record["command"], record["threads"]) == ("packaged", "the command", 1)
    assert record["made"]["versions"]["torch"]
    again = tmp_path / "again"
    pretrain(world, pretraining, again, 1)
    names = {path.name for path in again.iterdir()}
    assert names == {path.name for path in (tmp_path / "copy").iterdir()}
    assert all((again / name).read_bytes() == (tmp_path / "copy" / name).read_bytes() for name in names)


def test_a_manifest_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"the package is damaged: .*: manifest\.json is missing or unreadable"):
        packaged.fits(WORLD, PRETRAINING)


def test_all_of_it_is_installed_and_nothing_of_it_is_pickled():
    configured = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = configured["ct_pipeline.tinyworld"]
    files = [path.relative_to(packaged.FOLDER.parent).as_posix() for path in packaged.FOLDER.iterdir()]
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in files)
    assert {name.rpartition(".")[2] for name in files} == {"safetensors", "json", "jinja"}
