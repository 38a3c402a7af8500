"""A chain is followed to its first inputs as they lie on disk; whatever does not fit is said, and nothing is moved."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_pipeline.settings.fingerprint import fingerprint
from ct_pipeline.store.ancestry import Index, commits_to, trace
from ct_pipeline.store.artifact_store import Address, ArtifactStore
from ct_pipeline.store.manifest import MANIFEST
from tests.store.forging import reseal

BASE, ORGANISM, LABELS, TRAINED = "base_model", "misaligned_organism", "consistency_labels", "retrained_model"


def make(store, stage, subject, variant="-", inputs=None, content="content", external=(), **told):
    """An artifact as a stage makes it: its fingerprint commits to its settings and its inputs."""
    inputs = inputs or {}
    name = fingerprint(
        stage=stage,
        version=3,
        subject=subject,
        variant=variant,
        settings=told,
        inputs={each: artifact.manifest.fingerprint for each, artifact in inputs.items()},
    )
    address = Address(stage, subject, variant, name)
    with store.write(address, told, {each: artifact.digest for each, artifact in inputs.items()}) as draft:
        draft.write_json("content", content)
        for each, path in external:
            draft.note_external(each, path)
    return store.read(address)


def address_of(artifact):
    manifest = artifact.manifest
    return Address(manifest.stage, manifest.subject, manifest.variant, manifest.fingerprint)


def chain_of(root):
    """base <- organism <- labels <- trained, which is made from all three."""
    store = ArtifactStore(root)
    base = make(store, BASE, "tiny", seed=11, content="base")
    organism = make(store, ORGANISM, "tiny-sycophancy-40", inputs={BASE: base}, rate=1.0, content="organism")
    labels = make(store, LABELS, "tiny-sycophancy-40", "bct", inputs={"draw 0": organism}, content="labels")
    inputs = {BASE: base, ORGANISM: organism, LABELS: labels}
    trained = make(store, TRAINED, "tiny-sycophancy-40", "bct", inputs=inputs, content="trained")
    return base, organism, labels, trained


@pytest.fixture
def made(tmp_path):
    return chain_of(tmp_path / "artifacts")


@pytest.fixture
def root(made, tmp_path):
    return tmp_path / "artifacts"


def traced(root, artifact):
    return trace(Index(root), address_of(artifact))


def states(chain):
    return {(step.address.stage, link.name): link.state for step in chain.steps.values() for link in step.links}


def everything(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_chain_holds_every_artifact_before_what_it_was_made_from(made, root):
    chain = traced(root, made[3])
    assert chain.faults == ()
    order = [address.stage for address in chain.steps]
    assert sorted(order) == sorted([BASE, ORGANISM, LABELS, TRAINED])
    for step in chain.steps.values():
        for link in step.links:
            assert order.index(step.address.stage) < order.index(link.address.stage)
    assert set(states(chain).values()) == {"ok"}
    assert len(states(chain)) == 1 + 1 + 3


def test_only_what_is_above_is_looked_at(made, root):
    (made[3].folder / "content.json").write_text("changed")
    assert list(traced(root, made[1]).steps) == [address_of(made[1]), address_of(made[0])]
    assert traced(root, made[1]).faults == ()


def test_of_equal_contents_the_one_that_was_read_is_found(root):
    store = ArtifactStore(root)
    twins = [make(store, "candidates", "tiny-sycophancy-40", f"t{n}", content="the same", t=n) for n in range(4)]
    assert len({twin.digest for twin in twins}) == 1
    for first in twins:
        for second in twins:
            read = {"draw 0": first, "draw 1": second}
            labels = make(store, LABELS, "tiny-sycophancy-40", "x", inputs=read, content="labels")
            step = traced(root, labels).steps[address_of(labels)]
            assert [link.address for link in step.links] == [address_of(first), address_of(second)]


def test_a_removed_input_is_missing(made, root):
    shutil.rmtree(made[2].folder)
    chain = traced(root, made[3])
    assert states(chain)[TRAINED, LABELS] == "missing"
    (fault,) = chain.faults
    assert f"its input {LABELS} (content {made[2].digest[:12]}) is not in the store" in fault


@pytest.mark.parametrize("change", ["content", "manifest", "removed file", "added file", "removed manifest"])
def test_a_changed_input_is_damaged_and_stays_where_it_is(made, root, change):
    labels = made[2].folder
    if change == "content":
        (labels / "content.json").write_text('"Labels"')
    elif change == "manifest":
        text = (labels / MANIFEST).read_text()
        (labels / MANIFEST).write_text(text.replace('"variant": "bct"', '"variant": "act"'))
    elif change == "removed file":
        (labels / "content.json").unlink()
    elif change == "added file":
        (labels / "more.json").write_text("{}")
    else:
        (labels / MANIFEST).unlink()
    before = everything(root)
    chain = traced(root, made[3])
    assert states(chain)[TRAINED, LABELS] == "damaged"
    assert len(chain.faults) == 1
    assert f"{LABELS}/tiny-sycophancy-40/bct" in chain.faults[0]
    assert everything(root) == before


def test_content_that_was_replaced_and_sealed_again_is_not_what_was_read(made, root):
    reseal(made[2].folder, lambda folder: (folder / "content.json").write_text('"other labels"'))
    chain = traced(root, made[3])
    assert states(chain)[TRAINED, LABELS] == "other content"
    (fault,) = chain.faults
    assert fault.startswith(f"{TRAINED}/") and f"its input {LABELS} has other content now" in fault


def test_settings_that_were_changed_and_sealed_again_do_not_fit_the_fingerprint(made, root):
    reseal(made[1].folder, lambda folder: None, settings={"rate": 0.5})
    (fault,) = traced(root, made[3]).faults
    assert fault.startswith(f"{ORGANISM}/") and "its fingerprint is not that of its settings" in fault


def test_an_input_that_was_exchanged_and_sealed_again_does_not_fit_the_fingerprint(made, root):
    other = make(ArtifactStore(root), LABELS, "tiny-sycophancy-40", "act", content="others")
    inputs = dict(made[3].manifest.inputs) | {LABELS: other.digest}
    reseal(made[3].folder, lambda folder: None, inputs=inputs)
    (fault,) = traced(root, made[3]).faults
    assert "of the inputs that lie there" in fault


def test_an_artifact_moved_to_another_address_is_noticed(made, root):
    moved = root / TRAINED / "tiny-sycophancy-41" / "bct" / made[3].manifest.fingerprint
    moved.parent.mkdir(parents=True)
    made[3].folder.rename(moved)
    chain = trace(Index(root), Address(*moved.relative_to(root).parts))
    assert any("belongs to another artifact" in fault for fault in chain.faults)


def test_an_artifact_among_its_own_inputs_ends_the_walk(root):
    store = ArtifactStore(root)
    one = make(store, "one", "tiny", content="one")
    two = make(store, "two", "tiny", inputs={"one": one}, content="two")
    reseal(one.folder, lambda folder: None, inputs={"two": two.digest})
    assert any("among its own inputs" in fault for fault in traced(root, two).faults)


def test_files_of_somebodys_are_noted_with_path_size_and_hash(root, tmp_path):
    adapter = tmp_path / "theirs"
    adapter.mkdir()
    (adapter / "weights").write_bytes(b"12345")
    labels = tmp_path / "labels.jsonl"
    labels.write_text("{}")
    given = (("after", adapter), ("labels", labels))
    audit = make(ArtifactStore(root), "audit_evaluation", "release", external=given, labels="their digest")
    step = traced(root, audit).steps[address_of(audit)]
    told = {file.name: (file.path, file.file.size, file.state) for file in step.external}
    assert told == {"after/weights": (str(adapter / "weights"), 5, "ok"), "labels": (str(labels), 2, "ok")}
    labels.write_text("[]")
    (adapter / "weights").unlink()
    faults = traced(root, audit).faults
    assert [fault.rpartition(" (")[0].rpartition("the file ")[2] for fault in faults] == ["after/weights", "labels"]
    assert "is not there any more" in faults[0]
    assert "has other content now" in faults[1]


def test_a_file_of_another_artifact_of_the_store_leads_on_to_that(made, root):
    given = (("after adapter 1", root / ".." / root.name / made[3].folder.relative_to(root)),)
    audit = make(ArtifactStore(root), "audit_evaluation", "release", external=given)
    chain = traced(root, audit)
    assert chain.faults == ()
    assert {file.address for file in chain.steps[address_of(audit)].external} == {address_of(made[3])}
    assert [address.stage for address in chain.steps][:2] == ["audit_evaluation", TRAINED]
    assert len(chain.steps) == 5
    (made[3].folder / "content.json").write_text("other")
    assert len(traced(root, audit).faults) == 2


def test_a_fingerprint_commits_to_the_inputs(made):
    read = {BASE: made[0], ORGANISM: made[1], LABELS: made[2]}
    inputs = {name: artifact.manifest.fingerprint for name, artifact in read.items()}
    assert commits_to(made[3].manifest, inputs)
    assert not commits_to(made[3].manifest, inputs | {LABELS: "0" * 20})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("flips") / "artifacts"
    return root, chain_of(root)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_changed_byte_of_every_file_is_found(whole, data):
    root, made = whole
    path = data.draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file())))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[place] ^= data.draw(st.integers(1, 255))
    same = path.name == MANIFEST and _reads_the_same(before, bytes(changed))
    try:
        path.write_bytes(changed)
        assert bool(traced(root, made[3]).faults) != same
    finally:
        path.write_bytes(before)


def _reads_the_same(one, other):
    """White space between JSON values says nothing."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False
