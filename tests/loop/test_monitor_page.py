"""The page of a report: one file, nothing fetched, whatever names people give their columns."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.loop.test_monitor import SETTINGS, Served, served
from tests.monitoring.records import prediction

from ecluse.core.errors import Unavailable
from ecluse.loop.monitor_page import monitor_page, write_page
from ecluse.monitoring.bars import Bars
from ecluse.monitoring.skew import Served as Answer
from ecluse.monitoring.skew import compare_served

__all__ = ["served"]


class _Reader(HTMLParser):
    """Every tag with its attributes, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_a_page_stands_alone(served: Served, tmp_path: Path) -> None:
    settings = replace(SETTINGS, monitoring=replace(SETTINGS.monitoring, last=500))
    for day in range(1, 4):
        served.traffic(500, at=f"2024-01-0{day}", seed=day, shift=0.5 * day)
        report = served.monitor(settings)
    answers = [
        Answer(prediction(1, inputs={"hours": 1.0}, moments={"use": "2024-01-30T00:00:00Z"}), {"use": {"hours": 2.0}})
    ]
    page = monitor_page(report, settings, compare_served("churn", answers, {}))
    reader = _read(page)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not [attributes for _, attributes in reader.tags if {"src", "href"} & set(attributes)]
    assert "http" not in page.replace("http-equiv", "")
    assert [tag for tag, _ in reader.tags].count("svg") == 5 + 3  # scores and four inputs; three series of windows
    for word in ("churn version 1", "drifted", "hours", "The last 3 windows", "1.0 served, 2.0 recomputed"):
        assert word in page
    write_page(tmp_path / "out" / "page.html", page)
    assert (tmp_path / "out" / "page.html").read_text(encoding="utf-8") == page
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        write_page(tmp_path / "file" / "page.html", page)


def test_names_are_text_never_markup(served: Served) -> None:
    served.traffic(300)
    report = served.monitor()
    evil = "<script>alert(1)</script>\"'"
    shift = replace(report.shifts["plan"], name=evil)
    bars = Bars((evil, "b"), (0.5, 0.5), (0.2, 0.8))
    page = monitor_page(replace(report, shifts={evil: shift}, bars={evil: bars}), SETTINGS)
    assert "<script" not in page
    _read(page)


def test_a_window_of_nothing_has_a_page(served: Served) -> None:
    page = monitor_page(served.monitor(), SETTINGS)
    assert "cannot be judged" in page
    assert "no predictions" in page
    _read(page)
