"""What a start costs: medians of 20 fresh processes for `import ecluse` (limit 0.25 s) and `ecluse --help` (limit 0.3 s).

    python bench/cli/start.py

Wall-clock seconds, the interpreter's own start included. Exit code 1 when a limit is passed.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 20
MEASURED = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "import ecluse": ([sys.executable, "-c", "import ecluse"], 0.25),
    "ecluse --help": ([sys.executable, "-m", "ecluse", "--help"], 0.30),
    "ecluse train --help": ([sys.executable, "-m", "ecluse", "train", "--help"], None),
}


def seconds(command: list[str]) -> float:
    """One run in a fresh process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    slow = 0
    for name, (command, limit) in MEASURED.items():
        seconds(command)  # bytecode and disk cache
        runs = [seconds(command) for _ in range(ROUNDS)]
        median = statistics.median(runs)
        slow += limit is not None and median > limit
        told = f"limit {limit:.2f} s" if limit is not None else ""
        print(f"{name:<22} median {median:.3f} s  fastest {min(runs):.3f} s  {told}".rstrip())
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
