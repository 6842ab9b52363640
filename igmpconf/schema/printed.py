"""The files that are printed from the model: `python -m igmpconf.schema.printed [DIRECTORY]`, the checkout by default."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from igmpconf.schema.jsonschema import json_schema
from igmpconf.schema.names import MODULE
from igmpconf.schema.reference import configuration, diagnostics
from igmpconf.schema.yang import NETCONF_MODULE, module_text, netconf_module_text


def printed() -> dict[str, str]:
    """Path below the checkout -> text of every printed file."""
    return {
        f"schemas/{MODULE}.schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        f"schemas/{MODULE}.yang": module_text(),
        f"schemas/{NETCONF_MODULE}.yang": netconf_module_text(),
        "docs/reference/configuration.md": configuration(),
        "docs/diagnostics.md": diagnostics(),
    }


def write(directory: Path) -> list[Path]:
    """Write every printed file below `directory` and return their paths.  Raises OSError."""
    paths = []
    for name, text in printed().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        sys.stderr.write(f"wrote {written}\n")
