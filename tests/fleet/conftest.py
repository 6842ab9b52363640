from __future__ import annotations

from tests.cli.conftest import igmpconf, place

__all__ = ["igmpconf", "place"]
