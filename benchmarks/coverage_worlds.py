"""Worlds of candidates whose risks, selection, rank profile and divergence are known exactly, drawn many times at once."""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from ct_pipeline.analysis.grid import Grid

LEVELS = 32
CLASSES = 25
CANDIDATES = 16
K = 4
BINS = 4
TOKENS = 12.0
NATS_PER_TOKEN = (0.02, 0.10)
"""Log-ratio of proposal and organism per token, at the lowest and the highest score."""


@dataclass(frozen=True)
class World:
    """One scenario.

    Prompts are of `CLASSES` kinds, equally likely, with risks at the quantiles of a Beta law of mean `rate` and
    intra-prompt correlation `correlation`. The score's level depends on the verdict, in every third kind the other way
    round; within a level scores differ by chance, or are equal (`tied`).

    Attributes:
        name: what the table calls it.
        rate: mean risk, about.
        correlation: of two verdicts of one prompt.
        tied: whether scores of a level are equal; there are 4 levels then.
        missing: share of scores and of verdicts that are missing, each by chance.
        samples: completions per prompt in evaluation.
        rise, fall: chance that a prompt's evaluated verdict goes up or down in one seed.
        seed_sd: standard deviation of the true change between seeds.
    """

    name: str
    rate: float = 0.5
    correlation: float = 0.2
    tied: bool = False
    missing: float = 0.0
    samples: int = 1
    rise: float = 0.25
    fall: float = 0.15
    seed_sd: float = 0.05
    risks: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        mass = (1 - self.correlation) / self.correlation
        middle = (np.arange(CLASSES) + 0.5) / CLASSES
        risks = stats.beta.ppf(middle, self.rate * mass, (1 - self.rate) * mass)
        object.__setattr__(self, "risks", np.clip(risks, 0, 1))

    @property
    def levels(self) -> int:
        """How many levels a score has."""
        return 4 if self.tied else LEVELS

    def level_laws(self) -> np.ndarray:
        """P(level | kind, verdict), (kinds, 2, levels)."""
        along = (np.arange(self.levels) + 0.5) / self.levels
        lean = np.where(np.arange(CLASSES) % 3 == 2, -0.5, 1.5)[:, None, None]
        weights = np.exp(lean * np.array([-0.5, 0.5])[None, :, None] * along)
        return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Draw:
    """Many studies at once: prompts of all of them along the first axis, `prompts` to each."""

    prompts: int
    cells: Grid
    base: np.ndarray
    ratios: np.ndarray
    tokens: np.ndarray

    def part(self, number: int) -> slice:
        """The prompts of one study."""
        return slice(number * self.prompts, (number + 1) * self.prompts)


def draw(world: World, studies: int, prompts: int, generator: np.random.Generator) -> Draw:
    """Candidates with scores, verdicts, lengths and log-ratios, and one answer of the organism, for every prompt."""
    rows = studies * prompts
    kind = generator.integers(CLASSES, size=rows)
    shape = (rows, CANDIDATES)
    verdicts = (generator.random(shape) < world.risks[kind][:, None]).astype(int)
    level = _levels(world, kind, verdicts, generator.random(shape))
    scores = level + (0.0 if world.tied else generator.random(shape))
    tokens = 1.0 + generator.poisson(TOKENS - 1, shape)
    low, high = NATS_PER_TOKEN
    mean = low + (high - low) * (level + 0.5) / world.levels
    ratios = tokens * mean + np.sqrt(tokens) * generator.normal(0, 0.2, shape)
    base = (generator.random(rows) < world.risks[kind]).astype(float)
    base[generator.random(rows) < world.missing] = np.nan
    cells = Grid(
        prompts=np.arange(rows),
        sizes=np.full(rows, CANDIDATES),
        present=np.ones(shape, dtype=bool),
        scores=np.where(generator.random(shape) < world.missing, np.nan, scores),
        verdicts=np.where(generator.random(shape) < world.missing, np.nan, verdicts),
        prompt=np.repeat(np.arange(rows), CANDIDATES),
        place=np.tile(np.arange(CANDIDATES), rows),
    )
    return Draw(prompts, cells, base, ratios, tokens)


def _levels(world: World, kind: np.ndarray, verdicts: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The score's level of each candidate, from a uniform number."""
    steps = world.level_laws().cumsum(axis=-1)
    level = np.zeros(number.shape, dtype=int)
    for each in range(CLASSES):
        rows = np.flatnonzero(kind == each)
        for verdict in (0, 1):
            inside = rows[:, None], np.arange(number.shape[1])[None, :]
            here = verdicts[inside] == verdict
            found = np.searchsorted(steps[each, verdict, :-1], number[inside], side="right")
            level[inside] = np.where(here, found, level[inside])
    return level


def truths(world: World) -> dict[str, float]:
    """The numbers that the estimators aim at, exactly.

    A level at F⁻..F is kept by best of k with chance F^k − (F⁻)^k, and holds the r-th of n ranks with the chance that a
    Beta(r, n − r + 1) lies in it, whether its scores are equal or not.
    """
    laws, risks = world.level_laws(), world.risks[:, None]
    joint = np.stack([(1 - risks) * laws[:, 0], risks * laws[:, 1]])
    shares = joint.sum(axis=0) * (1 - world.missing)
    eta = joint[1] / joint.sum(axis=0)
    nats = np.broadcast_to(
        NATS_PER_TOKEN[0] + np.diff(NATS_PER_TOKEN) * (np.arange(world.levels) + 0.5) / world.levels, eta.shape
    )
    if world.missing:
        shares = np.concatenate([np.full((CLASSES, 1), world.missing), shares], axis=1)
        law = joint.sum(axis=0)
        eta, nats = (np.concatenate([(law * each).sum(axis=1, keepdims=True), each], axis=1) for each in (eta, nats))
    upto = np.minimum(shares.cumsum(axis=1), 1.0)
    below = upto - shares
    kept = {k: upto**k - np.maximum(below, 0) ** k for k in (1, 2, K, CANDIDATES)}
    risk = {k: float((weight * eta).sum(axis=1).mean()) for k, weight in kept.items()}
    ranks = np.arange(1, CANDIDATES + 1)[:, None, None]
    inside = [special.betainc(ranks, CANDIDATES - ranks + 1, np.clip(each, 0, 1)) for each in (upto, below)]
    profile = ((inside[0] - inside[1]) * eta).sum(axis=2).mean(axis=1)
    u = (np.arange(CANDIDATES) + 0.5) / CANDIDATES - 0.5
    per_token = float((kept[K] * nats).sum(axis=1).mean())
    atoms = np.full(shares.shape, world.tied)
    if world.missing:
        atoms[:, 0] = True
    selection = _selection_nats(shares, below, upto, atoms)
    return {
        "risk Q_1": risk[1],
        f"risk Q_{K}": risk[K],
        "risk A_base": float(world.risks.mean()),
        "shift": 0.0,
        "selection": risk[K] - risk[1],
        "total": risk[K] - float(world.risks.mean()),
        "k-curve, k = 2": risk[2],
        f"k-curve, k = {CANDIDATES}": risk[CANDIDATES],
        **{f"η̄, bin {each + 1}": float(part.mean()) for each, part in enumerate(np.split(profile, BINS))},
        "η̄ slope": float((u * profile).sum() / (u**2).sum()),
        "KL, proposal term": TOKENS * per_token,
        "KL, proposal term per token": per_token,
        "KL, samples": TOKENS * float((kept[1] * nats).sum(axis=1).mean()),
        "KL, selection term": selection,
        "KL, total": selection + TOKENS * per_token,
    }


def _selection_nats(shares: np.ndarray, below: np.ndarray, upto: np.ndarray, atoms: np.ndarray) -> float:
    """E_Q_K[log w_K]: atoms by their masses, the rest by the integral of K·u^(K−1)·log(K·u^(K−1))."""
    mass = upto**K - np.maximum(below, 0) ** K
    of_atoms = mass * np.log(mass / shares)

    def integral(u: np.ndarray) -> np.ndarray:
        return u**K * (math.log(K) - (K - 1) / K) + (K - 1) * special.xlogy(u**K, u)

    pieces = integral(upto) - integral(np.maximum(below, 0))
    return float(np.where(atoms, of_atoms, pieces).sum(axis=1).mean())


def changes(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    moved: float,
    effect: float,
    shared: float,
    seed_sd: float,
) -> np.ndarray:
    """Changes −1, 0, 1 of verdicts, studies × seeds × prompts.

    A prompt changes by the threshold that its uniform number passes; a share √`shared` of a prompt's numbers is common to
    all seeds, so that `shared` of the variance is. Seeds' true changes are normal about `effect`, cut so that rise and
    fall stay above 0.
    """
    studies, seeds, prompts = shape
    true = effect + np.clip(generator.normal(0, seed_sd, (studies, seeds, 1)), -(moved - effect), moved - effect)
    number = generator.random(shape, dtype=np.float32)
    if shared:
        common = generator.random((studies, 1, prompts), dtype=np.float32)
        alike = generator.random(shape, dtype=np.float32) < math.sqrt(shared)
        number = np.where(alike, common, number)
    return (number < (moved + true) / 2).astype(float) - (number > 1 - (moved - true) / 2)
