"""Small runners that take the recipes of templates/ci/ apart and execute their shell steps as GitHub and GitLab would.

What is not shell is done in their place: a checkout copies the project, artifacts are copied, conditions and rules are
evaluated, an approval is the test's decision to run the job.  An action or keyword that is not known here fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).parents[2] / "templates" / "ci"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Forge(ThreadingHTTPServer):
    """The part of GitHub's and GitLab's API that keeps comments; `comments` are the texts there are now."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.comments: list[str] = []
        self.authorized: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)


class _Requests(BaseHTTPRequestHandler):
    server: Forge

    def _serve(self) -> None:
        self.server.authorized.append(self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or "")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        number = re.search(r"/(?:comments|notes)/(\d+)$", self.path)
        comments = self.server.comments
        if self.command == "POST":
            comments.append(body["body"])
        elif self.command in {"PATCH", "PUT"}:
            assert number is not None
            comments[int(number[1])] = body["body"]
        base = self.server.url + self.path.partition("?")[0]
        listed = [{"id": i, "url": f"{base}/{i}", "body": text} for i, text in enumerate(comments)]
        answer = json.dumps(listed).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_PUT = _serve  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Ran:
    """How a job ended: the exit code of the step that failed, or 0."""

    code: int
    said: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""


@dataclass
class Runner:
    """A forge's runner for one project: `project` is what a checkout gives, `home` the user's home, `secrets` what is set up once."""

    project: Path
    work: Path
    forge: Forge
    ssh_key: str
    known_hosts: str
    artifacts: dict[str, bytes] = field(default_factory=dict)
    jobs_run: int = 0

    def _workspace(self) -> Path:
        self.jobs_run += 1
        place = self.work / f"job{self.jobs_run}"
        shutil.copytree(self.project, place / "work")
        (place / "home").mkdir()
        (place / "bin").mkdir()
        (place / "bin" / "pip").write_text(f'#!/bin/sh\necho "$@" >> {place}/pip\n')  # igmpconf is there already; what is asked of pip is kept
        (place / "bin" / "pip").chmod(0o755)
        return place

    @staticmethod
    def _shell(script: str, place: Path, variables: Mapping[str, str]) -> tuple[int, str]:
        path = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(place / "home"), "PYTHONPATH": str(RECIPES.parents[1]), "LC_ALL": "C.UTF-8", **variables}
        (place / "step.sh").write_text(script)
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(place / "step.sh")]
        done = subprocess.run(
            command,
            cwd=place / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


class GitHub(Runner):
    """The jobs of github-actions.yml."""

    recipe = yaml.safe_load((RECIPES / "github-actions.yml").read_text())

    def job(self, name: str, event: str, *, changes: str = "", branch: str = "main") -> Ran | None:
        """Run a job for a `push`, `pull_request` or `schedule`; None when its condition keeps it from running."""
        context = {
            "github.event_name": event,
            "github.ref_name": branch,
            "github.event.repository.default_branch": "main",
            "github.event.pull_request.head.repo.full_name": "o/r" if event == "pull_request" else "",
            "github.event.pull_request.number": "7" if event == "pull_request" else "",
            "github.repository": "o/r",
            "github.token": "token-of-the-job",
            "needs.plan.outputs.changes": changes,
            "secrets.IGMPCONF_SSH_KEY": self.ssh_key,
            "vars.IGMPCONF_KNOWN_HOSTS": self.known_hosts,
        }
        body = self.recipe["jobs"][name]
        if not _holds(body.get("if", "true"), context):
            return None
        place = self._workspace()
        ran = Ran(0, "")
        for step in body["steps"]:
            if not _holds(step.get("if", "true"), context):
                continue
            if "uses" in step:
                self._action(step, place)
                continue
            given = {name: _filled(value, context) for name, value in {**self.recipe["env"], **step.get("env", {})}.items()}
            given |= {"GITHUB_OUTPUT": str(place / "output"), "GITHUB_STEP_SUMMARY": str(place / "summary"), "GITHUB_API_URL": self.forge.url}
            given |= {"GITHUB_REPOSITORY": "o/r", "GITHUB_SHA": COMMIT, "GITHUB_ACTOR": "eve"}
            ran.code, said = self._shell(step["run"], place, given)
            ran.said += said
            if ran.code:
                break
        ran.outputs = dict(line.split("=", 1) for line in _text(place / "output").splitlines())
        ran.summary = _text(place / "summary")
        return ran

    def _action(self, step: dict[str, Any], place: Path) -> None:
        action = step["uses"].partition("@")[0]
        if action == "actions/upload-artifact":
            self.artifacts = {found.name: found.read_bytes() for found in (place / "work").glob(step["with"]["path"])}
        elif action == "actions/download-artifact":
            for name, content in self.artifacts.items():
                (place / "work" / name).write_bytes(content)
        else:
            assert action in {"actions/checkout", "actions/setup-python"}, action

    def validate(self) -> Ran:
        return _there(self.job("validate", "push", branch="topic"))

    def plan(self, *, is_review: bool) -> Ran:
        return _there(self.job("plan", "pull_request" if is_review else "push", branch="topic" if is_review else "main"))

    def apply(self, planned: Ran) -> Ran | None:
        return self.job("apply", "push", changes=planned.outputs.get("changes", ""))

    def drift(self) -> Ran:
        assert self.job("plan", "schedule") is None
        return _there(self.job("drift", "schedule"))


def _holds(condition: str, context: Mapping[str, str]) -> bool:
    """The expressions of the recipe: names, texts, ==, !=, && and ||."""
    python = re.sub(r"[a-z_]+(?:\.[A-Za-z_]+)+", lambda found: repr(context[found[0]]), condition)
    python = python.replace("&&", " and ").replace("||", " or ").replace("true", "True")
    return bool(eval(python, {"__builtins__": {}}))


def _filled(value: Any, context: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: context[found[1]], str(value))


class _Reference(yaml.SafeLoader):
    """`!reference [job, key]` of GitLab."""


_Reference.add_constructor("!reference", lambda loader, node: ("!reference", *loader.construct_sequence(node)))


class GitLab(Runner):
    """The jobs of gitlab-ci.yml."""

    recipe = yaml.load((RECIPES / "gitlab-ci.yml").read_text(), Loader=_Reference)

    def job(self, name: str, source: str, *, branch: str = "main") -> Ran | None:
        """Run a job of a pipeline of `push`, `merge_request_event` or `schedule`; None when no rule lets it run."""
        given = {
            **{key: str(value) for key, value in self.recipe["variables"].items()},
            "CI_PIPELINE_SOURCE": source,
            "CI_COMMIT_BRANCH": "" if source == "merge_request_event" else branch,
            "CI_DEFAULT_BRANCH": "main",
            "CI_API_V4_URL": f"{self.forge.url}/api/v4",
            "CI_PROJECT_ID": "12",
            "CI_COMMIT_SHA": COMMIT,
            "GITLAB_USER_LOGIN": "eve",
            "IGMPCONF_TOKEN": "token-of-the-job",
            **({"CI_MERGE_REQUEST_IID": "7"} if source == "merge_request_event" else {}),
        }
        body = self.recipe[name]
        if not self._is_in(body["rules"], given):
            return None
        place = self._workspace()
        for variable, content in (("IGMPCONF_SSH_KEY", self.ssh_key), ("IGMPCONF_KNOWN_HOSTS", self.known_hosts)):
            (place / variable).write_text(content + "\n")  # variables of type file
            given[variable] = str(place / variable)
        for artifact, content in self.artifacts.items() if "needs" in body else ():
            (place / "work" / artifact).write_bytes(content)
        code, said = self._shell("\n".join(self._lines(body)), place, given)
        wanted = body.get("artifacts", {})
        for path in wanted.get("paths", []) if not code or wanted.get("when") == "always" else []:
            self.artifacts[path] = (place / "work" / path).read_bytes()
        for path in wanted.get("reports", {}).values():
            said += (place / "work" / path).read_text()
        return Ran(code, said)

    def _lines(self, body: dict[str, Any]) -> Iterator[str]:
        for line in [*body.get("before_script", []), *body["script"]]:
            if isinstance(line, tuple):
                _, job, key = line
                yield from self.recipe[job][key]
            else:
                yield line

    @staticmethod
    def _is_in(rules: list[dict[str, str]], given: Mapping[str, str]) -> bool:
        for rule in rules:
            condition = re.sub(r"\$(\w+)", lambda found: repr(given[found[1]]), rule.get("if", "1 == 1"))
            if eval(condition.replace("&&", " and ").replace("||", " or "), {"__builtins__": {}}):
                return rule.get("when") != "never"
        return False

    def validate(self) -> Ran:
        return _there(self.job("validate", "push", branch="topic"))

    def plan(self, *, is_review: bool) -> Ran:
        assert self.job("plan", "push", branch="topic") is None
        return _there(self.job("plan", "merge_request_event" if is_review else "push"))

    def apply(self, planned: Ran) -> Ran | None:
        assert self.job("apply", "merge_request_event") is None
        return self.job("apply", "push")

    def drift(self) -> Ran:
        assert self.job("plan", "schedule") is None
        assert self.job("apply", "schedule") is None
        return _there(self.job("drift", "schedule"))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _there(ran: Ran | None) -> Ran:
    assert ran is not None, "its condition keeps the job from running"
    return ran
