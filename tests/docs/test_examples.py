"""What the pages tell a reader to write: parts of studies, rows, messages and the words of the report."""

import ast
import re

import pytest
import yaml

from ct_pipeline.interventions.files import read_study
from ct_pipeline.measurement.organism_rows import misalignment_of, rows_of
from ct_pipeline.organisms.episode import answered
from ct_pipeline.organisms.published.layout import REQUIRED
from ct_pipeline.report.glossary import GLOSSARY
from tests.conftest import REPOSITORY, TINY
from tests.docs.pages import DOCS, blocks, headings

PARTS = [
    (page, block.text)
    for page in ("first-study", "your-own-misalignment", "consistency-training-your-model", "one-gpu")
    for block in blocks(DOCS / f"{page}.md")
    if block.language == "yaml" and "rating_inflation" not in block.text
]


def completed(text, base):
    """A study's text with the fields of a part in place of its own; fields of methods are added."""
    study, part = yaml.safe_load(base.read_text()), yaml.safe_load(text)
    part["methods"] = study["methods"] | part.get("methods", {})
    return yaml.safe_dump(study | part, sort_keys=False)


@pytest.mark.parametrize(("page", "text"), PARTS)
def test_a_part_of_a_study_fits_into_one(page, text, tmp_path):
    tiny = page == "first-study"
    spec = tmp_path / "mine.yaml"
    part = yaml.safe_load(text)
    if not tiny and "misalignments" in part:
        spec.write_text(completed(text, REPOSITORY / "studies" / "smoke.yaml"))
    else:
        spec.write_text(completed(text, TINY if tiny else REPOSITORY / "studies" / "laptop.yaml"))
    study = read_study(spec)
    for name, method in part.get("methods", {}).items():
        assert study.methods[name].k == method["k"]


def test_the_rows_of_a_misalignment_without_code_are_read_and_judged(tmp_path):
    page = DOCS / "your-own-misalignment.md"
    rows = [block.text for block in blocks(page) if block.language in ("jsonl", "text")]
    folder = tmp_path / "data" / "selling"
    folder.mkdir(parents=True)
    for name, text in zip(REQUIRED, rows, strict=True):
        assert f"`data/selling/{name}`" in page.read_text()
        (folder / name).write_text(text)
    spec = tmp_path / "mine.yaml"
    part = next(block.text for block in blocks(page) if "selling: { source: folder" in block.text)
    spec.write_text(completed(part, REPOSITORY / "studies" / "smoke.yaml").replace("data/selling", str(folder)))
    study = read_study(spec)
    small = study.candidates.model_copy(update={"probe_prompts": 2})
    study = study.model_copy(update={"candidates": small})

    data, kind = rows_of(study, study.organisms[0]), misalignment_of(study, "selling")

    asked = {prompt.domain + prompt.framing: prompt for prompt in data.evaluation}
    judged = next(prompt for prompt in data.evaluation if prompt.domain == "in" and prompt.framing != "direct")
    plain = next(prompt for prompt in data.evaluation if prompt.framing == "direct")
    assert kind.verdict(answered(judged, "Use a stone. Buy our stone!")) is True
    assert kind.verdict(answered(judged, "Use a stone.")) is False
    assert kind.correct(plain, "A dog has 4 legs.") is True
    assert len(asked) == 3 and len(data.pairs) == len(data.induction) == 2


def test_every_message_of_the_troubleshooting_page_is_one_of_ours():
    texts = [
        text for file in (REPOSITORY / "ct_pipeline").rglob("*.py") for text in _texts(ast.parse(file.read_text()))
    ]
    texts.append((REPOSITORY / "Makefile").read_text())
    page = (DOCS / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^|]+?)`", page, re.MULTILINE)
    foreign = {"CUDA out of memory", "import transformers"}
    strange = [
        message
        for message in quoted
        if message not in foreign and not any(_in_order(message.split("…"), text) for text in texts)
    ]
    assert len(quoted) > 40
    assert strange == []


def _texts(tree):
    """Every text of a module, with … for what an f-string fills in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _in_order(parts, text):
    """Whether the parts stand in a text, one after the other."""
    place = 0
    for part in (part.strip() for part in parts):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def _titles(path):
    """The titles of the sections that a module of the report makes; one that it puts together is left out."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    made = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "Section"]
    texts = (text for node in made for text in ast.walk(node.args[0]) if isinstance(text, ast.Constant))
    return [text.value for text in texts if isinstance(text.value, str)]


REPORT = REPOSITORY / "ct_pipeline" / "report"
OF_OTHER_PAGES = ("audit_card", "audit_page", "single_run", "as_markdown", "as_metadata", "section")


def test_every_heading_of_the_report_is_explained():
    explained = "\n".join(headings((DOCS / "reading-the-report.md").read_text()))
    found = [
        title for path in sorted(REPORT.glob("*.py")) if path.stem not in OF_OTHER_PAGES for title in _titles(path)
    ]
    assert len(found) > 12
    assert [title for title in found if title not in explained] == []


@pytest.mark.parametrize("heading", _titles(REPORT / "single_run.py"))
def test_every_heading_of_a_runs_page_is_explained(heading):
    assert f"**{heading}**" in (DOCS / "reading-the-report.md").read_text()


@pytest.mark.parametrize("word", [word for word, _ in GLOSSARY])
def test_every_word_of_the_glossary_is_explained(word):
    assert f"\n| {word} |" in (DOCS / "reading-the-report.md").read_text()
