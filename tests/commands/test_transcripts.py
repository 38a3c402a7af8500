"""`transcripts` on the command line: what is written and said, with inspect-ai and without."""

import json
import socket
import sys

import pytest

from ct_pipeline import cli
from ct_pipeline.commands.transcripts import view_command
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.fakes.finished import finish


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def run(monkeypatch, capsys, results):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(results))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", "transcripts", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return ended.value.code or 0, captured.out, captured.err

    return call


def test_without_inspect_the_extra_is_named_before_anything_else(run, monkeypatch, results):
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    code, _, err = run("tiny-sycophancy-40")
    assert code == 2
    assert 'run: pip install "ct-pipeline[inspect]"' in err
    assert not results.exists()


def test_the_viewer_is_served_on_this_machine_alone_and_renders_nothing(tmp_path):
    command = view_command(tmp_path, 7575)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "--no-trust-content" in command


def test_a_cell_is_written_and_the_way_to_open_it_is_said(run, results, tiny_study):
    pytest.importorskip("inspect_ai")
    finish(ArtifactStore(results / "artifacts"), narrowed(tiny_study, ["sycophancy", "bct", "40"], None))
    code, out, _ = run("tiny-sycophancy-40/bct")
    assert code == 0
    files = sorted((results / "reports" / "transcripts" / "tiny-sycophancy-40" / "bct").iterdir())
    models = {json.loads(path.read_text())["eval"]["model"] for path in files}
    assert models == {"tiny/before", "tiny/after"}
    for path in files:
        assert str(path) in out
    assert "ct-pipeline transcripts tiny-sycophancy-40/bct --view" in out


def test_what_is_not_there_is_said(run):
    pytest.importorskip("inspect_ai")
    code, _, err = run("../[red]nobody")
    assert code == 2
    assert "../[red]nobody: nothing finished is called so; audits: none; organisms: none; cells: none" in err


def test_a_port_in_use_is_named_before_anything_is_written(run, results):
    pytest.importorskip("inspect_ai")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = run("tiny-sycophancy-40", "--view", "--port", taken.getsockname()[1])
    assert code == 2
    assert "--port" in err and "in use" in err
    assert not results.exists()
