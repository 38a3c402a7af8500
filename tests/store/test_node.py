"""What is complete, what is missing, and what may be made, in a graph of four artifacts."""

import pytest

from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.artifact_store import DamagedArtifact
from ct_pipeline.store.node import Node, find, making
from tests.fakes.small_studies import stand_in


def chain(root_setting=1):
    root = Node("root", 1, "s", "-", {"a": root_setting}, {})
    left = Node("left", 1, "s", "greedy", {}, {"root": root})
    right = Node("right", 1, "s", "-", {}, {"root": root})
    return root, left, right, Node("top", 1, "s", "-", {}, {"left": left, "right": right})


def text(content):
    return lambda draft: draft.write_json("content", content)


def test_a_node_is_complete_when_all_below_it_is(store):
    *_, top = chain()
    assert find(store, top) is None
    made = stand_in(store, top)
    assert find(store, top).folder == made.folder == store.folder(top.address)


def test_a_missing_input_is_named_with_its_place(store):
    root, _, right, top = chain()
    stand_in(store, root)
    stand_in(store, right)
    with pytest.raises(UserError) as refused, making(store, top):
        pytest.fail("nothing may be made without its inputs")
    assert str(refused.value) == "top of s needs left of s (greedy), which is not there: materialize it first"
    assert not store.folder(top.address).exists()


def test_the_maker_is_handed_its_inputs_and_the_manifest_names_their_content(store):
    root, left, _, _ = chain()
    base = stand_in(store, root, text("weights"))
    with making(store, left) as (draft, inputs):
        assert inputs["root"].json("content") == "weights"
        draft.write_json("content", 1)
    assert find(store, left).manifest.inputs == {"root": base.digest}
    assert find(store, left).manifest.settings == {}


def test_deleting_an_artifact_leaves_only_what_rests_on_it_incomplete(store):
    root, left, right, top = chain()
    stand_in(store, top)
    remove(store.folder(left.address))
    assert find(store, root)
    assert find(store, right)
    assert find(store, left) is None
    assert find(store, top) is None


def test_what_is_remade_with_the_same_content_keeps_all_that_rests_on_it(store):
    root, *_, top = chain()
    stand_in(store, root, text("same"))
    stand_in(store, top)
    before = store.read(top.address).manifest
    remove(store.folder(root.address))
    stand_in(store, root, text("same"))
    assert find(store, top).manifest == before


def test_what_is_remade_with_other_content_leaves_all_that_rests_on_it_to_be_remade(store):
    root, left, _, top = chain()
    stand_in(store, root, text("old"))
    stand_in(store, top)
    remove(store.folder(root.address))
    stand_in(store, root, text("new"))
    assert find(store, left) is None
    assert find(store, top) is None
    stand_in(store, left)
    assert find(store, left)
    assert find(store, top) is None, "its other input is still made from the old root"


def test_an_edited_artifact_is_set_aside_and_remade_with_all_that_rests_on_it(store):
    root, *_, top = chain()
    stand_in(store, root, text("old"))
    stand_in(store, top)
    (store.folder(root.address) / "content.json").write_text('"forged"')
    with pytest.warns(DamagedArtifact):
        assert find(store, top) is None
    stand_in(store, root, text("old"))
    assert find(store, top), "the true content came back"


def test_other_settings_are_another_place(store):
    stand_in(store, chain(1)[-1])
    assert find(store, chain(1)[-1])
    assert all(find(store, node) is None for node in chain(2))


def test_stage_version_subject_variant_settings_and_inputs_all_count():
    root = Node("a", 1, "s", "-", {}, {})
    others = [
        Node("b", 1, "s", "-", {}, {}),
        Node("a", 2, "s", "-", {}, {}),
        Node("a", 1, "t", "-", {}, {}),
        Node("a", 1, "s", "v", {}, {}),
        Node("a", 1, "s", "-", {"x": None}, {}),
        Node("a", 1, "s", "-", {}, {"in": root}),
        Node("a", 1, "s", "-", {}, {"other": root}),
    ]
    assert len({node.fingerprint for node in (root, *others)}) == 8


def remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
