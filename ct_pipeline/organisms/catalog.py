"""Every kind of misalignment; a new one is a new file and one line here."""

from ct_pipeline.organisms import emergent_misalignment, reward_hacking, spurious_correlation, sycophancy
from ct_pipeline.organisms.misalignment import Kind

KINDS: tuple[Kind, ...] = (
    sycophancy.KIND,
    reward_hacking.KIND,
    emergent_misalignment.KIND,
    spurious_correlation.KIND,
)
