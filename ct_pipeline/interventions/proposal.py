"""How candidates are drawn: the proposal of a method, equal for methods that share it."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal


@dataclass(frozen=True)
class View:
    """Another way of putting the last user message: `request` holds {request} and, for a refinement, {response}."""

    name: str
    request: str


@dataclass(frozen=True)
class Draw:
    """One way of drawing candidates from an organism, done once for all methods that name it.

    Attributes:
        prompts: "consistency" (the consistency and the probe prompts), "clean" or "wrapped" (a side of the pairs).
        temperature: 0 is greedy, or a beam search.
        top_p: truncates after the temperature.
        samples: completions per prompt.
        beams: width of a beam search; 1 searches nothing.
        view: how the prompt is put; None: as it stands.
        draft: the draw of one completion per prompt that the view's {response} is filled with.
        owner: the method that alone may use it, in a study that shares no draws; "" for all.
    """

    prompts: Literal["consistency", "clean", "wrapped"]
    temperature: float
    top_p: float
    samples: int
    beams: int = 1
    view: View | None = None
    draft: "Draw | None" = None
    owner: str = ""

    @property
    def id(self) -> str:
        """A readable name, equal for equal draws: greedy, beam4, t0.7-p0.9-n16, clean-t1-p1-n1, greedy-steps-1f0c."""
        parts = ["greedy" if self.beams == 1 else f"beam{self.beams}"]
        if self.temperature:
            parts = [f"t{self.temperature:g}-p{self.top_p:g}-n{self.samples}"]
        if self.prompts != "consistency":
            parts.insert(0, self.prompts)
        if self.view:
            content = f"{self.view.request}\n{self.draft.id if self.draft else ''}"
            parts += [self.view.name, blake2b(content.encode(), digest_size=2).hexdigest()]
        if self.owner:
            parts.append(self.owner)
        return "-".join(parts)

    def owned_by(self, method: str) -> "Draw":
        """The same draw, its draft too, for one method alone: other random numbers, other artifact."""
        draft = self.draft.owned_by(method) if self.draft else None
        return Draw(
            self.prompts, self.temperature, self.top_p, self.samples, self.beams, self.view, draft, owner=method
        )
