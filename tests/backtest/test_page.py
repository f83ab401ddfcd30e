"""The page in a real browser without a network, and the words beside it."""

import re
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from autoscaler.backtest import page as pages
from autoscaler.backtest.chart import COLOURS, DASHES, figure
from autoscaler.backtest.page import NoPlots, page
from autoscaler.backtest.results import Fleet
from autoscaler.backtest.words import COLUMNS, differences, table
from bench.browser import WIDTH, print_out
from tests.backtest.browser import HEIGHT, Opened, open_page
from tests.backtest.reports import FIGURES, HOSTILE, REPORT, fleet
from tests.monitoring.programs import program


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "report.html"
    written.write_text(page(REPORT), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def opened(file: Path) -> Opened:
    return open_page(file, file.parent)


def colours_of(picture: Path) -> set[str]:
    with Image.open(picture) as image:
        assert image.size == (WIDTH, HEIGHT)
        counted = image.convert("RGB").getcolors(WIDTH * HEIGHT)
    assert counted is not None
    return {"#" + bytes(pixel).hex() for count, pixel in counted if count > 100 and isinstance(pixel, tuple)}


# --------------------------------------------------------------------------------------------------------- the browser


@pytest.mark.real_programs
def test_the_pictures_are_drawn_and_the_console_stays_empty(opened: Opened) -> None:
    assert opened.console == []
    (size, *_) = re.findall(r'<svg class="main-svg"[^>]*width="(\d+)"[^>]*height="(\d+)"', opened.drawn)
    assert int(size[0]) > 1000
    assert int(size[1]) == 720
    # Demand, and of each policy workers, waiting pods and dollars, before and after the gap; three in the legend.
    assert opened.count("js-line") == 2 * (1 + 3 * 2) + 3
    assert opened.count("point") == sum(len(one.decisions) for each in REPORT.fleets for one in each.spans) == 8
    lines = re.findall(r'class="js-line" d="([^"]*)"', opened.drawn)
    assert len(lines) == 17
    assert all(re.fullmatch(r"M[\d.,-]+[HVLh].+", line) for line in lines)
    assert set(COLOURS[:2]) <= colours_of(opened.picture)


@pytest.mark.real_programs
def test_what_others_wrote_is_text_and_no_markup(opened: Opened) -> None:
    assert "<script>alert" not in opened.drawn
    assert "<img" not in opened.drawn
    assert HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in opened.drawn


@pytest.mark.real_programs
def test_nothing_leaves_the_page_and_what_tries_is_seen(file: Path, opened: Opened, tmp_path: Path) -> None:
    # A page that does ask for something is told apart: else an empty console would show nothing.
    text = file.read_text(encoding="utf-8").replace("</body>", '<img src="https://example.org/x.png"></body>')
    (tmp_path / "leaks.html").write_text(text, encoding="utf-8")
    (refused,) = open_page(tmp_path / "leaks.html", tmp_path).console
    assert "Content Security Policy" in refused
    assert opened.console == []


@pytest.mark.real_programs
def test_it_is_printed_with_its_pictures(file: Path) -> None:
    printed = print_out(program("chromium"), file, file.parent)
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/MediaBox") == len(re.findall(rb"/Type\s*/Page\b", printed)) >= 1
    assert len(printed) > 20_000, "an empty sheet is smaller"


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_file_names_no_other_file(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="', own)
    assert "url(" not in own
    assert "default-src 'none'" in own


def test_what_was_ended_early_says_so() -> None:
    assert "Ended before all was played" in page(msgspec.structs.replace(REPORT, stopped=True))
    assert "Ended before all was played" not in page(REPORT)


def test_a_policy_that_was_not_played_at_all_has_a_row() -> None:
    nothing = msgspec.structs.replace(FIGURES, hours=0.0, node_hours=0.0, usd=0.0)
    unplayed = Fleet(name="late", policy_hash="0", figures=nothing, spans=())
    text = page(msgspec.structs.replace(REPORT, fleets=(*REPORT.fleets, unplayed), stopped=True))
    assert "late: 0 decisions" in text


def test_lines_are_told_apart_without_colour() -> None:
    lines = [trace for trace in figure(REPORT)["data"] if trace["name"] in {"present", "changed"}]
    workers = [trace for trace in lines if trace.get("yaxis", "y") == "y"]
    assert [trace["line"]["dash"] for trace in workers] == list(DASHES[:2])
    assert [trace["line"]["color"] for trace in workers] == list(COLOURS[:2])


def test_a_gap_is_a_gap_in_every_line() -> None:
    for trace in figure(REPORT)["data"]:
        if trace["mode"] == "lines":
            assert trace["y"].count(None) == 2, trace["name"]
            assert trace["connectgaps"] is False


def test_dollars_grow_by_what_workers_cost() -> None:
    dollars = [trace for trace in figure(REPORT)["data"] if trace.get("yaxis") == "y3"]
    present = [value for value in dollars[0]["y"] if value is not None]
    assert present[-1] == pytest.approx(2 * (2 * 0.0416 + 2 * 0.0832), abs=0.001)


def test_without_the_library_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> Path:
        raise ModuleNotFoundError

    monkeypatch.setattr(pages, "files", absent)
    with pytest.raises(NoPlots, match="needs plotly, which is not installed: pip install"):
        page(REPORT)


# --------------------------------------------------------------------------------------------------------------- words


def told(**changes: float) -> list[str]:
    return list(differences(fleet("present"), fleet("changed", msgspec.structs.replace(FIGURES, **changes))))


def test_the_table() -> None:
    head, present, _ = table(REPORT.fleets).splitlines()
    assert head.split("  ")[0] == "policy"
    assert all(column in head for column in COLUMNS)
    assert present.split() == ["present", "8.0", "30.0", "0.624", "12.0", "4", "3"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"usd": 0.312}, "changed instead of present: $0.31 less (50%)."),
        ({"usd": 0.936, "launches": 4}, "changed instead of present: $0.31 more (50%), 1 launch more (33%)."),
        ({"evictions": 0}, "changed instead of present: 4 evictions fewer (100%)."),
        ({"waiting_pod_minutes": 13.0}, "changed instead of present: 1.0 pod-minutes of waiting more (8%)."),
        ({}, "changed instead of present: every decision is the same."),
    ],
)
def test_the_difference_in_words(changes: dict[str, float], words: str) -> None:
    assert told(**changes) == [words]


def test_what_the_other_had_none_of_is_told_without_a_share() -> None:
    before = fleet("present", msgspec.structs.replace(FIGURES, evictions=0))
    assert next(differences(before, fleet("changed"))) == "changed instead of present: 4 evictions more."


def test_hours_that_differ_are_not_compared() -> None:
    (line,) = told(hours=3.0)
    assert line == "changed played 3.0 hours and present 8.0: their sums cannot be held against each other."


def test_where_they_first_part() -> None:
    present = REPORT.fleets[0]
    changed = msgspec.structs.replace(present, name="changed")
    spans = changed.spans[1]
    fewer = msgspec.structs.replace(changed, spans=(changed.spans[0], msgspec.structs.replace(spans, decisions=())))
    *_, line = differences(present, fewer)
    assert line.startswith("They first differ: present at 2027-01-15 07:59:30Z: scale_up, ")
    assert line.endswith("; changed decides nothing more.")
