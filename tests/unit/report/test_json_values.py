"""Values with their pointers: shown with the pointer, escaped, and otherwise used like the plain value."""

from __future__ import annotations

import pytest
from jinja2 import Environment, StrictUndefined, UndefinedError

from pipeline.report.json_values import FORMS, JsonValue, dotted_path, leaves, render, render_setting
from tests.support.report_project import says

VALUE = {"a/b": {"~": 1234567}, "<i>": "<b>", "share": 0.12345, "none": None, "list": [{"x": 1}, {"x": 2}], "yes": True}


def rendered(template: str) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = lambda value: render(value, FORMS["percent"])
    environment.filters["setting"] = render_setting
    return environment.from_string(template).render(it=JsonValue(VALUE, "f.json#"))


def test_a_value_is_shown_with_the_pointer_to_it() -> None:
    assert rendered("{{ it.share | percent }}") == '<span data-json="f.json#/share">12.3%</span>'
    assert rendered("{{ it['a/b']['~'] }}") == '<span data-json="f.json#/a~1b/~0">1,234,567</span>'
    assert rendered("{% for p in it.list[1:] %}{{ p.x }}{% endfor %}") == '<span data-json="f.json#/list/1/x">2</span>'
    assert rendered("{{ it.none }}") == '<span data-json="f.json#/none">not known</span>'
    assert rendered("{{ it.none | percent }}") == '<span data-json="f.json#/none">not known</span>'
    assert rendered("{{ it.none | setting }}") == '<span data-json="f.json#/none">null</span>'
    assert rendered("{{ it.yes }}") == '<span data-json="f.json#/yes">yes</span>'


def test_values_and_pointers_are_escaped() -> None:
    assert rendered("{{ it['<i>'] }}") == '<span data-json="f.json#/&lt;i&gt;">&lt;b&gt;</span>'


@pytest.mark.parametrize("template", ["{{ it.absent }}", "{{ it['absent'] }}", "{{ it.list[2] }}", "{{ it.share.x }}"])
def test_a_value_that_is_not_there_is_refused(template: str) -> None:
    with pytest.raises(UndefinedError):
        rendered(template)


def test_it_is_used_like_the_plain_value() -> None:
    it = JsonValue(VALUE, "f.json#")
    assert it["share"] == 0.12345
    assert it["<i>"] == JsonValue("<b>", "elsewhere#")
    assert "share" in it
    assert len(it["list"]) == 2
    assert [key for key, _ in it.items()] == list(it) == list(VALUE)
    assert not it["none"]


def test_the_leaves_of_a_value_have_dotted_paths() -> None:
    texts = {dotted_path(leaf): str(leaf) for leaf in leaves(JsonValue(VALUE, "f.json#"))}
    assert texts == {
        "a/b.~": "1,234,567", "<i>": "<b>", "share": "0.1235", "none": "not known", "list.0.x": "1", "list.1.x": "2",
        "yes": "yes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("12.3%", 0.12345, True), ("12.4%", 0.12345, False), ("1,234", 1234, True), ("1,235", 1234, False),
        ("13.4 MB", 13_442_079, True), ("13.5 MB", 13_442_079, False), ("6.56e-07", 6.5565e-7, True),
        ("6.57e-07", 6.5565e-7, False), ("no", False, True), ("yes", False, False), ("not known", None, True),
        ("0", None, False), ("a", "a", True), ("a", "b", False), ("0.1235", 0.12345, True), ("about 3", 3, False),
    ],
)  # fmt: skip
def test_the_reader_of_pages_tells_a_right_number_from_a_wrong_one(text: str, value: object, right: bool) -> None:
    assert says(text, value) is right
