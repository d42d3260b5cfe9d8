import json
import re
from pathlib import Path

import pytest

from tests.support.exported_metrics import exported_metrics
from tests.support.shown_metrics import ADDED, DASHBOARDS, labels_of, panels, queries, unknown_parts

WIDTH = 24

each_dashboard = pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)


def test_there_are_three() -> None:
    """One for what clients get, one for the engines, one for the tokenizer."""
    names = [file.stem for file in DASHBOARDS]
    assert names == ["headrace-overview", "headrace-tokenizer", "headrace-workers"]


@each_dashboard
def test_panels_ask_only_for_what_the_services_export(file: Path) -> None:
    """Every metric, label and label's value exists; every legend's label too."""
    exported = exported_metrics() | ADDED

    assert [part for text in queries(file) for part in unknown_parts(text, exported)] == []
    for panel in panels(file):
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= labels_of(target["expr"], exported), panel["title"]


@each_dashboard
def test_every_query_obeys_the_chosen_namespace(file: Path) -> None:
    """Another release's series are not mixed in."""
    for text in queries(file):
        assert 'namespace=~"$namespace"' in text


@each_dashboard
def test_panels_have_places_and_ids_of_their_own(file: Path) -> None:
    """None lies over another or beyond the edge; the file's name is the dashboard's id."""
    document = json.loads(file.read_text(encoding="utf-8"))
    cells: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        taken = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(column for column, _ in taken) < WIDTH, panel["title"]
        cells |= taken
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    assert document["uid"] == file.stem


def test_every_metric_of_ours_is_shown_somewhere() -> None:
    """What a service exports for operators is on a dashboard."""
    shown = " ".join(text for file in DASHBOARDS for text in queries(file))
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported_metrics()}
    # The libraries' own, of which some are shown.
    left_out = {name for name in names if name.startswith(("process_", "python_"))}

    assert sorted(name for name in names - left_out if name not in shown) == []
