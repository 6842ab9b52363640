"""Ansible itself reads the same files: hosts, variables and patterns must come out alike.

ansible-core is slow to start, so each of its programs runs once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igmpconf.errors import InputError
from igmpconf.inventory.fleet import load

pytest.importorskip("ansible", reason="ansible-core is not installed (pip install '.[dev]')")

EXAMPLE = Path(__file__).parents[2] / "inventory" / "hosts.yaml"
FILES = {
    "hosts.yaml": """\
all:
  vars: {a: all, ranked: all, made: "{{ inventory_hostname }}-{{ a }}"}
  hosts:
    lonely:
    r1.example.org: {ansible_host: 192.0.2.1}
  children:
    hotel:
      vars: {a: hotel, ranked: hotel}
      children:
        north: {hosts: {"room-[101:105]": , "room-102": {own: 1}}}
        south:
          vars: {a: south}
          hosts: {"room-[201:203]": {ansible_port: 2222}}
    heavy: {vars: {ranked: heavy, ansible_group_priority: 10}, hosts: {room-103: }}
    light: {vars: {ranked: light}, hosts: {room-103: , room-201: }}
cameras:
  hosts: {"cam-[a:c]:8022": , room-203: {x: {deep: [1, 2]}}}
  vars: {x: {deep: [0], other: 1}}
edge:
  children: {cameras: , south: }
""",
    "group_vars/all.yml": "a: file-all\nfrom_file: all\n",
    "group_vars/hotel/10.yaml": "a: file-hotel\nfrom_file: hotel\n",
    "group_vars/hotel/20/x.yml": "deeper: yes\n",
    "group_vars/north.yaml": "from_file: north\nansible_group_priority: 3\n",
    "group_vars/south": "from_file: south\n",
    "group_vars/south.yml": "from_file: never\n",
    "group_vars/ungrouped.yaml": "from_file: ungrouped\n",
    "host_vars/room-102.json": '{"own": 2}',
    "limit.txt": "room-1*\n\n!room-103\n",
}
PATTERNS = (
    "all",
    "*",
    "room-101",
    "north",
    "hotel",
    "ungrouped",
    "edge",
    "room-10?",
    "*.example.org",
    "r*",
    "room-105,room-101",
    "room-105:room-101",
    "hotel:&edge",
    "hotel:!north",
    "hotel,!north,!room-202",
    "!hotel",
    "&edge",
    "!edge:hotel:&light",
    "~room-(101|20[12])",
    "~(north|cam-a)$",
    "~room-1,&~.*3$",
    "north[0]",
    "north[-1]",
    "north[1:2]",
    "north[2:]",
    "north[0:0]",
    "room-*[1:3]",
    "south[0],cameras[0:1]",
    "@limit.txt",
    "north[1:3]:!room-102",
    "nor*",
    "ca*",
    "lonely",
)

# What `ansible --list-hosts` does, for many patterns in one process.
ANSWERS = """
import json, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
manager = InventoryManager(loader=DataLoader(), sources=[sys.argv[1]])
found = {}
for pattern in json.loads(sys.argv[2]):
    manager.subset(pattern)
    found[pattern] = [host.name for host in manager.get_hosts("all")]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("ansible")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def said(place: Path, *command: str, inside: Path | None = None) -> str:
    """What a program of ansible-core prints; nothing of this machine's user has a say."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "ANSIBLE_HOME": str(place / ".ansible"),
        "ANSIBLE_LOCAL_TEMP": str(place / ".ansible"),
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(command, cwd=inside or place, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("inventory", ["", EXAMPLE], ids=["every-feature", "the-example"])
def test_ansible_inventory_agrees_on_hosts_and_variables(place, inventory):
    path = Path(inventory) if inventory else place / "hosts.yaml"
    listed = json.loads(said(place, "ansible-inventory", "-i", str(path), "--list", inside=path.parent))
    fleet = load(path)
    assert set(listed["_meta"]["hostvars"]) == {name for name, host in fleet.hosts.items() if host.variables}
    for name, host in fleet.hosts.items():
        assert host.variables == listed["_meta"]["hostvars"].get(name, {}), name
    for name, body in listed.items():
        if name != "_meta" and body.get("hosts"):
            assert sorted(body["hosts"]) == sorted(fleet.groups[name].hosts), name


@pytest.fixture(scope="module")
def answers(place):
    """Per pattern, the hosts that Ansible chooses."""
    return json.loads(said(place, sys.executable, "-c", ANSWERS, str(place / "hosts.yaml"), json.dumps(PATTERNS)))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_the_hosts_that_ansible_means(place, answers, pattern, monkeypatch):
    monkeypatch.chdir(place)
    chosen = [host.name for host in load(place / "hosts.yaml").select(pattern)]
    assert sorted(chosen) == sorted(answers[pattern])  # Ansible's order among the groups of one depth is that of a set
    assert chosen


def test_list_hosts_of_the_ansible_program_is_what_was_compared_with(place, answers):
    pattern = "hotel:&edge"
    listed = said(place, "ansible", "all", "-i", str(place / "hosts.yaml"), "--list-hosts", "-l", pattern)
    assert sorted(line.strip() for line in listed.splitlines()[1:]) == sorted(answers[pattern])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("hotel:!rooom-101", "no host or group 'rooom-101'"),  # Ansible ignores it, and would change room-101
        ("north[7]", "counts beyond the 5 hosts"),
        ("~room(", "no regular expression"),
        ("room-10[1-3]", "~room-10[1-3]"),
        ("@nowhere.txt", "the limit file nowhere.txt cannot be read"),
        ("north:!north", "leaves no host"),
    ],
)
def test_what_ansible_passes_over_is_an_error_here(place, pattern, words):
    with pytest.raises(InputError) as caught:
        load(place / "hosts.yaml").select(pattern)
    assert words in f"{caught.value.message} {caught.value.hint}"
