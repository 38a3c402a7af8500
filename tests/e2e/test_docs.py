"""What the how-to pages promise, on the reduced study: the report explained, the cost of a change, a kind that is new."""

import re
import shutil
import sys
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.measurement import language_model
from ct_pipeline.organisms import catalog
from ct_pipeline.steps import misaligned_organism, organism_evaluation, preflight
from ct_pipeline.steps.step import Context
from tests.docs.pages import DOCS, blocks, headings
from tests.e2e.runs import Place, change


class Headings(HTMLParser):
    """The texts of a page's headings of the second and third level, with the identifiers of those that have one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "h3") and dict(attributes).get("id"):
            self.found.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("h2", "h3")

    def handle_data(self, text: str) -> None:
        if self._inside:
            self.found[-1] += text


def test_the_page_on_the_report_explains_every_section_and_names_every_table(finished: Place) -> None:
    report = finished.home / "reports" / "reduced"
    page = (DOCS / "reading-the-report.md").read_text()
    explained = headings(page)
    sections = Headings((report / "index.html").read_text()).found
    assert len(sections) > 10
    assert [section for section in sections if section not in explained] == []
    tables = {path.stem for path in (report / "tables").glob("*.csv")}
    assert {table for table in tables if f"`{table}`" not in page} == set()


def test_choosing_among_eight_draws_nothing_again(finished: Place, tmp_path: Path) -> None:
    mine = Place(finished.home, tmp_path / "mine.yaml")
    shutil.copyfile(finished.spec, mine.spec)
    change(mine.spec, name="mine", methods__self_confidence__k=8)

    outcome = finished.run("plan", str(mine.spec))

    assert outcome.returncode == 0, outcome.stderr
    assert re.search(r"candidates +│ 2 of 2", outcome.stdout)
    assert re.search(r"labels +│ 22 of 24", outcome.stdout)
    change(mine.spec, methods__self_confidence__k=0)
    refused = finished.run("plan", str(mine.spec))
    assert refused.returncode == 2
    assert re.search(r"mine\.yaml:\d+: methods\.self_confidence\.k: found 0; allowed: ", refused.stderr)


def test_lineage_takes_a_cells_name(finished: Place) -> None:
    outcome = finished.run("lineage", "tiny-sycophancy-40/bct")
    assert outcome.returncode == 0, outcome.stderr


@pytest.fixture
def kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The kind of the page on misalignments, in the catalog."""
    source = next(block.text for block in blocks(DOCS / "your-own-misalignment.md") if block.language == "python")
    file = tmp_path / "rating_inflation.py"
    file.write_text(source)
    spec = spec_from_file_location("rating_inflation", file)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rating_inflation", module)
    spec.loader.exec_module(module)
    kinds = (*catalog.MISALIGNMENTS, module.MISALIGNMENT)
    for room in ("organisms.catalog", "interventions.files", "measurement.organism_rows"):
        monkeypatch.setattr(f"ct_pipeline.{room}.MISALIGNMENTS", kinds)
    return module.MISALIGNMENT


def test_the_kind_of_the_page_is_induced_and_passes_its_gate(
    finished: Place, kind: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path / "results")
    change(place.spec, misalignments=[kind.name])
    monkeypatch.setenv("CT_PIPELINE_HOME", str(place.home))
    study = read_study(place.spec)
    (organism,) = study.organisms
    assert preflight.faults(study) == ()

    language_model.close_models()
    for make in (misaligned_organism.make, misaligned_organism.make_control, organism_evaluation.make):
        made = make(Context(place.store, study), organism)
    language_model.close_models()

    gate = made.json("gate")
    assert gate["passed"], gate["reasons"]
    assert 0.2 < gate["organism"]["value"] < 0.8
    assert made.table("organism")["verdict"].isna().mean() < 0.5
