"""The files under `schemas/` that are printed from the model: `python -m igmpconf.schema.printed [DIRECTORY]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from igmpconf.schema.jsonschema import json_schema
from igmpconf.schema.names import MODULE
from igmpconf.schema.yang import NETCONF_MODULE, module_text, netconf_module_text


def printed() -> dict[str, str]:
    """File name -> text of every printed file."""
    return {
        f"{MODULE}.schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        f"{MODULE}.yang": module_text(),
        f"{NETCONF_MODULE}.yang": netconf_module_text(),
    }


def write(directory: Path) -> list[Path]:
    """Write every printed file into `directory` and return their paths.  Raises OSError."""
    paths = []
    for name, text in printed().items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("schemas")):
        sys.stderr.write(f"wrote {written}\n")
