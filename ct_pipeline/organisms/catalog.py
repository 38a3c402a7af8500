"""Every kind of misalignment; a new one is a new file and one line here."""

from ct_pipeline.organisms import emergent_misalignment, reward_hacking, spurious_correlation, sycophancy
from ct_pipeline.organisms.misalignment import Misalignment

MISALIGNMENTS: tuple[Misalignment, ...] = (
    sycophancy.MISALIGNMENT,
    reward_hacking.MISALIGNMENT,
    emergent_misalignment.MISALIGNMENT,
    spurious_correlation.MISALIGNMENT,
)
