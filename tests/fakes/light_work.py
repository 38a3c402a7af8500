"""Steps that need no model, found by name in worker processes as the real ones are."""

import os
import signal
import sys
import time

from ct_pipeline.runner.workers import Work
from ct_pipeline.settings.errors import CannotWrite, Refusal, Refused, UserError
from ct_pipeline.steps.step import Step, one
from ct_pipeline.store.node import Node, making

LIMIT = 60


class OddError(Exception):
    """Like many libraries' errors: cannot be sent to another process."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def node(study, key):
    return Node("light", 1, key, "-", {}, {})


def make(context, key):
    """Does what the key says, then writes an artifact."""
    store, study = context.store, context.study
    word = key.split(".")[0]
    if word == "refuse":
        raise UserError(f"{key} is refused")
    if word == "hostile":
        raise Refused([Refusal(key, "a file", "no such thing is allowed")])
    if word == "full":
        raise CannotWrite("the disk is full")
    if word == "break":
        raise OddError("this", "that")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "wait":
        (store.root / f"{key}.{os.getpid()}").touch()
        time.sleep(LIMIT)
    for step in range(1, 4):
        context.progress(step, 3, 1 / step)
    with making(store, node(study, key)) as (draft, _):
        draft.write_json("made", {"threads": context.threads, "torch": "torch" in sys.modules, "process": os.getpid()})


def stage(name, all_cores=False):
    return Step(name, name, "Light work.", 1, "model", (), one(node), make, all_cores=all_cores)


def step_named(name):
    return {"light": stage("light"), "alone": stage("alone", all_cores=True)}[name]


def begin():
    """Nothing to import."""


def use_threads(threads):
    """No library that has threads."""


LIGHT_WORK = Work(step_named, begin, use_threads)
