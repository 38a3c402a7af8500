"""Renders a stranger's chat template in a process of its own, which is ended where it takes too long."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.models.quarantine import template_render

SECONDS = 4
MEMORY = 512 * 2**20
CHARACTERS = 5_000_000
EXHAUSTED = "it takes"
_START_SECONDS = 40


@dataclass(frozen=True)
class Rendered:
    """What a template makes of one conversation: a text, or None with what it raised."""

    text: str | None
    error: str = ""

    @property
    def exhausted(self) -> bool:
        """Whether it reached the bound of time, of memory or of its texts' length."""
        return self.error.startswith(EXHAUSTED)


def render_apart(
    template: str,
    conversations: Sequence[tuple[Sequence[Mapping[str, str]], bool]],
    variables: Mapping[str, str],
    seconds: int = SECONDS,
) -> list[Rendered]:
    """What a template makes of conversations; processor time, memory and the length of its texts are bounded.

    Args:
        template: a Jinja chat template.
        conversations: turns with role and content, and whether the assistant's next turn is begun.
        variables: bos_token and the other texts that a tokenizer gives to its template.
        seconds: of processor time for all conversations.

    Returns:
        one Rendered a conversation; those that the process did not come to say that it took too long.
    """
    asked = {
        "template": template,
        "variables": dict(variables),
        "conversations": [{"messages": list(turns), "generation": begin} for turns, begin in conversations],
        "memory": MEMORY,
        "seconds": seconds,
        "characters": CHARACTERS,
    }
    environment = {"PATH": os.defpath, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(template_render.__file__))],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            timeout=_START_SECONDS + 2 * seconds,
            check=False,
        )
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").splitlines()
    answers = []
    for line in lines[: len(conversations)]:
        try:
            answer = json.loads(line)
        except ValueError:
            break
        answers.append(Rendered(answer.get("text"), answer.get("error", "")))
    stopped = Rendered(None, f"{EXHAUSTED} more than {seconds} s or another conversation takes too much")
    return answers + [stopped] * (len(conversations) - len(answers))
