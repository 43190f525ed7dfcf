"""Run ``stream.csv`` through the loop, a day at a time; without one a drifting stream is written first: ``python run.py [abrupt|gradual|…]``."""

import sys
from pathlib import Path

from ecluse.demo.prequential import prequential
from ecluse.testing.streams import stream

HERE = Path(__file__).parent

if __name__ == "__main__":
    if not (HERE / "stream.csv").exists():
        drift = sys.argv[1] if len(sys.argv) > 1 else "abrupt"
        stream(drift, days=20, rows_a_day=600, seed=1).write_csv(HERE / "stream.csv")
    story = prequential(HERE, say=print)
    for which in ("loop", "never", "every"):
        print(f"{which:6} mean realised ROC AUC {story.mean(which):.4f}")
    print(f"{story.retrainings} retrainings, {story.releases} released, in {len(story.windows)} windows")
