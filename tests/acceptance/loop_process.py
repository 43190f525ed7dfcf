"""The loop in a process of its own, to be killed at a failpoint; run as a module: ROOT react|mirror [trains_again|tells_first].

Each order it gives to a training process is a line of ``orders.txt`` in the project's folder: ``run`` or ``proof``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ecluse.app import open_app
from ecluse.core.event import LedgerRow
from ecluse.core.ports import World
from ecluse.loop import carry_out, mirror
from ecluse.loop.carry_out import Hands, find
from ecluse.loop.child import Child, Order, give, wait_for
from ecluse.loop.commands import Retrain

ORDERS = "orders.txt"
_apply = mirror._apply


def _noted(child: Child, order: Order) -> None:
    with (order.root / ORDERS).open("a") as file:
        file.write("proof\n" if order.dry_run else "run\n")
    give(child, order)


def _trains_again(hands: Hands, command: Retrain, order: Order) -> LedgerRow:
    """The planted defect: nobody looks whether the training was recorded before the process was killed."""
    wait_for(carry_out._begin(hands, order))
    row = find(hands.world, command.cause, hands.actor, command.model, "run.finished")
    assert row is not None
    return row


def _tells_first(world: World, *given: object) -> None:
    """The planted defect: what is to be mirrored leaves the outbox before it is written."""
    for number, *_ in world.state.pending():
        world.state.done(number)
    _apply(world, *given)  # type: ignore[arg-type]


def main(root: str, what: str, defect: str = "") -> None:
    carry_out.give = _noted  # type: ignore[attr-defined]
    if defect == "trains_again":
        carry_out._trained = _trains_again
    if defect == "tells_first":
        mirror._apply = _tells_first  # type: ignore[assignment]
    app = open_app(Path(root))
    if what == "react":
        app.react()
    else:
        app.mirror()


if __name__ == "__main__":
    main(*sys.argv[1:])
