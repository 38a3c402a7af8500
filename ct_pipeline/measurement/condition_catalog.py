"""The conditions that a study may name: this package's, one line each, and those of installed packages."""

from functools import cache

from ct_pipeline.measurement.condition import Factor
from ct_pipeline.settings.plugins import installed

GROUP = "ct_pipeline.conditions"
FACTORS: tuple[Factor, ...] = ()


@cache
def factors() -> dict[str, Factor]:
    """Name -> factor; UserError where an installed package's cannot be used."""
    return {factor.name: factor for factor in installed(GROUP, FACTORS, Factor)}
