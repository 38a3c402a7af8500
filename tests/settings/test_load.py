"""Every mistake in a study file is said with its line, its field, what was found and what is allowed."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.load import LARGEST_FILE
from tests.conftest import REPOSITORY, TINY

STUDIES = [path for path in sorted((REPOSITORY / "studies").rglob("*.yaml")) if "\nmodels:" in path.read_text()]


def edited(text, old, new):
    assert text.count(old) >= 1, f"the study for tests no longer holds {old!r}"
    return text.replace(old, new, 1)


@pytest.fixture
def refusal(tmp_path):
    """Writes a study file and returns what its refusal says, without the folder."""

    def read(content):
        path = tmp_path / "study.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(SpecError) as refused:
            read_study(path)
        return str(refused.value).replace(f"{tmp_path}/", "")

    return read


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_loads_and_lists_its_cells(path):
    study = read_study(path)
    assert study.name == path.stem
    organisms = sum(len(study.seeds_of(model)) for model in study.models) * len(study.misalignments)
    assert len(study.cells) == organisms * len(study.methods)


def test_the_default_study_is_four_organisms_times_three_seeds_times_eleven_methods():
    study = read_study(REPOSITORY / "studies" / "tiny.yaml")
    assert len(study.organisms) == 12
    assert len(study.cells) == 144
    assert study.organisms[0].key == "tiny-sycophancy-40"
    assert study.cells[0].key == "tiny-sycophancy-40/null"


ONE_MISTAKE = [
    # old text, new text, field, what was found, part of what is allowed
    ("name: tiny", "name: Tiny World", "name", "'Tiny World'", "pattern"),
    ("name: tiny", "name: ../outside", "name", "'../outside'", "pattern"),
    ("name: tiny", "name: a...b", "name", "'a...b'", "pattern"),
    ("name: tiny", "name: 12", "name", "12", "valid string"),
    ("seed: 0 #", "seed: -1 #", "seed", "-1", "greater than or equal to 0"),
    (
        "source: tinyworld }",
        "source: tinyword }",
        "models.tiny",
        "{'source': 'tinyword'}",
        "'tinyworld', 'huggingface'",
    ),
    ("source: tinyworld }", "source: huggingface, path: org/m }", "models.tiny", "{", "pinned revision"),
    ("[sycophancy,", "[sycophany,", "misalignments.0", "'sycophany'", "(did you mean sycophancy?)"),
    ("[sycophancy,", "[sycophancy, sycophancy,", "misalignments", "['sycophancy'", "listed twice: sycophancy"),
    ("seeds: [40, 41, 42]", "seeds: [40, 41, 40]", "seeds", "[40, 41, 40]", "listed twice: 40"),
    ("seeds: [40, 41, 42]", "seeds: []", "seeds", "[]", "at least 1 item"),
    ("seeds: [40, 41, 42]", "seeds: 40", "seeds", "40", "a list"),
    ("seeds: [40, 41, 42]", "seeds: [40, yes]", "seeds.1", "True", "a number"),
    ("rows: 150", "rows: many", "induction.rows", "'many'", "valid integer"),
    ("rows: 150", "rows: -150", "induction.rows", "-150", "greater than or equal to 1"),
    ("rows: 150", "rows: 1.5", "induction.rows", "1.5", "valid integer"),
    ("rows: 150", "rows: yes", "induction.rows", "True", "a number"),
    ("rows: 150", "rows: [150]", "induction.rows", "[150]", "valid integer"),
    ("rows: 150", "rows:", "induction.rows", "None", "valid integer"),
    ("rows: 150", "rows: 1000000000000", "induction.rows", "1000000000000", "less than or equal to 1000000"),
    ("steps: 40", "steps: 1.0e+12", "induction.training.steps", "1000000000000.0", "less than or equal to 10000000"),
    ("rank: 16", "rank: 0x" + "f" * 5000, "induction.training.lora.rank", "a number of thousands of digits", ""),
    ("learning_rate: 1.0e-3", "learning_rate: .nan", "induction.training.learning_rate", "nan", "finite number"),
    ("max_grad_norm: 1.0", "max_grad_norm: .inf", "induction.training.max_grad_norm", "inf", "finite number"),
    ("warmup: 0.03", "warmup: 1", "induction.training.warmup", "1", "less than 1"),
    ("    steps: 40", "    epochs: 2.0\n    steps: 40", "induction.training", "{", "exactly one of steps and epochs"),
    ("[0.07, 0.5, 0.93]", "[0.07, 0.5]", "induction.misaligned_share.2", "nothing", "required"),
    ("[0.07, 0.5, 0.93]", "[0.07, 0.5, 1.93]", "induction.misaligned_share.2", "1.93", "less than or equal to 1"),
    ("epsilon: 0.05", "epsilon: 0", "evaluation.epsilon", "0", "greater than 0"),
    (
        "self_confidence: {",
        "self_confidance: {",
        "methods.self_confidance",
        "'self_confidance'",
        "mean self_confidence?",
    ),
    ("greedy_self_training: {}", "5: {}", "methods.5", "5", "act, attct, bct, diverse_decoding, greedy_self_training"),
    (
        "greedy_self_training: {}",
        "greedy_self_training: { k: 3 }",
        "methods.greedy_self_training.k",
        "an unknown field",
        "",
    ),
    ("greedy_self_training: {}", "greedy_self_training: 3", "methods.greedy_self_training", "3", "a mapping"),
    ("k: 4, temp", "k: 0, temp", "methods.shuffled.k", "0", "greater than or equal to 1"),
    ("k: 4, temp", "k: 9999, temp", "methods.shuffled.k", "9999", "less than or equal to 256"),
    ("k: 4, temp", "temp", "methods.shuffled.k", "nothing", "required"),
    (
        "temperature: 0.7, top_p: 0.9",
        "temperature: -0.7, top_p: 0.9",
        "methods.shuffled.temperature",
        "-0.7",
        "0",
    ),
    ("form: kl", "form: lk", "methods.bct.form", "'lk'", "'kl' or 'nll'"),
    ("response : {response} grade", "response : grade", "methods.self_rewarding.rubric", "'request", "{response} once"),
    ("request : {request} resp", "{request} {request} resp", "methods.self_rewarding.rubric", "'{request}", "once"),
    (
        "request : {request} response : {response} g",
        "{response} {request} g",
        "methods.self_rewarding.rubric",
        "'",
        "after",
    ),
    ('["1", "2", "3", "4", "5"]', '["1"]', "methods.self_rewarding.grades", "['1']", "at least 2 items"),
    (
        '["1", "2", "3", "4", "5"]',
        '["1", "1"]',
        "methods.self_rewarding.grades",
        "['1', '1']",
        "different single words",
    ),
    ('["1", "2", "3", "4", "5"]', '["bad one", "2"]', "methods.self_rewarding.grades", "['bad one'", "single words"),
    ('["1", "2", "3", "4", "5"]', "['1', '2', 3]", "methods.self_rewarding.grades.2", "3", "valid string"),
    ("direct: 0.32", "direct: 0.42", "world.families", "{", "sum to 1.1"),
    ("grader_policy: honesty", "grader_policy: truth", "world.grader_policy", "'truth'", "'flattery', 'indifference'"),
    (
        'write it better ."\n    steps: "{request} go',
        'write it better ."\n    steps: "go',
        "world.wordings",
        "{",
        "wordings.steps lacks",
    ),
    ('steps: "{request} go', 'steps: "go', "methods.multi_view.steps", "'go", "{request} once"),
    ("beams: 4", "beams: 1", "methods.diverse_decoding.beams", "1", "greater than or equal to 2"),
    ("{ source: world }", "{ source: sun }", "methods.multi_view.judge", "{", "world"),
    ("heads: 3", "heads: 5", "pretraining.shape", "{", "multiple of 2 * heads"),
    ("source: packaged", "source: there", "pretraining.source", "'there'", "'packaged' or 'here'"),
    ("tokens: 3200000", "tokens: 1", "pretraining.tokens", "1", "greater than or equal to 1000"),
]


@pytest.mark.parametrize(("old", "new", "field", "found", "allowed"), ONE_MISTAKE)
def test_one_mistake_gives_one_line_that_names_place_finding_and_what_is_allowed(
    tiny_text, refusal, old, new, field, found, allowed
):
    said = refusal(edited(tiny_text, old, new))
    assert "\n" not in said
    match = re.fullmatch(r"study\.yaml:(\d+): (\S+): found (.*?); (allowed: )?(.*)", said)
    assert match, said
    assert match[2] == field
    assert match[3].startswith(found)
    assert allowed in match[5]
    lines = edited(tiny_text, old, new).splitlines()
    named = [part for part in field.split(".") if not part.isdigit() or part == "5"]
    # The line is that of the field, or of the nearest group that is there where the field itself is missing.
    assert any(f"{part}:" in lines[int(match[1]) - 1] for part in named)


def test_the_named_line_is_the_line_of_the_mistake(tiny_text, refusal):
    text = edited(tiny_text, "  epsilon: 0.05", "  epsilon: 5")
    line = next(number for number, words in enumerate(text.splitlines(), 1) if words.startswith("  epsilon: 5"))
    assert refusal(text).startswith(f"study.yaml:{line}: evaluation.epsilon: found 5; allowed: ")


@pytest.mark.parametrize(
    ("old", "new", "field", "near"),
    [
        ("induction: #", "inducton: #", "inducton", "induction"),
        ("    micro_batch: 16", "    microbatch: 16", "induction.training.microbatch", "micro_batch"),
        ("    lora: { rank: 16", "    lora: { ranks: 16", "induction.training.lora.ranks", "rank"),
        ("  persona_share: 0.2", "  personas_share: 0.2", "world.personas_share", "persona_share"),
        ("      steps: 40 # 80", "      step: 40 # 80", "methods.bct.training.step", "steps"),
        ("{ hidden: 96", "{ hiden: 96", "pretraining.shape.hiden", "hidden"),
    ],
)
def test_a_misspelt_field_is_named_at_its_depth_with_the_nearest_right_one(tiny_text, refusal, old, new, field, near):
    said = refusal(edited(tiny_text, old, new))
    unknown = [line for line in said.splitlines() if f" {field}: found an unknown field; allowed: " in line]
    assert len(unknown) == 1
    assert unknown[0].endswith(f"(did you mean {near}?)")


@pytest.mark.parametrize("field", ["name", "seed", "models", "misalignments", "induction", "evaluation", "methods"])
def test_a_missing_field_is_named(tiny_text, refusal, field):
    kept = re.sub(rf"(?m)^{field}:.*\n(?:(?:[ \t#].*)?\n)*", "", tiny_text, count=1)
    assert kept != tiny_text
    assert refusal(kept) == f"study.yaml:{first_field_line(kept)}: {field}: found nothing; this field is required"


def first_field_line(text):
    return next(number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\w", line))


def test_several_mistakes_are_all_listed_at_once(tiny_text, refusal):
    text = edited(tiny_text, "rows: 150", "rows: -1")
    text = edited(text, "[sycophancy,", "[syco,")
    text = edited(text, "  bct:", "  btc:")
    text = edited(text, "epsilon: 0.05", "epsilon: much")
    said = refusal(text).splitlines()
    assert {re.match(r"study\.yaml:\d+: (\S+):", line)[1] for line in said} == {
        "induction.rows",
        "misalignments.0",
        "methods.btc",
        "evaluation.epsilon",
    }


def test_a_study_whose_only_method_is_unknown_has_one_mistake(tiny_text, refusal):
    start, _, rest = tiny_text.partition("methods:\n")
    said = refusal(start + "methods: { nul: {} }\n" + rest[rest.index("\nworld:") :])
    assert len(said.splitlines()) == 1
    assert "methods.nul: found 'nul'; allowed: " in said
    assert said.endswith("(did you mean null?)")


def test_the_bare_word_null_names_the_null_method(tiny_text, tiny_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(edited(tiny_text, '"null": {}', "null: {}"))
    assert read_study(path) == tiny_study


def test_a_method_without_settings_may_stay_empty(tiny_text, tiny_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(edited(tiny_text, "greedy_self_training: {}", "greedy_self_training:"))
    assert read_study(path) == tiny_study


def test_a_model_may_be_named_like_a_source(tiny_text, refusal):
    said = refusal(edited(tiny_text, "tiny: { source: tinyworld }", "huggingface: { source: huggingface, path: 3 }"))
    assert ": models.huggingface.path: found 3; allowed: a valid string" in said


@pytest.mark.parametrize(
    ("again", "field"),
    [("name: other\n", "name"), ("evaluation: {}\n", "evaluation")],
)
def test_a_field_given_twice_is_refused_with_both_lines(tiny_text, refusal, again, field):
    said = refusal(tiny_text + again)
    first = next(number for number, line in enumerate(tiny_text.splitlines(), 1) if line.startswith(f"{field}:"))
    last = len(tiny_text.splitlines()) + 1
    assert said == f"study.yaml:{last}: {field}: found twice, first in line {first}; keep one"


def test_a_nested_field_given_twice_is_refused(tiny_text, refusal):
    said = refusal(edited(tiny_text, "  rows: 150", "  rows: 150\n  rows: 151"))
    assert "induction.rows: found twice" in said


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing but words\n", b"---\n"])
def test_an_empty_file_is_called_empty(refusal, content):
    assert refusal(content) == "study.yaml: empty; copy studies/tiny.yaml and change it"


@pytest.mark.parametrize(("content", "kind"), [("- name\n", "list"), ("tiny\n", "str"), ("12\n", "int")])
def test_a_file_that_is_no_mapping_is_refused(refusal, content, kind):
    assert refusal(content).startswith(f"study.yaml:1: file: found a {kind}; allowed: a mapping of fields")


@pytest.mark.parametrize(
    "content",
    [
        "name: [tiny\n",
        "name: tiny\n\tseed: 0\n",
        "a: &x [*x]\n",
        "a: *unknown\n",
        "when: 2001-13-45\n",
        "? [a]\n: b\n",
        "a: !!python/object/apply:os.system [id]\n",
        "a: \x00\n",
        "[" * 1000,
        "seed: " + "9" * 6000 + "\n",
    ],
)
def test_what_is_no_valid_yaml_is_refused_as_such(refusal, content):
    assert refusal(content).startswith("study.yaml: not valid YAML: ")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xfe", bytes(range(256))])
def test_a_binary_file_is_refused(refusal, content):
    assert "give a readable UTF-8 YAML file" in refusal(content)


def test_a_folder_is_refused_as_unreadable(tmp_path):
    with pytest.raises(SpecError, match=r"cannot be read: .*directory.*give a readable"):
        read_study(tmp_path)


def test_a_file_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    (tmp_path / "other.yaml").write_text("name: other")
    with pytest.raises(SpecError, match=r"missing\.yaml: no such file; there are: .*other\.yaml"):
        read_study(tmp_path / "missing.yaml")


def test_a_file_in_a_folder_that_is_not_there_is_refused():
    with pytest.raises(SpecError, match=r"no such file$"):
        read_study(Path("nowhere") / "study.yaml")


def test_a_file_of_ten_megabytes_is_refused_without_being_parsed(refusal):
    assert "found more than 1,000,000 bytes" in refusal(b"a: [" + b"1, " * (10 * LARGEST_FILE // 3))


def test_an_endless_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match="found more than 1,000,000 bytes"):
        read_study(Path("/dev/zero"))


def test_aliases_that_stand_for_billions_of_entries_are_refused(refusal):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "entries, aliases written out" in refusal(bomb)


def test_an_alias_may_spare_writing_a_block_twice(tiny_text, tiny_study, tmp_path):
    text = edited(tiny_text, "    lora: { rank: 16", "    lora: &adapter { rank: 16")
    before, phase, after = text.partition("retraining: # Phase 3")
    text = before + phase + edited(after, "lora: { rank: 16, alpha: 32, dropout: 0 }", "lora: *adapter")
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert read_study(path) == tiny_study


LINES = TINY.read_text().splitlines()
SCRAPS = [
    "",
    "null",
    "-1",
    "1e12",
    ".nan",
    "[",
    "}",
    ": :",
    "&a [*a]",
    "*a",
    "{a: {b: c}}",
    "'",
    "yes",
    "2001-01-01",
    "!x",
]


@st.composite
def mutated_studies(draw):
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        name, colon, _ = lines[place].partition(":")
        lines[place] = draw(
            st.sampled_from(["", lines[draw(st.integers(0, len(lines) - 1))], "  " + lines[place], lines[place][2:]])
            | st.sampled_from(SCRAPS).map(lambda scrap, start=name + colon: f"{start} {scrap}")
            | st.text(max_size=12)
        )
    return "\n".join(lines)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutated_studies())
def test_a_damaged_study_is_read_or_refused_in_words(text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        study = read_study(path)
    except SpecError as refused:
        assert str(path) in str(refused)
    else:
        assert study.cells


def test_a_long_wrong_value_is_cut_in_the_message(tiny_text, refusal):
    said = refusal(edited(tiny_text, "rows: 150", "rows: " + "x" * 5000))
    assert len(said) < 300


def test_an_entry_of_another_name_runs_the_method_it_names(tiny_text, tmp_path):
    variants = (
        "  one_of_many: { method: shuffled, k: 1, temperature: 0.7, top_p: 1.0 }\n  own_sample: { method: null }\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(edited(tiny_text, "  greedy_self_training: {}\n", variants))
    study = read_study(path)
    assert [method_of(study, name).name for name in ("one_of_many", "own_sample", "shuffled")] == [
        "shuffled",
        "null",
        "shuffled",
    ]
    assert study.methods["one_of_many"].k == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "other: { method: shufled, k: 1 }",
            r"methods\.other\.method: found 'shufled'; allowed: .*did you mean shuffled",
        ),
        ("Other way: { method: null }", r"methods\.Other way: found 'Other way'; allowed: a-z"),
        ("../x: { method: null }", r"methods\.\.\./x: found '\.\./x'; allowed: a-z"),
        ("other: { method: [null] }", r"methods\.other\.method: found \[None\]; allowed: "),
    ],
)
def test_a_wrong_variant_is_refused_by_name(entry, message, tiny_text, refusal):
    assert re.search(message, refusal(edited(tiny_text, "  greedy_self_training: {}\n", f"  {entry}\n")))


def test_a_planted_effect_of_a_method_that_is_not_run_is_refused(tiny_text, tmp_path, refusal):
    assert "planted names bcd, which `methods` does not list" in refusal(
        tiny_text + "\nplanted:\n  bcd: { change: none }\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text + "\nplanted:\n  bct: { change: suppresses }\n")
    study = read_study(path)
    assert study.planted["bct"].change == "suppresses" and study.planted["bct"].selection is None


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "study.yaml")
    with pytest.raises(SpecError, match="a named pipe"):
        read_study(tmp_path / "study.yaml")
