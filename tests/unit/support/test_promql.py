import pytest

from tests.support.promql import read_promql


@pytest.mark.parametrize(
    ("text", "matched", "grouped"),
    [
        ("up", {"up": {}}, set()),
        ('a{x="1", y=~"b|c"}', {"a": {"x": {"1"}, "y": {"b", "c"}}}, set()),
        ('sum by (x, y) (rate(a_total{z!="q{}"}[5m]))', {"a_total": {"z": {"q{}"}}}, {"x", "y"}),
        ("sum(a) by (x) / on (x) group_left () b > 0.5e1", {"a": {}, "b": {}}, {"x"}),
        (
            "histogram_quantile(0.95, sum by (le) (rate(a[$__rate_interval]) and on (i) b))",
            {"a": {}, "b": {}},
            {"le", "i"},
        ),
        ("max(a, b) unless (c or d) offset 5m", {x: {} for x in "abcd"}, set()),
    ],
)
def test_metrics_and_labels_are_found(
    text: str, matched: dict[str, dict[str, set[str]]], grouped: set[str]
) -> None:
    """Functions, words, times and strings are none."""
    found = read_promql(text)

    assert (found.matched, found.grouped) == (matched, grouped)
