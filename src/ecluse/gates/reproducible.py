"""Reproducibility: trained again from the same recipe and snapshots, does it become the same bundle, byte for byte?"""

from __future__ import annotations

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Evidence

CHECK = "reproducible"


def check_reproducible(evidence: Evidence, gates: Gates) -> list[Finding]:
    """One finding; none when it is switched off. A gate does not train: where nobody did it again the finding passes and says so."""
    if not gates.reproducible:
        return []
    if evidence.reproduced is None:
        return [Finding(CHECK, Outcome.PASSED, "not tried: it was not trained a second time", "not tried")]
    if evidence.reproduced:
        return [
            Finding(CHECK, Outcome.PASSED, "trained again, it became the same bundle", "same bundle", "same bundle")
        ]
    why = "trained again from the same recipe and snapshots, it became another bundle"
    return [Finding(CHECK, Outcome.FAILED, why, "another bundle", "same bundle")]
