"""The rules of the house, on the source itself."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "ct_pipeline"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = [path for path in sorted((REPOSITORY / "tests").rglob("*.py")) if path != Path(__file__)]
MOST_LINES = 350


def place(path):
    return path.relative_to(REPOSITORY).as_posix()


def tool(*command):
    return subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:]], cwd=REPOSITORY, capture_output=True, text=True
    )


def test_every_room_imports_only_from_the_rooms_below_it():
    done = tool("lint-imports")
    assert done.returncode == 0, done.stdout


def test_ruff_finds_nothing():
    done = tool("ruff", "check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout


def test_every_file_is_formatted():
    done = tool("ruff", "format", "--check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_a_module_stays_small(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(tree):
    """Modules that a file imports, wherever it does; not those of annotations alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def parsed(paths):
    return {place(path): ast.parse(path.read_text()) for path in paths}


def distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def declared(*extras):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lists = [project["dependencies"], *(optional[extra] for extra in extras or optional)]
    return {distribution(each) for names in lists for each in names} - {"ct-pipeline"}


def distributions_of(paths):
    """Distribution -> a file that imports it, without the standard library and what lies in this repository."""
    installed = packages_distributions()
    own = {"ct_pipeline", "tests", *(path.stem for path in paths)}
    found = {}
    for path in paths:
        tops = {module.split(".")[0] for module, _ in modules_of(ast.parse(path.read_text()))}
        for top in tops - own - sys.stdlib_module_names:
            # What is not installed here, such as vllm, is taken to have its distribution's name.
            names = {distribution(each) for each in installed.get(top, [top])} | {distribution(top)}
            found[next((name for name in sorted(names) if name in declared()), min(names))] = place(path)
    return found


NOT_IMPORTED = {
    "dagster-webserver": "a command",
    "pyarrow": "pandas reads and writes Parquet by it",
    "s3fs": "fsspec opens s3:// by it",
}


def test_what_is_imported_is_declared():
    outside = {name: path for name, path in distributions_of(SOURCES).items() if name not in declared()}
    assert outside == {}
    outside = {name: path for name, path in distributions_of(TESTS).items() if name not in declared()}
    assert outside.keys() <= {"alembic"}, "MLflow's own, to make its tables older than they are"


def test_what_is_declared_is_imported_or_a_plug_in():
    optional = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shipped = declared(*(extra for extra in optional if extra != "test"))
    assert shipped - distributions_of(SOURCES).keys() == NOT_IMPORTED.keys()


def test_no_module_imports_itself_by_way_of_others():
    modules = {place(path).removesuffix(".py").replace("/", "."): path for path in SOURCES}
    graph = {
        name: modules.keys()
        & {full for pair in modules_of(ast.parse(path.read_text())) for full in (pair[0], ".".join(map(str, pair)))}
        for name, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1][::-1]))


def test_nothing_is_pickled():
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = {
        name: module
        for name, tree in parsed(SOURCES).items()
        for module in imported(tree)
        if module.split(".")[0] in unsafe
    }
    assert found == {}
    calls = [
        name
        for name, tree in parsed(SOURCES).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("read_pickle", "to_pickle")
    ]
    assert calls == []


def test_torch_files_are_neither_read_nor_written():
    calls = [
        name
        for name, tree in parsed(SOURCES).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
        and node.attr in ("load", "save")
    ]
    assert calls == []


def test_no_remote_code_is_trusted():
    found = [
        name
        for name, tree in parsed(SOURCES).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "trust_remote_code"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert found == []


def test_no_text_is_executed_as_code():
    calls = [
        name
        for name, tree in parsed(SOURCES).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    ]
    assert calls == []


def test_tests_use_fakes_of_their_own():
    found = {
        name: module
        for name, tree in parsed(TESTS).items()
        for module in imported(tree)
        if module.split(".")[0] == "mock" or module.startswith("unittest.mock") or module.startswith("pytest_mock")
    }
    assert found == {}


def test_packages_hold_nothing_in_their_init_files():
    assert [place(path) for path in SOURCES if path.name == "__init__.py" and path.read_text().strip()] == []


def public(node):
    for child in node.body:
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def implements(tree, name):
    """Whether a class says whose contract it keeps, so that its methods' docstrings would only repeat it."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return bool(node.bases) or "mplements" in (ast.get_docstring(node) or "")
    return False


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=place)
def test_everything_public_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    silent = [node.name for node in public(tree) if not ast.get_docstring(node)]
    kept = {
        child.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and implements(tree, node.name)
        for child in node.body
        if isinstance(child, ast.FunctionDef)
    }
    assert ast.get_docstring(tree), "the module itself"
    assert [name for name in silent if name not in kept] == []


def test_telemetry_is_switched_off_before_any_library_is_imported():
    from ct_pipeline.settings.environment import SETTINGS

    switches = {
        "HF_HUB_DISABLE_TELEMETRY",
        "VLLM_NO_USAGE_STATS",
        "MLFLOW_DISABLE_TELEMETRY",
        "DAGSTER_DISABLE_TELEMETRY",
    }
    assert switches <= set(SETTINGS)
    for name in ("cli.py", "definitions.py"):
        text = (PACKAGE / name).read_text()
        assert text.index("prepare_environment()") < text.index(
            "import typer" if name == "cli.py" else "import dagster"
        )


def test_no_file_names_a_path_of_somebodys_machine():
    private = ("/home/", "/Users/", "/work/", "/root/")
    found = [
        (place(path), part)
        for path in shipped_files()
        for part in private
        if path.suffix in (".py", ".yaml", ".toml", ".md") and part in path.read_text()
    ]
    assert found == []


def shipped_files():
    folders = [PACKAGE, REPOSITORY / "studies", REPOSITORY / "docs"]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]
