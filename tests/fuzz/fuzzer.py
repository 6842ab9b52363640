"""Coverage-guided fuzzing with atheris: python -m tests.fuzz.fuzzer decoders|engine [options of libFuzzer]

`make fuzz` runs both for a minute each.  What was learned is kept in .fuzz/NAME (the corpus), what broke in
.fuzz/NAME.crash-*; give such a file as the last argument to see it again, and turn it into a test in test_found.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["igmpconf.engine", "igmpconf.schema.xml"]):
    from tests.fuzz.afternoon import decode, seeds, spend

TARGETS = {"decoders": decode, "engine": lambda data: spend(data) and None}


def _first_afternoons() -> list[bytes]:
    """Both families, a configuration each, and everything that may happen once."""
    return [
        bytes((family, config, *bytes(14), *(octet for event in range(0, 64, 3) for octet in (event, 1, 2, 3, 5, 7, 11, 13))))
        for family in (0, 1)
        for config in range(10)
    ]


def main() -> None:
    name, *options = sys.argv[1:]
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds() if name == "decoders" else _first_afternoons()):
        (corpus / f"seed-{number}").write_bytes(seed)
    is_replayed = bool(options) and not options[-1].startswith("-")
    arguments = [*options, "-max_len=2000", f"-artifact_prefix=.fuzz/{name}.", "-timeout=20"] + ([] if is_replayed else [str(corpus)])
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
