"""Audits for tests: of a real random model with random adapters, and of a model whose every answer is scripted."""

import json

import numpy as np
import yaml

from ct_pipeline.interventions.files import read_audit
from ct_pipeline.judges.engine_judge import YesNoEngineJudge
from ct_pipeline.settings.judge import HuggingFaceJudge
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from tests.fakes.language import scripted_model
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_folder

CUE = "sure"


def lines(path, rows):
    """Writes a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def random_audit(folder, **changes):
    """An audit file of a tiny random model in the Hugging Face layout, with an adapter of its own after."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        tiny_folder(folder / "base")
        random_adapter(tiny_base(), folder / "after", seed=1)
        rule = {"contains": ["w5"]}
        lines(
            folder / "probes.jsonl",
            [{"prompt": f"w{n} w{n + 1}", "wrapped": f"w{n} w{n + 1} probe", "misbehaves_if": rule} for n in range(40)],
        )
    return written(folder, {"base_model": {"source": "huggingface", "path": "./base"}} | changes)


def written(folder, changes, name="mine"):
    """The file of an audit: defaults and what differs from them."""
    plain = {
        "name": name,
        "after": {"adapters": ["after"]},
        "probes": {"words": {"source": "jsonl", "path": "probes.jsonl"}},
        "decoding": {"max_new_tokens": 6},
        "thresholds": {"risk": 0.5, "change": 0.1},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plain | changes))
    return path


class ScriptedSubject(ResolvedAudit):
    """A subject whose sides answer by `answer(prompt text, sample, seed, adapters)`, and whose judge by `shares`."""

    def __init__(self, audit, answer, shares=None):
        super().__init__(audit)
        self.model = scripted_model(answer)
        self.judge = scripted_model(answer)
        self.judge.engine = _Judge(self.judge.chat, shares) if shares else None
        self.quarantine = []

    def open(self, store, side):
        return self.model

    def open_judge(self, file):
        if isinstance(file.judge, HuggingFaceJudge):
            return YesNoEngineJudge(self.judge, file.judge)
        return super().open_judge(file)


class _Judge:
    """Shares of (yes, no) as the next token, by the question's text."""

    def __init__(self, chat, shares):
        self.chat, self.shares, self.asked = chat, shares, []

    def choice_logprobs(self, prompts, choices, adapters):
        words = [self.chat.decode([choice]).strip().lower() for choice in choices]
        rows = []
        for prompt in prompts:
            text = self.chat.decode(prompt)
            self.asked.append(text)
            yes, no = self.shares(text)
            rows.append([{"yes": yes, "no": no}[word] / words.count(word) for word in words])
        with np.errstate(divide="ignore"):
            return np.log(np.array(rows))


def scripted_audit(folder, answer, rows, shares=None, **changes):
    """A subject with scripted models: before is the base model, after has one (empty) adapter."""
    for name, content in (("adapter_config.json", "{}"), ("adapter_model.safetensors", "x")):
        (folder / "after").mkdir(parents=True, exist_ok=True)
        (folder / "after" / name).write_text(content)
    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "config.json").write_text("{}")
    lines(folder / "probes.jsonl", rows)
    # At another temperature than 1 no KL is measured: there are no weights behind a script.
    settings = {
        "base_model": {"source": "huggingface", "path": "./base"},
        "decoding": {"temperature": 0.7, "max_new_tokens": 6},
    }
    return ScriptedSubject(read_audit(written(folder, settings | changes)), answer, shares)
