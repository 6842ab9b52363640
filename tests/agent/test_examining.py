"""The operation `diagnose`: its parameter, one look at a time, and what goes wrong below it."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from xml.etree.ElementTree import Element, SubElement

import pytest

from igmpconf.errors import RpcFailed
from igmpconf.linux.examination import Question
from igmpconf.model.diagnosis import DEFAULT_MS, Diagnosis
from igmpconf.netconf.client import NetconfClient
from igmpconf.schema.xml import NAMESPACE, xml_to_answer
from tests.apply.agents import running_agent


def ask(running, window: str | None = None) -> Diagnosis:
    operation = Element(f"{{{NAMESPACE}}}diagnose")
    if window is not None:
        SubElement(operation, f"{{{NAMESPACE}}}window").text = window
    with NetconfClient.connect(running.target) as client:
        return xml_to_answer(Diagnosis, client.rpc(operation, "looking"))


def told(question: Question, _: threading.Event) -> Diagnosis:
    return Diagnosis(window_ms=question.window_ms)


def test_how_long_it_looks(tmp_path):
    with running_agent(tmp_path, examine=told) as running:
        assert [ask(running, window).window_ms for window in (None, "0", "250", "60000")] == [DEFAULT_MS, 0, 250, 60_000]
        for wrong in ("60001", "-1", "2s", ""):
            with pytest.raises(RpcFailed, match="window is a number"):
                ask(running, wrong)


def test_one_look_at_a_time(tmp_path):
    under_way, most = [], []

    def slow(question: Question, _: threading.Event) -> Diagnosis:
        under_way.append(question)
        most.append(len(under_way))
        both.wait(0.1)
        under_way.pop()
        return Diagnosis(window_ms=question.window_ms)

    both = threading.Event()
    with running_agent(tmp_path, examine=slow) as running, ThreadPoolExecutor() as pool:
        assert [one.window_ms for one in pool.map(lambda window: ask(running, window), ("1", "2", "3"))] == [1, 2, 3]
    assert most == [1, 1, 1]


def test_what_the_kernel_refuses_to_tell(tmp_path):
    def refused(question: Question, _: threading.Event) -> Diagnosis:
        raise OSError(errno.EPERM, "Operation not permitted")

    with running_agent(tmp_path, examine=refused) as running, pytest.raises(RpcFailed, match="cannot look at the device: Operation not permitted"):
        ask(running)


def test_an_agent_that_has_nothing_to_look_with(tmp_path):
    with running_agent(tmp_path) as running, pytest.raises(RpcFailed, match="does not look at what passes"):
        ask(running)
