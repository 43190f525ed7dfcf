"""The process that counts a share of the journal's segments: ``python -m ecluse.loop.pane_process``, started by ``panes.py``.

Reads a question and segments as JSON on stdin, answers a pane (or null) for each as JSON on stdout.
"""

from __future__ import annotations

import json
import sys

from ecluse.core.codec import canonical, from_plain
from ecluse.core.journal import Segment
from ecluse.loop.panes import Question, count_segment


def main() -> None:
    """Read, count, answer."""
    order = json.loads(sys.stdin.buffer.read())
    question = from_plain(Question, order["question"])
    segments = from_plain(tuple[Segment, ...], order["segments"])
    sys.stdout.buffer.write(canonical([count_segment(each, question) for each in segments]))


if __name__ == "__main__":
    main()
