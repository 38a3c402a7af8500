"""Judge files: what is refused, and where text may be sent."""

import pytest
from pydantic import ValidationError

from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.judge import HttpJudge, RulesJudge
from ct_pipeline.settings.load import load_judge

FILE = """\
name: polite
rubric: { scale: yes_no, rule: The answer is rude. }
judge:
  source: http
  base_url: https://api.example.com/v1
  allowed_hosts: [api.example.com]
  model: small
  key_variable: JUDGE_KEY
"""


def http(base_url, *hosts):
    return HttpJudge(source="http", base_url=base_url, allowed_hosts=hosts, model="m")


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("https://API.example.com:8443/v1/", "api.example.com:8443"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000/v1", "[::1]:8000"),
    ],
)
def test_addresses_that_are_allowed(base_url, host):
    assert http(base_url, "elsewhere.org", host).address == f"{base_url.rstrip('/')}/chat/completions"


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.2/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://",
        "api.example.com/v1",
        "https://user:secret@api.example.com/v1",
        "https://api.example.com@evil.org/v1",
        "https://api.example.com/v1?key=secret",
        "https://api.example.com/v1#x",
        "https://api.example.com:99999/v1",
        "https://api.example.com\\@evil.org/v1",
        "https://evil.org /v1",
        "https://аpi.example.com/v1",
        "https://api.example.com\n.evil.org/v1",
        "https://evil.org/api.example.com",
        "https://api.exam\nple.com/v1",
    ],
)
def test_addresses_that_are_refused(base_url):
    with pytest.raises(ValidationError):
        http(base_url, "api.example.com", "127.0.0.1", "localhost")


def test_a_host_off_the_list_is_refused():
    with pytest.raises(ValidationError, match=r"allowed_hosts must name api.example.com"):
        http("https://api.example.com/v1", "example.com")
    with pytest.raises(ValidationError, match=r"allowed_hosts must name 127.0.0.1:8001"):
        http("http://127.0.0.1:8001/v1", "127.0.0.1:8000")


@pytest.fixture
def load(tmp_path):
    def loaded(text):
        path = tmp_path / "judge.yaml"
        path.write_text(text)
        return load_judge(path)

    return loaded


def test_a_file_is_read(load, tmp_path):
    file = load(FILE)
    assert (file.name, file.rubric.rule, file.judge.concurrency) == ("polite", "The answer is rude.", 8)
    assert file.place("rubric.txt") == tmp_path / "rubric.txt"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model: small", "modle: small", "judge.yaml:7: judge.modle: found an unknown field; allowed:"),
        ("model: small", "modle: small", "(did you mean model?)"),
        ("rule: The", "rull: The", "rubric.rull: found an unknown field; allowed: rule, scale"),
        ("source: http", "source: htp", "judge: found"),
        ("yes_no", "yes_or_no", "rubric: found"),
        ("key_variable: JUDGE_KEY", "key_variable: sk-secret-1", "judge.key_variable: found"),
        (
            "key_variable: JUDGE_KEY",
            "concurrency: 0",
            "judge.concurrency: found 0; allowed: greater than or equal to 1",
        ),
        ("key_variable: JUDGE_KEY", "api_key: sk-1", "judge.api_key: found an unknown field"),
        ("[api.example.com]", "[example.com]", "allowed_hosts must name api.example.com"),
    ],
)
def test_mistakes_name_line_and_field(load, old, new, told):
    with pytest.raises(SpecError) as error:
        load(FILE.replace(old, new))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("JUDGE_KEY", "sk-secret-1"),
        ("https://api", "https://me:sk-secret-1@api"),
        ("com/v1", "com/v1?key=sk-secret-1"),
        ("key_variable: JUDGE_KEY", "api_key: sk-secret-1"),
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(load, old, new):
    with pytest.raises(SpecError) as error:
        load(FILE.replace(old, new))
    assert "sk-secret-1" not in str(error.value)


def test_models_have_a_rubric_and_rules_have_none(load):
    rules = "name: a\njudge: { source: rules, operation: contains, texts: [x] }\n"
    assert isinstance(load(rules).judge, RulesJudge)
    for text in (rules + "rubric: { scale: yes_no, rule: x }\n", FILE.replace("rubric:", "# rubric:")):
        with pytest.raises(SpecError, match="a model judges by a rubric, rules judge without one"):
            load(text)


@pytest.mark.parametrize(("operation", "texts"), [("contains", [" "]), ("contains", []), ("first_word", ["two words"])])
def test_rules_need_texts(operation, texts):
    with pytest.raises(ValidationError):
        RulesJudge(source="rules", operation=operation, texts=texts)
