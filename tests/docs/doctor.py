"""Prints docs/reference/doctor.md: `python -m tests.docs.doctor`."""

from __future__ import annotations

from pathlib import Path

from igmpconf.observe.doctor import CODES, SYMPTOMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "doctor.md"


def page() -> str:
    """The whole page."""
    lines = [
        "# What the doctor looks at",
        "",
        "Printed from `igmpconf/observe/doctor.py`; not edited by hand (`python -m tests.docs.doctor`).",
        "",
        "`igmpconf doctor [DEVICE] [--group G] [--symptom S] [--for TIME]` asks the agent to look at its device for two seconds, or for TIME,",
        "and says of everything that is wrong what is seen, the cause, the evidence in numbers, and the line to change. While it looks, a table",
        "`igmpconf_doctor` in nftables counts datagrams and follows a sample of them through the rules; it drops nothing and goes afterwards. The",
        "codes below and the fields of `--format json` (`igmpconf schema doctor`) are stable.",
        "",
        "Severities: an `error` keeps streams from somebody now, a `warning` does so sometimes or for some, a `note` is worth knowing. With a",
        "warning or an error the exit code is 1. What could not be looked at, for want of the program `nft` for example, is said on standard",
        "error and stands in `unmeasured`.",
        "",
        "| symptom | what it means |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in SYMPTOMS.items()),
        "",
        "| code | what is looked at | may be the cause of |",
        "|---|---|---|",
        *(f"| `{code}` | {looked_at} | {', '.join(f'`{name}`' for name in symptoms)} |" for code, (symptoms, looked_at) in CODES.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
