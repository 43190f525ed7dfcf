"""The story so far, read from the ledger; what was read before is remembered within the process and only what followed is read again."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from ecluse.core.ports import World
from ecluse.loop.triggers import Story, tell

_TOLD: dict[Path, Story] = {}


def story_so_far(world: World) -> Story:
    """All models' histories up to the newest row. Linear in the rows since the last call, in the ledger when it is another one now."""
    story = _TOLD.get(world.home, Story())
    rows = world.state.ledger(after=max(story.sequence - 1, 0))
    if story.sequence:
        last = next(rows, None)
        if last is None or (last.sequence, last.hash) != (story.sequence, story.hash):
            story, rows = Story(), world.state.ledger()
    # In slices: a story is a value, and copying it for each row would make a long ledger slow.
    while page := list(islice(rows, 500)):
        story = tell(story, page)
    _TOLD[world.home] = story
    return story
