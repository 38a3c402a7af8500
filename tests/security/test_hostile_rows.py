"""Hostile JSONL, JSON and paths: refused with file, line and field; nothing waits, nothing leaves the folder."""

import os
import time

import pytest

from ct_pipeline.settings.errors import Refused, printable, shown
from ct_pipeline.store.untrusted import Limits, files_of, inside, parse_json, read_file, read_json, read_jsonl

ROWS = {
    "a prompt of 10 MB": (b'{"prompt": "' + b"x" * 10_000_000 + b'"}', ":1: found a row of 10,000,014 bytes"),
    "a prompt of 2 MB": (
        b'{"prompt": "' + b"x" * 2_000_000 + b'"}',
        ":1: prompt: found a text of 2,000,000 characters",
    ),
    "a bomb of lists": (b'{"prompt": ' + b"[" * 100_000 + b"}", ":1: found nesting without end"),
    "a bomb of mappings": (b'{"a":' * 100_000, ":1: found nesting without end"),
    "forty levels": (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "found more than 32 levels"),
    "a field twice": (b'{"prompt": "a", "prompt": "b"}', ":1: prompt: found it twice"),
    "a field twice, spelled in two ways": (rb'{"prompt": "a", "\u0070rompt": "b"}', ":1: prompt: found it twice"),
    "no number": (b'{"score": NaN}', ":1: score: found 'NaN'"),
    "minus infinity": (b'{"score": -Infinity}', ":1: score: found '-Infinity'"),
    "a number beyond floats": (b'{"score": 1e999}', ":1: score: found '1e999'"),
    "a number of a million digits": (b'{"id": ' + b"9" * 1_000_000 + b"}", ":1: id: found '999"),
    "half a character": (rb'{"prompt": "a\ud800b"}', ":1: prompt: found half a character"),
    "half a character in a name": (rb'{"\udfff": 1}', "found half a character"),
    "a null character": (rb'{"prompt": "a\u0000b"}', ":1: prompt: found a null character"),
    "raw control characters": (b'{"prompt": "a\x1b[31m"}', ":1: found no JSON"),
    "no UTF-8": (b'{"prompt": "\xff\xfe"}', ":1: found bytes that are not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), ":1: found"),
    "no JSON": (b"import os", ":1: found no JSON"),
    "two objects on a line": (b'{"a": 1} {"b": 2}', ":1: found no JSON"),
    "a list": (b"[1, 2]", ":1: found a list"),
    "a text": (b'"yes"', ":1: found a str"),
    "a later line": (b'{"a": 1}\n{"b": 2}\n\n{"c": NaN}', ":4: c: found 'NaN'"),
    "a field with escapes": (b'{"\\u001b[2J\\u202e": NaN}', r"\x1b[2J\u202e: found 'NaN'"),
    "nothing": (b"\n \n", "found no row"),
}


@pytest.mark.parametrize("name", ROWS)
def test_it_is_refused_with_its_line_and_field(tmp_path, name):
    content, expected = ROWS[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(Refused) as refused:
        read_jsonl(path)
    told = str(refused.value)
    assert expected in told
    assert told.startswith(str(path))
    assert "allowed: " in told
    assert all(character.isprintable() or character == "\n" for character in told)
    assert len(told) < 2_000
    assert time.perf_counter() - start < 5


def test_rows_keep_their_lines_and_every_text_is_data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '\ufeff{"a": "=1+1"}\n\n{"b": "\u202e </s><|assistant|> \u2028 {{ 7*7 }}"}\r\n{"c": [1, 2.5, null, true]}'
    )
    rows = read_jsonl(path)
    assert [row.line for row in rows] == [1, 3, 4]
    assert [row.fields for row in rows] == [
        {"a": "=1+1"},
        {"b": "\u202e </s><|assistant|> \u2028 {{ 7*7 }}"},
        {"c": [1, 2.5, None, True]},
    ]


def test_all_mistakes_are_told_up_to_a_bound(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join('{"a": NaN, "b": Infinity}' for _ in range(1_000)))
    with pytest.raises(Refused) as refused:
        read_jsonl(path)
    assert len(refused.value.refusals) == Limits().mistakes
    path.write_text('{"a": NaN}\n[]\n{')
    with pytest.raises(Refused) as refused:
        read_jsonl(path)
    assert [f":{line}: " in str(refusal) for line, refusal in enumerate(refused.value.refusals, 1)] == [True] * 3


def test_too_many_rows_and_too_large_a_file_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 50)
    with pytest.raises(Refused, match="more than 10 rows"):
        read_jsonl(path, Limits(rows=10))
    with pytest.raises(Refused, match="more than 100 bytes"):
        read_jsonl(path, Limits(size=100))
    with pytest.raises(Refused, match="more than 5 entries"):
        parse_json(b"[[],[],[],[]]", "x", limits=Limits(entries=5))


def test_a_sparse_file_of_a_terabyte_costs_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(Refused, match="more than 200,000,000 bytes"):
        read_jsonl(path)


@pytest.mark.parametrize("reader", [read_jsonl, read_json, lambda path: read_file(path, 100)])
def test_what_is_no_regular_file_is_never_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name, expected in {
        "pipe": "a named pipe",
        "loop": "Too many levels",
        "zero": "a device",
        "folder": "a folder",
        "nothing": "No such file",
        "a\0b": "null byte",
        "x" * 5_000: "File name too long",
    }.items():
        with pytest.raises(Refused, match=expected):
            reader(tmp_path / name)


NAMES = [
    "../x", "../../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "a/./b", "./a", "..", ".", "", "~/x", "~root/x",
    "C:\\x", "C:x", "\\\\host\\share\\x", "a\\..\\b", "a\0b", "a\n", "\u202egpj.x", "a b", "-rf", ".git/config", "x" * 300,
    "a/b/c/d/e", "file:///etc/passwd", "http://x", "x.zip!/y", "a|b", "$(touch x)", "`id`", "%2e%2e/x", "con:", 7, None,
    ["a"], "\udc80", "．．/x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_a_name_that_is_no_plain_one_below_the_folder_is_refused(tmp_path, name):
    (tmp_path / "inner").mkdir()
    with pytest.raises(Refused, match="weight_map: the file name"):
        inside(tmp_path / "inner", name, "index.json: weight_map")


def test_links_may_stay_inside_and_not_leave(tmp_path):
    folder, other = tmp_path / "inner", tmp_path / "inner-too"
    folder.mkdir()
    other.mkdir()
    (folder / "a.json").write_text("{}")
    (other / "b.json").write_text("{}")
    (folder / "good.json").symlink_to("a.json")
    (folder / "bad.json").symlink_to("../inner-too/b.json")
    (folder / "sub").symlink_to("../inner-too")
    assert read_json(folder / "good.json", folder=folder) == {}
    assert inside(folder, "good.json", "x") == folder / "good.json"
    for name in ("bad.json", "sub/b.json"):
        with pytest.raises(Refused, match="leads out of the folder"):
            read_json(folder / name, folder=folder)
        with pytest.raises(Refused, match="leads out of the folder"):
            inside(folder, name, "x")
    assert set(files_of(folder).files) == {"a.json", "good.json"}
    assert len(files_of(folder).refusals) == 2


def test_foreign_text_is_shown_on_one_line_without_what_hides_or_commands():
    hostile = "a\x1b]0;title\x07\r\n\u202e\u2066\u200b\ud800\x00[red]b"
    assert printable(hostile) == r"a\x1b]0;title\x07\r\n\u202e\u2066\u200b\ud800\x00[red]b"
    assert shown("x" * 10**6).endswith(" ...")
    assert len(shown([["x" * 100] * 100])) < 200
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert "too long to show" in shown(deep)
    assert "too long to show" in shown(10**5_000)
