"""What a chat template may be written with: an allow-list of Jinja, looked at without rendering anything."""

import re
from collections.abc import Iterator

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 200_000
LARGEST_NUMBER = 10_000
_FUNCTIONS = frozenset({"raise_exception", "namespace", "range", "dict"})
_CHANGING = frozenset({"strftime_now", "lipsum", "now", "random"})
_METHODS = frozenset(
    ["strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "replace", "removeprefix",
     "removesuffix", "upper", "lower", "title", "capitalize", "items", "keys", "values", "get", "append", "find", "index",
     "join"]
)  # fmt: skip
_FILTERS = frozenset(
    ["trim", "tojson", "length", "count", "string", "list", "first", "last", "default", "d", "join", "replace", "upper",
     "lower", "capitalize", "title", "items", "select", "reject", "selectattr", "rejectattr", "map", "reverse", "safe",
     "int", "sort", "dictsort", "unique", "indent"]
)  # fmt: skip
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Macro, nodes.Assign, nodes.AssignBlock,
    nodes.Name, nodes.NSRef, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword,
    nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat,
    nodes.Compare, nodes.Operand, nodes.Add, nodes.Sub, nodes.Mod, nodes.Not, nodes.And, nodes.Or, nodes.Neg, nodes.Pos,
    nodes.Continue, nodes.Break, nodes.With, nodes.FilterBlock,
)  # fmt: skip
_WIDE = re.compile(r"%[-+ #0]*\d{3,}")


class _Generation(Extension):
    """The block that marks what the assistant wrote; transformers knows it, too."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def syntax_faults(template: str) -> Iterator[str]:
    """Everything in a template that a chat template has no use for, as "line N: ..."; nothing is rendered."""
    if len(template) > LONGEST:
        yield f"a text of {len(template):,} characters; allowed: at most {LONGEST:,}"
        return
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    try:
        tree = environment.parse(template)
        macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
        found = [f"line {node.lineno}: {fault}" for node in _all(tree) for fault in _faults(node, set(macros))]
        found += [
            f"line {macro.lineno}: the macro {macro.name} calls itself and counts" for macro in _recursive(macros)
        ]
    except (TemplateError, RecursionError, ValueError, AssertionError) as error:
        yield f"no Jinja template ({type(error).__name__}: {error})"
        return
    yield from found


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(list(node.iter_child_nodes()))


def _faults(node: nodes.Node, macros: set[str]) -> Iterator[str]:
    if not isinstance(node, _NODES):
        yield f"{type(node).__name__.lower()}, which a chat template has no use for"
    elif isinstance(node, nodes.Name) and node.name in _CHANGING:
        yield f"{node.name}, which depends on the time or on chance"
    elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        yield f"the attribute {node.attr}"
    elif isinstance(node, nodes.Const):
        yield from _constant_faults(node.value)
    elif isinstance(node, nodes.TemplateData):
        return
    elif isinstance(node, nodes.Call):
        yield from _call_faults(node, macros)
    elif isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        yield f"the filter {node.name}"
    elif isinstance(node, nodes.Filter) and node.name in ("map", "select", "reject"):
        yield from _filter_faults(node)
    elif isinstance(node, nodes.Mod) and isinstance(node.left, nodes.Const) and isinstance(node.left.value, str):
        yield "a text formatted with %"
    elif isinstance(node, nodes.For):
        if node.recursive:
            yield "a recursive loop"
        if _counts_up(node.iter) and any(_counts_up(inner.iter) for part in node.body for inner in _loops(part)):
            yield "a range within a range"


def _constant_faults(value: object) -> Iterator[str]:
    if isinstance(value, str) and "__" in value:
        yield f"the text {value[:40]!r}, which names something private"
    elif isinstance(value, str) and _WIDE.search(value):
        yield f"the text {value[:40]!r}, which asks for a wide field"
    elif isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
        yield f"a number above {LARGEST_NUMBER:,}"


def _call_faults(node: nodes.Call, macros: set[str]) -> Iterator[str]:
    called = node.node
    if isinstance(called, nodes.Name):
        if called.name not in _FUNCTIONS | macros | _CHANGING:
            yield f"a call of {called.name}"
    elif not isinstance(called, nodes.Getattr):
        yield "a call of something computed"
    elif called.attr not in _METHODS:
        yield f"a call of .{called.attr}"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        yield "a call with arguments unpacked"


def _filter_faults(node: nodes.Filter) -> Iterator[str]:
    # These call a filter, or read an attribute, by its name.
    for argument in (*node.args[:1], *(keyword.value for keyword in node.kwargs or ())):
        value = argument.value if isinstance(argument, nodes.Const) else None
        if not isinstance(value, str) or "_" in value[:1]:
            yield f"the filter {node.name} with a computed or private name"
        elif node.name == "map" and argument in node.args and value not in _FILTERS:
            yield f"the filter {node.name} with {value[:40]!r}"


def _loops(node: nodes.Node) -> Iterator[nodes.For]:
    if isinstance(node, nodes.For):
        yield node
    yield from node.find_all(nodes.For)


def _counts_up(node: nodes.Node) -> bool:
    calls = [node] if isinstance(node, nodes.Call) else []
    return any(
        isinstance(call.node, nodes.Name) and call.node.name == "range" for call in (*calls, *node.find_all(nodes.Call))
    )


def _recursive(macros: dict[str, nodes.Macro]) -> Iterator[nodes.Macro]:
    """Macros that call themselves otherwise than to walk down their arguments: such may call themselves 2^n times."""
    names = {
        name: {found.name for found in macro.find_all(nodes.Name) if found.name in macros}
        for name, macro in macros.items()
    }
    for name, macro in macros.items():
        reached: set[str] = set()
        waiting = list(names[name])
        while waiting:
            if (called := waiting.pop()) not in reached:
                reached.add(called)
                waiting += names[called]
        counts = any(_counts(found) for found in macro.find_all((nodes.Sub, nodes.Slice, nodes.Add)))
        if name in reached and (counts or not macro.args):
            yield macro


def _counts(node: nodes.Node) -> bool:
    if not isinstance(node, nodes.Add):
        return True
    return any(isinstance(side, nodes.Const) and not isinstance(side.value, str) for side in (node.left, node.right))
