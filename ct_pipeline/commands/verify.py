"""`ct-pipeline verify`: checks an artifact and all that it was made from, and trains a piece of it again."""

import random
import time
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from ct_pipeline.commands.lineage import print_faults
from ct_pipeline.interventions.files import read_study
from ct_pipeline.records.lineage import find_artifact
from ct_pipeline.records.pretrained_again import (
    base_models,
    pretrain_again,
    pretrainings,
    strange_pretrainings,
    title,
)
from ct_pipeline.records.reexecution import Comparison, Segment, reexecute, segments, strangers
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.store.ancestry import Chain, Step, trace
from ct_pipeline.store.sharing import open_store

Amount = Literal["nothing", "one", "all"]


def verify(artifact: str, amount: Amount, spec: Path, console: Console) -> bool:
    """Checks hashes, seals and inputs up the chain and returns whether all is as recorded.

    With `amount` "one", a segment that chance chooses is trained again, with "all" every training to its end, and one
    that cannot be is a failure; a base model is pretrained again with "all", and where it is the artifact. UserError where
    no artifact is meant, or nothing in a whole chain can be trained again.
    """
    study = read_study(spec) if amount != "nothing" else None
    index, address = find_artifact(home() / "artifacts", artifact)
    chain = trace(index, address)
    print_faults(chain, console)
    whole = not chain.faults
    if study is None:
        return whole
    unknown = strangers(chain, study) + strange_pretrainings(chain, study)
    for sentence in unknown:
        console.print(f"[yellow]not trained again[/] {escape(sentence)}", soft_wrap=True)
    # Who asked for all of it must not take a part for it.
    whole = whole and not (unknown and amount == "all")
    bases = pretrainings(chain, study)
    own = [step for step in bases if step.address == chain.root]
    for segment in () if own else _chosen(chain, study, amount, console):
        started = time.perf_counter()
        comparison = reexecute(open_store(index.root), study, segment)
        whole = whole and not comparison.faults
        _print_comparison(comparison, time.perf_counter() - started, console)
    repeated = bases if amount == "all" else own
    for step in repeated:
        whole = _pretrained_again(study, step, console) and whole
    if base_models(chain) and not repeated:
        way = f": `verify {title(bases[0])} --reexecute` pretrains it again" if bases else ""
        console.print(f"The base model was checked by its hashes alone{way}.", soft_wrap=True)
    return whole


def _pretrained_again(study: Study, step: Step, console: Console) -> bool:
    console.print(f"Pretraining {escape(title(step))} again: {study.pretraining.tokens:,} tokens.")
    started = time.perf_counter()
    again = pretrain_again(study, step)
    for fault in again.faults:
        console.print(f"[red]does not fit[/] {escape(title(step))}: {escape(fault)}", soft_wrap=True)
    if not again.faults:
        console.print(
            f"Pretrained again: {escape(title(step))} ({time.perf_counter() - started:.1f} s): "
            + ("every file is the recorded one, bit for bit" if again.exact else "not bit for bit, within noise")
            + f"; direct accuracy {again.accuracies[0]:.2%} and {again.accuracies[1]:.2%}, held-out loss "
            f"{again.losses[0]:.4f} and {again.losses[1]:.4f}.",
            soft_wrap=True,
        )
    return not again.faults


def _chosen(chain: Chain, study: Study, amount: Amount, console: Console) -> list[Segment]:
    """One segment by chance that a trainer cannot foresee, or the longest of each; none where links are broken."""
    known = segments(chain, study)
    if not known and chain.faults:
        return []
    if not known:
        raise UserError(
            f"nothing was trained again: no training in the chain of {'/'.join(vars(chain.root).values())} is one of study "
            f"{study.name}; give the study it was made by with --spec"
        )
    if amount == "all":
        return [segment for segment in known if "." in segment.folders]
    place = random.SystemRandom().randrange(len(known))
    console.print(f"Segment {place + 1} of {len(known)}, chosen by chance.")
    return [known[place]]


def _print_comparison(comparison: Comparison, seconds: float, console: Console) -> None:
    title = escape(comparison.segment.title)
    if comparison.exact:
        console.print(
            f"Trained again: {title} ({seconds:.1f} s): losses and adapter are the recorded ones, bit for bit.",
            soft_wrap=True,
        )
        return
    if not comparison.faults:
        console.print(
            f"Trained again: {title} ({seconds:.1f} s): not bit for bit, on "
            f"{'the same' if comparison.same_conditions else 'another'} machine or versions; of the distance to a training "
            f"of another seed, losses are {comparison.loss_distance:.2%} and weights {comparison.weight_distance:.2%} off.",
            soft_wrap=True,
        )
    for fault in comparison.faults:
        console.print(f"[red]does not fit[/] {title}: {escape(fault)}", soft_wrap=True)
