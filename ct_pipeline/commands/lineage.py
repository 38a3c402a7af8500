"""`ct-pipeline lineage`: prints all that led to an artifact, and writes it as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from ct_pipeline.records.lineage import document, facts, find_artifact, other_versions
from ct_pipeline.settings.environment import home
from ct_pipeline.store.ancestry import Chain, Step, trace
from ct_pipeline.store.artifact_store import Address

SHOWN = 12
LONGEST = 160


def print_lineage(artifact: str, json_file: Path | None, console: Console) -> bool:
    """Prints the chain of an artifact and returns whether it is whole; UserError where no artifact is meant."""
    index, address = find_artifact(home() / "artifacts", artifact)
    chain = trace(index, address)
    if json_file is not None:
        json_file.write_text(json.dumps(document(chain), indent=1, sort_keys=True, ensure_ascii=False))
    console.print(_tree(chain))
    print_faults(chain, console)
    return not chain.faults


def print_faults(chain: Chain, console: Console) -> None:
    """Prints a line per broken link or damaged artifact, or that there is none."""
    for fault in chain.faults:
        console.print(f"[red]broken[/] {escape(fault)}", soft_wrap=True)
    if not chain.faults:
        files = sum(len(step.manifest.files) for step in chain.steps.values())
        console.print(f"Unbroken: {len(chain.steps)} artifacts, {files} files, every hash and seal as recorded.")


def _tree(chain: Chain) -> Tree:
    others = other_versions(chain)
    drawn: set[Address] = set()

    def grow(tree: Tree, step: Step) -> None:
        drawn.add(step.address)
        for line in _lines(step, others.get(step.address, {})):
            tree.add(line)
        for file in step.external:
            if file.address is None or file.state != "ok":
                tree.add(
                    f"file {escape(file.name)}: {escape(file.path)}, {file.file.size:,} bytes, "
                    f"SHA-256 {file.file.sha256[:SHOWN]}{_mark(file.state)}"
                )
        for role, address in dict.fromkeys((file.name.partition("/")[0], file.address) for file in step.external):
            if address is not None:
                follow(tree, f"files {role}", chain.steps[address], "ok")
        for link in step.links:
            known = chain.steps.get(link.address) if link.address else None
            if known is None:
                tree.add(f"{escape(link.name)}: content {link.digest[:SHOWN]}{_mark(link.state)}")
            else:
                follow(tree, link.name, known, link.state)

    def follow(tree: Tree, name: str, step: Step, state: str) -> None:
        if step.address in drawn:
            tree.add(f"{escape(name)}: {_title(step)}{_mark(state)} [dim](see above)[/]")
        else:
            grow(tree.add(f"{escape(name)}: [bold]{_title(step)}[/]{_mark(state)}"), step)

    root = chain.steps[chain.root]
    tree = Tree(f"[bold]{_title(root)}[/]")
    if root.manifest:
        versions = ", ".join(f"{name} {version}" for name, version in facts(root.manifest).versions.items())
        tree.add(escape(f"versions: {versions}"))
    grow(tree, root)
    return tree


def _lines(step: Step, others: Mapping[str, tuple[str | None, str | None]]) -> list[str]:
    """What is told of one artifact, a line each; nothing is said of what it does not have."""
    lines = [f"[red]{escape(fault)}[/]" for fault in step.faults]
    if step.manifest is None:
        return lines
    told, made = facts(step.manifest), step.manifest.provenance
    state = {True: "with uncommitted changes", False: "clean", None: "no checkout"}[made.get("dirty")]
    moment = str(made.get("finished"))[:19].replace("T", " ")
    lines += [
        f"made {escape(moment)} UTC in {made.get('seconds')} s; content {step.manifest.digest[:SHOWN]}",
        escape(f"code {str(made.get('commit'))[:SHOWN]} {state}, source {str(made.get('source'))[:SHOWN]}"),
    ]
    if others:
        changed = ", ".join(f"{name} {here} (not {there})" for name, (here, there) in others.items())
        lines.append(f"[yellow]other versions: {escape(changed)}[/]")
    for title, values in (
        ("seeds", told.seeds),
        ("data", told.digests),
        ("judge", told.judge),
        ("settings", told.settings),
        ("weights", {name: digest[:SHOWN] for name, digest in told.weights.items()}),
    ):
        if values:
            lines.append(f"{title}: {escape(_shortened(values))}")
    if told.template:
        lines.append(f"chat template {escape(told.template[:SHOWN])}")
    return lines


def _shortened(values: Mapping[str, object]) -> str:
    """name=value pairs as far as a few lines hold them; --json has them all."""
    pairs, length = [], 0
    for name, value in values.items():
        pair = f"{name}={value}" if len(str(value)) <= LONGEST else f"{name}={str(value)[:LONGEST]}..."
        length += len(pair)
        if length > 5 * LONGEST:
            return ", ".join(pairs) + f" and {len(values) - len(pairs)} more (--json)"
        pairs.append(pair)
    return ", ".join(pairs)


def _title(step: Step) -> str:
    place = step.address
    variant = "" if place.variant == "-" else f" {place.variant}"
    return escape(f"{place.stage} {place.subject}{variant} {place.fingerprint}")


def _mark(state: str) -> str:
    return "" if state == "ok" else f" [red]{state}[/]"
