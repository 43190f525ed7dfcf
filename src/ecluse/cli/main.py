"""``ecluse``: the command line. Commands in the order the loop goes round."""

from __future__ import annotations

import os

from ecluse.cli import (
    approve,
    control,
    data,
    incident,
    journal,
    keys,
    loop,
    models,
    outcomes,
    release,
    serve,
    slo,
    start,
    tune,
    up,
    watch,
)
from ecluse.cli.console import Group, run_group, set_logging

app = Group("Closed-loop ML delivery: data, training, gates, release, serving, monitoring, retraining, rollback.")

for module in (
    start,
    data,
    models,
    tune,
    release,
    approve,
    control,
    serve,
    keys,
    journal,
    watch,
    outcomes,
    up,
    loop,
    incident,
    slo,
):
    module.register(app)


def main() -> None:
    """Run the command line; never returns."""
    set_logging(os.environ.get("ECLUSE_LOG__LEVEL", "warning"))
    run_group(app)
