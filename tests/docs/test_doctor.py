"""The doctor's codes: the code says no other, each is broken by a test of its own on the kernel, and the page is fresh."""

from __future__ import annotations

import re

from igmpconf.observe.doctor import CODES
from tests.docs.doctor import PAGE, ROOT, page
from tests.docs.vocabulary import strings

# Not to be had on a kernel within a test: the reason, and where it is shown instead.
ELSEWHERE = {
    "instance/none": "tests/cli/test_doctor.py",
    "instance/not-in-force": "tests/observe/test_doctor.py",
    "deviation/firewall": "tests/cli/test_doctor.py",
    "deviation/vlan": "tests/observe/test_doctor.py",
    "snooping/other-querier": "tests/observe/test_doctor.py",
    "report/source-limit": "tests/observe/test_doctor.py",
    "report/router-alert": "tests/observe/test_doctor.py",
    "report/newer-version": "tests/observe/test_doctor.py",
    "report/ssm": "tests/observe/test_doctor.py",
}
_CODE = re.compile(r"[a-z]+/[a-z0-9-]+")


def said_in(*paths) -> set[str]:
    return {text for path in paths for text, _ in strings(path) if _CODE.fullmatch(text)}


def test_the_checks_find_what_is_listed_and_nothing_else():
    rooms = ROOT / "igmpconf" / "observe"
    said = said_in(*(path for path in rooms.glob("doctor_*.py")))
    formed = {code for code in CODES if code.startswith(("report/", "deviation/")) or code in {"upstream/not-up", "downstream/not-up"}}
    assert said | formed == set(CODES)


def test_every_code_has_a_test_that_breaks_just_that():
    broken = said_in(*(ROOT / "tests" / "topology").glob("test_doctor*.py"))
    assert set(CODES) - broken == set(ELSEWHERE)
    for code, place in ELSEWHERE.items():
        assert code in (ROOT / place).read_text(), f"{place} shows {code}"


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(), "run: python -m tests.docs.doctor"
