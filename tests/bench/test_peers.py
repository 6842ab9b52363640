"""Other proxies take part when they are on the machine, and the table has a column for each that did."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as command
from bench import peer


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH, and no variable that names a peer."""
    for kind in peer.KINDS:
        monkeypatch.delenv(f"IGMPCONF_BENCH_{kind.name.upper()}", raising=False)
    monkeypatch.setattr(peer, "_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _program(file: Path) -> Path:
    file.write_text("#!/bin/sh\n", encoding="ascii")
    file.chmod(0o755)
    return file


def test_a_machine_without_peers_has_none(bare: Path) -> None:
    assert peer.peers() == []
    (bare / "mcproxy").write_text("no program", encoding="ascii")
    assert peer.peers() == []


def test_a_peer_is_found_by_its_name_or_by_its_variable(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = _program(bare / "omcproxy")
    elsewhere = bare / "elsewhere"
    elsewhere.mkdir()
    by_variable = _program(elsewhere / "built-here")
    monkeypatch.setenv("IGMPCONF_BENCH_MCPROXY", str(by_variable))
    assert peer.peers() == [peer.McProxy, peer.OmcProxy]
    assert (peer.McProxy.program(), peer.OmcProxy.program()) == (str(by_variable), str(by_name))


def test_frr_is_named_by_its_variable_alone_for_its_program_is_called_like_another(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pimd = _program(bare / "pimd")
    assert peer.peers() == []
    monkeypatch.setenv("IGMPCONF_BENCH_FRR", str(pimd))
    assert peer.peers() == [peer.Frr]


def test_a_variable_that_names_no_program_is_a_mistake_and_no_missing_peer(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(bare / "mcproxy")
    monkeypatch.setenv("IGMPCONF_BENCH_MCPROXY", str(bare / "mcprox"))
    with pytest.raises(SystemExit, match="which is no program"):
        peer.peers()


def test_the_ratio_is_to_igmpproxy_and_other_peers_stand_behind_it(tmp_path: Path) -> None:
    table = tmp_path / "measurements.md"
    table.write_text("Words.\n<!-- the table: make bench ARGS=joins -->\nold\n", encoding="ascii")
    rows: list[command.Row] = [
        {"measure": "first", "unit": "ms", "igmpconf": 1.0, "igmpproxy": 4.0, "omcproxy": 2.0},
        {"measure": "groups", "unit": "", "igmpconf": 10, "mcproxy": 3},
    ]
    command._write_markdown(table, rows, is_undisturbed=False)
    lines = table.read_text(encoding="ascii").splitlines()
    assert lines[-4:] == [
        "| measure | igmpconf | igmpproxy | ratio | mcproxy | omcproxy |",
        "|---|---|---|---|---|---|",
        "| first | 1.000 ms | 4.000 ms | 0.25 | - | 2.000 ms |",
        "| groups | 10 | - | - | 3 | - |",
    ]
    assert "old" not in lines


def test_without_igmpproxy_there_is_no_ratio() -> None:
    assert command._columns([{"measure": "first", "unit": "ms", "igmpconf": 1.0}]) == ["igmpconf"]
    assert command._columns([{"measure": "first", "unit": "ms", "igmpconf": 1.0, "mcproxy": 1.0}]) == ["igmpconf", "mcproxy"]
