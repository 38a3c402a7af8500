"""Reads the file of a study or an audit and says of every mistake in it: where, what was found, what is allowed."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.judge import JudgeFile
from ct_pipeline.settings.study import MethodSettings, Study
from ct_pipeline.settings.task import TaskFile

Location = tuple[str | int, ...]

LARGEST_FILE = 1_000_000
MOST_ENTRIES = 20_000
SOURCES = ("tinyworld", "huggingface", "world", "jsonl", "none", "http", "rules", "file", "folder", "url", "generated")
UNSHOWN = ("base_url", "key_variable")
"""Fields that somebody may have put an API key into: messages do not repeat them."""
SCALES = ("yes_no", "one_to_five", "aligned_coherent", "harmfulness")
SLUG = re.compile(r"[a-z0-9]+([_.-][a-z0-9]+)*")


@dataclass(frozen=True)
class FileKind:
    """What a message calls a file and the one to copy."""

    noun: str
    example: str


STUDY = FileKind("a study", "studies/tiny.yaml")
AUDIT = FileKind("an audit", "docs/auditing-your-model.md")
JUDGE = FileKind("a judge", "docs/your-own-judge.md")
TASK = FileKind("a task", "docs/capability.md")


def load_study(
    path: Path,
    misalignments: Sequence[str],
    methods: Mapping[str, type[MethodSettings]],
    conditions: Callable[[], Sequence[str]] = tuple,
) -> Study:
    """The validated study of a YAML file.

    `misalignments`, `methods` and `conditions` are what this installation knows; a misalignment with data of its own need
    not be known, and conditions are looked up where a study names some.
    SpecError lists every mistake, one a line:
    file:line: field: what was found; what is allowed.
    """
    root, raw = _read(path, STUDY)
    if isinstance(raw.get("methods"), dict):
        # YAML reads the bare word null as "no value": here it is the name of the null control.
        raw["methods"] = {"null" if name is None else name: given for name, given in raw["methods"].items()}
    mistakes: list[tuple[Location, str]] = []
    settings: dict[str, MethodSettings] = {}
    named_methods = raw.get("methods")
    if isinstance(named_methods, Mapping):
        for name, given in named_methods.items():
            location, kind = _method_named(name, given)
            if not isinstance(kind, str) or kind not in methods:
                mistakes.append((location, f"found {_shown(kind)}; allowed: {_choices(kind, methods)}"))
                continue
            if not SLUG.fullmatch(str(name)):
                mistakes.append((("methods", name), f"found {_shown(name)}; allowed: a-z, 0-9 and _ - . between them"))
                continue
            try:
                named = given | {"method": kind} if location[-1] == "method" else given
                settings[name] = methods[kind].model_validate({} if named is None else named)
            except ValidationError as error:
                mistakes += _mistakes(error, methods[kind], ("methods", name))
    names = raw.get("misalignments")
    given_data = raw.get("data") if isinstance(raw.get("data"), Mapping) else {}
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if name not in misalignments and not (isinstance(name, str) and name in given_data):
            allowed = _choices(name, misalignments)
            mistakes.append((("misalignments", index), f"found {_shown(name)}; allowed: {allowed}"))
    evaluation = raw.get("evaluation")
    named = evaluation.get("conditions") if isinstance(evaluation, Mapping) else None
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if name not in (known := conditions()):
            found = f"found {_shown(name)}; allowed: {_choices(name, known) or 'none: no installed package has any'}"
            mistakes.append((("evaluation", "conditions", index), found))
    judged = raw.get("judges")
    if isinstance(judged, Mapping):
        raw["judges"] = {kind: _with_judge_files(given, Path()) for kind, given in judged.items()}
    try:
        study = Study.model_validate(raw | ({"methods": settings} if isinstance(named_methods, Mapping) else {}))
    except ValidationError as error:
        unknown_only = isinstance(named_methods, Mapping) and bool(named_methods) and not settings
        found = _mistakes(error, Study, ())
        mistakes += [m for m in found if not (unknown_only and m[0] == ("methods",))]
    _refuse(path, root, mistakes)
    return study


def load_audit(path: Path, misalignments: Sequence[str]) -> Audit:
    """The validated audit of a YAML file; its relative paths start at the folder of the file.

    `misalignments` are the kinds that world probes may name. SpecError as `load_study`, also where the audit's name is not
    that of its file.
    """
    root, raw = _read(path, AUDIT)
    mistakes: list[tuple[Location, str]] = []
    probes = raw.get("probes")
    for name, probe in probes.items() if isinstance(probes, Mapping) else ():
        kind = probe.get("misalignment") if isinstance(probe, Mapping) else None
        if isinstance(kind, str) and kind not in misalignments:
            place = ("probes", name, "misalignment")
            mistakes.append((place, f"found {_shown(kind)}; allowed: {_choices(kind, misalignments)}"))
    raw = _with_judge_files(raw, path.parent)
    if isinstance(raw.get("name"), str) and raw["name"] != path.stem:
        mistakes.append((("name",), f"found {_shown(raw['name'])}; allowed: {path.stem}, the name of the file"))
    try:
        audit = Audit.model_validate(raw)
    except ValidationError as error:
        mistakes += _mistakes(error, Audit, ())
    _refuse(path, root, mistakes)
    return audit.in_folder(path.parent)


def load_judge(path: Path) -> JudgeFile:
    """The validated judge of a YAML file; its relative paths start at the folder of the file. SpecError as `load_study`."""
    root, raw = _read(path, JUDGE)
    try:
        judge = JudgeFile.model_validate(raw)
    except ValidationError as error:
        _refuse(path, root, _mistakes(error, JudgeFile, ()))
        raise
    return judge.in_folder(path.parent)


def _with_judge_files(given: object, folder: Path) -> object:
    """The same with the content of judge files in place of their paths; a path alone names the judge."""
    entry = {"judge": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping):
        return given
    named = {role: entry[role] for role in ("judge", "against") if isinstance(entry.get(role), str)}
    return {**entry, **{role: load_judge(folder / file).given_as(file) for role, file in named.items()}}


def load_task(path: Path) -> TaskFile:
    """The validated task file of a YAML file. SpecError as `load_study`, also for the tag !function, which would run code."""
    try:
        root, raw = _read(path, TASK)
    except SpecError as error:
        if "!function" not in str(error):
            raise
        found = "found the tag !function; allowed: plain YAML, because such a tag runs code of the folder"
        raise SpecError(f"{path}: {found}") from error
    try:
        return TaskFile.model_validate(raw)
    except ValidationError as error:
        _refuse(path, root, _mistakes(error, TaskFile, ()))
        raise


def _refuse(path: Path, root: yaml.Node, mistakes: Sequence[tuple[Location, str]]) -> None:
    if mistakes:
        lines = _lines(root)
        raise SpecError("\n".join(_line(path, lines, location, text) for location, text in mistakes))


def _method_named(name: object, given: object) -> tuple[Location, object]:
    """Where an entry of `methods` says which method it is, and what it says: `method`, or its own name."""
    if isinstance(given, Mapping) and "method" in given:
        # The bare word null is the name of a method.
        return ("methods", name, "method"), "null" if given["method"] is None else given["method"]
    return ("methods", name), name


def _read(path: Path, kind: FileKind) -> tuple[yaml.Node, dict]:
    try:
        if path.is_fifo():
            raise OSError("a named pipe")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        beside = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; there are: {', '.join(beside)}" if beside else ""
        raise SpecError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}; give a readable UTF-8 YAML file") from error
    if len(content) > LARGEST_FILE:
        raise SpecError(f"{path}: found more than {LARGEST_FILE:,} bytes; {kind.noun} file has a few thousand")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        # Checked before anything walks the tree: a few aliases of aliases stand for billions of entries.
        if root is not None and _entries(root, {}) > MOST_ENTRIES:
            raise SpecError(
                f"{path}: found more than {MOST_ENTRIES:,} entries, aliases written out; {kind.noun} has hundreds"
            )
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from error
    if root is None or raw is None:
        raise SpecError(f"{path}: empty; copy {kind.example} and change it")
    if not isinstance(raw, dict):
        found = type(raw).__name__
        raise SpecError(f"{path}:1: file: found a {found}; allowed: a mapping of fields, as in {kind.example}")
    _refuse_repeated_fields(path, root, ())
    return root, raw


def _entries(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes a tree has once its aliases are written out; ValueError where an alias holds itself."""
    if id(node) not in known:
        known[id(node)] = -1
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        items = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in pairs for part in pair]
        known[id(node)] = 1 + sum(_entries(item, known) for item in items)
    if known[id(node)] < 0:
        raise ValueError(f"line {node.start_mark.line + 1} holds an alias of itself")
    return known[id(node)]


def _refuse_repeated_fields(path: Path, node: yaml.Node, location: Location) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                where = ".".join(map(str, (*location, key.value)))
                raise SpecError(f"{path}:{line}: {where}: found twice, first in line {seen[key.value]}; keep one")
            seen[key.value] = line
            _refuse_repeated_fields(path, value, (*location, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _refuse_repeated_fields(path, value, (*location, index))


def _lines(node: yaml.Node, location: Location = ()) -> dict[Location, int]:
    lines = {location: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines |= _lines(value, (*location, key.value)) | {(*location, key.value): key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _lines(value, (*location, index))
    return lines


def _line(path: Path, lines: dict[Location, int], location: Location, text: str) -> str:
    near = location
    while near not in lines:
        near = near[:-1]
    return f"{path}:{lines[near]}: {'.'.join(map(str, location)) or 'file'}: {text}"


def _choices(found: object, allowed: Sequence[str] | Mapping[str, object]) -> str:
    near = difflib.get_close_matches(str(found), list(allowed), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ", ".join(sorted(allowed)) + hint


def _mistakes(error: ValidationError, model: type[BaseModel], prefix: Location) -> list[tuple[Location, str]]:
    mistakes = []
    for item in error.errors():
        location = _field_location(item["loc"])
        if item["type"] == "missing":
            text = "found nothing; this field is required"
        elif item["type"] == "misfit":
            location, text = tuple(item["ctx"]["field"].split(".")), item["ctx"]["text"]
        elif item["type"] == "extra_forbidden":
            text = f"found an unknown field; allowed: {_choices(location[-1], _fields(model, item['loc'][:-1]))}"
        else:
            allowed = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            allowed = allowed.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
            if isinstance(item["input"], bool) and "string" in allowed:
                allowed += "; YAML reads yes, no, on and off as truth values: put the word in quotes"
            found = "a value that is not shown" if location and location[-1] in UNSHOWN else _shown(item["input"])
            text = f"found {found}; allowed: {allowed}"
        mistakes.append((prefix + location, text))
    return mistakes


def _field_location(found: Location) -> Location:
    """The location as the file has it: without the names of the kinds of source, and of "this is a key"."""
    return tuple(part for index, part in enumerate(found) if part != "[key]" and not _is_choice(found, index))


def _is_choice(found: Location, index: int) -> bool:
    """Whether a part of a validation error's location is no field but the kind that `source` or `scale` names."""
    part, location = found[index], found[:index]
    places = (("base_model",), ("judge",), ("against",))
    sourced = (
        location[-1:] in places
        or location == ("capability", "harmfulness", "prompts")
        or (len(location) == 2 and location[0] in ("models", "probes", "data"))
    )
    return (part in SOURCES and sourced) or (part in SCALES and location[-1:] == ("rubric",))


def _shown(found: object) -> str:
    try:
        text = repr(found)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """The fields of the settings at a location, as a validation error names it, through nested settings."""
    choices = [model]
    for index, part in enumerate(location):
        field = choices[0].model_fields.get(str(part))
        if _is_choice(location, index):
            choices = [each for each in choices if part in _kinds(each)]
        elif field is not None:
            choices = _classes(field.annotation)
        if not choices:
            return []
    return list(choices[0].model_fields)


def _kinds(model: type[BaseModel]) -> tuple[object, ...]:
    """The words by which `source` or `scale` names these settings."""
    told = (field.annotation for name, field in model.model_fields.items() if name in ("source", "scale"))
    return _words(next(told, None)) or ("file",)


def _words(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__args__", ())


def _classes(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in _words(annotation) for found in _classes(part)]
