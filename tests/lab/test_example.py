from __future__ import annotations

from pathlib import Path

from igmpconf.lab import example

ROOT = Path(__file__).parents[2]


def test_the_example_in_the_repository_is_the_one_of_the_demo() -> None:
    assert (ROOT / "examples" / "home.yaml").read_text() == example.HOME


def test_the_readme_shows_it() -> None:
    body = "".join(f"    {line}\n" for line in example.HOME.splitlines() if not line.startswith("#"))
    assert body in (ROOT / "README.md").read_text()


def test_the_variants_differ_where_they_say() -> None:
    assert "interface: wan9, upstream: yes" in example.WRONG_UPSTREAM
    assert "query-interval: 60s" in example.SLOWER_QUERIES
    broken = example.BROKEN.splitlines()
    assert [broken[line - 1].strip() for line in example.BROKEN_LINES] == ["querry-interval: 31.25s", "robustness: 300", "- {interface: lan1, upstream: yes}"]
