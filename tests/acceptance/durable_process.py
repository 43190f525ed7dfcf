"""A process that does one durable work of three steps, to be killed within the second: ``python -m … HOME FAULT``."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecluse.adapters.durable_dbos import DurableRunner
from ecluse.core.errors import Unavailable


def main(home: Path, fault: str) -> None:
    log = home / "steps.txt"

    def note(word: str, answer: Any) -> Any:
        with log.open("a") as file:
            file.write(word + "\n")
        return answer

    def second(first: dict[str, Any]) -> int:
        note("second begins", None)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "raise":
            raise Unavailable("the store is gone", where="second")
        return int(note("second", first["n"] + 1))

    def work(step: Callable[[str, Callable[[], Any]], Any], start: int) -> dict[str, Any]:
        first = step("first", lambda: note("first", {"n": start}))
        number = step("second", lambda: second(first))
        return {"sum": step("third", lambda: note("third", number * 10))}

    with DurableRunner.launch(home, {"count": work}) as durable:
        print(durable.run("count-1", "count", 4)["sum"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
