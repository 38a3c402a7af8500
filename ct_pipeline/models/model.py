"""What a model is: a base model or a checkpoint, and the weighted adapters that are added to it, in order."""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

from ct_pipeline.models.loading import model_files
from ct_pipeline.models.quarantine.adapter_check import CONFIG_FILE, WEIGHTS_FILE
from ct_pipeline.settings.fingerprint import fingerprint
from ct_pipeline.store.file_digests import digest_of_folder

_LARGEST_WEIGHT = 3.4e38
"""About the largest number of float32, in which deltas are added."""


@dataclass(frozen=True)
class Term:
    """One summand of a model: what an adapter adds, times a weight.

    Attributes:
        adapter: the adapter's folder.
        weight: multiplies the adapter's scale: 1 adds what was trained, 0 leaves it out, -1 takes it away.
    """

    adapter: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        """ValueError where the weight is no finite number; names the adapter."""
        number = isinstance(self.weight, Real) and not isinstance(self.weight, bool)
        if not (number and abs(self.weight) <= _LARGEST_WEIGHT):
            raise ValueError(f"adapter {self.adapter}: found the weight {self.weight!r}; allowed: a finite number")
        object.__setattr__(self, "adapter", Path(self.adapter))
        object.__setattr__(self, "weight", float(self.weight))


def stack(*folders: Path | str) -> tuple[Term, ...]:
    """Adapters that are added as they were trained, each with weight 1."""
    return tuple(Term(folder) for folder in folders)


def active(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The terms that add something: all but those of weight 0, whose folders nobody reads.

    Raises:
        TypeError: a folder in place of a term.
    """
    kept = []
    for term in terms:
        if not isinstance(term, Term):
            raise TypeError(
                f"{term!r} is no term of a model: give Term(adapter, weight), or stack(adapter) for weight 1"
            )
        if term.weight != 0:
            kept.append(term)
    return tuple(kept)


def content_of(terms: Iterable[Term]) -> str:
    """A name for what a stack of terms adds now: the hash of its adapters' files and its weights, in order.

    Terms of weight 0 do not count, so a stack of them alone is named like (), the base. The order counts: float32 sums in
    another order differ in their last bits.

    Raises:
        ValueError: a folder lacks one of the two files of an adapter.
    """
    digest = hashlib.blake2b(digest_size=16)
    for term in active(terms):
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            file = term.adapter / name
            if not file.is_file():
                raise ValueError(
                    f"{term.adapter} holds no {name}: an adapter is a local folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
                )
            content = file.read_bytes()
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
        if term.weight != 1:
            # No file is as long as the mark in front says, so it cannot be one.
            digest.update(b"\xff" * 8 + struct.pack(">d", term.weight))
    return digest.hexdigest()


@dataclass(frozen=True)
class Model:
    """A base model and the sum of weighted adapters on it; without terms, the base or a checkpoint itself.

    Attributes:
        base: a folder in the Hugging Face layout, wherever it is kept, or a Hub id.
        revision: the commit of a Hub id; folders have none.
        terms: what is added, in this order.
    """

    base: Path | str
    revision: str | None = None
    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        """ValueError for a base without a name; TypeError for a term that is none."""
        if not str(self.base):
            raise ValueError("a model needs a base: a folder, or a Hub id and its revision")
        object.__setattr__(self, "terms", tuple(self.terms))
        active(self.terms)

    @property
    def digest(self) -> str:
        """Twenty hex digits of all content: the base's files (or its Hub id and commit), the adapters' files, the weights.

        Equal for equal content in other folders. Terms of weight 0 and files that no tokenizer or model reads do not count;
        the order of terms does.

        Raises:
            ValueError: neither a model folder nor a pinned Hub id; an adapter without its files.
        """
        folder = Path(self.base)
        if folder.is_dir():
            base = digest_of_folder("base model", folder, model_files(folder))
        elif self.revision is not None:
            base = f"{self.base}@{self.revision}"
        else:
            raise ValueError(f"{self.base} is no folder, and a Hub model needs a pinned revision (a commit hash)")
        return fingerprint(base=base, terms=content_of(self.terms))

    def with_term(self, adapter: Path, weight: float = 1.0) -> "Model":
        """The model with one more term, the last."""
        return replace(self, terms=(*self.terms, Term(adapter, weight)))

    def scaled(self, factor: float, number: int | None = None) -> "Model":
        """The model with the weight of its term of a number (as in a list) times a factor; None: of all its terms.

        Raises:
            ValueError: there is no such term, or a product is not finite.
        """
        chosen = range(len(self.terms)) if number is None else [self._place(number)]
        scaled = (
            replace(term, weight=term.weight * factor) if i in chosen else term for i, term in enumerate(self.terms)
        )
        return replace(self, terms=tuple(scaled))

    def without(self, number: int) -> "Model":
        """The model without its term of a number (as in a list); ValueError where there is none."""
        place = self._place(number)
        return replace(self, terms=(*self.terms[:place], *self.terms[place + 1 :]))

    def _place(self, number: int) -> int:
        if not -len(self.terms) <= number < len(self.terms):
            raise ValueError(f"there is no term {number}: the model has {len(self.terms)}")
        return number % len(self.terms)
