from __future__ import annotations

import pytest

from igmpconf.errors import InputError
from igmpconf.inventory.fleet import load
from igmpconf.inventory.render import rendered
from igmpconf.netconf.target import SshTarget, UnixTarget

FLEET = """\
all:
  vars: {site: nowhere, ansible_user: admin}
  hosts:
    lonely:
  children:
    hotels:
      vars: {site: hotel, interval: 125s}
      children:
        north:
          hosts:
            n[01:03]: {site: own}
            n02: {ansible_host: 192.0.2.2, ansible_port: 2222}
        south:
          hosts: {s1: {ansible_connection: local}}
    central:
      hosts: {n03: }
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "hosts.yaml").write_text(FLEET)
    return tmp_path


def test_groups_ranges_and_variables(place):
    fleet = load(place)
    assert set(fleet.hosts) == {"lonely", "n01", "n02", "n03", "s1"}
    assert fleet.hosts["lonely"].variables == {"site": "nowhere", "ansible_user": "admin"}
    assert fleet.hosts["s1"].variables["site"] == "hotel"
    assert fleet.hosts["n01"].variables["site"] == "own"
    assert fleet.hosts["n02"].groups == ("all", "hotels", "north")


def test_whose_word_counts(place):
    """all < outer group < inner group < host, and files beside the inventory after the inventory itself."""
    for name, text in {
        "group_vars/all.yml": "a: all\nb: all\nc: all\n",
        "group_vars/hotels/x.yaml": "b: hotels\nc: hotels\n",
        "host_vars/n01": "c: host\n",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    v = load(place).hosts["n01"].variables
    assert (v["a"], v["b"], v["c"]) == ("all", "hotels", "host")


def test_priority_settles_groups_of_one_depth(tmp_path):
    (tmp_path / "i.yaml").write_text("all: {children: {x: {hosts: {h: }, vars: {v: x, ansible_group_priority: 10}}, y: {hosts: {h: }, vars: {v: y}}}}\n")
    assert load(tmp_path / "i.yaml").hosts["h"].variables["v"] == "x"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("n01", {"n01"}),
        ("north", {"n01", "n02", "n03"}),
        ("hotels:!south", {"n01", "n02", "n03"}),
        ("hotels,lonely", {"n01", "n02", "n03", "s1", "lonely"}),
        ("north:&central", {"n03"}),
        ("n*", {"n01", "n02", "n03"}),
        ("!hotels", {"lonely"}),
        (None, {"lonely", "n01", "n02", "n03", "s1"}),
    ],
)
def test_patterns(place, pattern, names):
    assert {host.name for host in load(place).select(pattern)} == names


@pytest.mark.parametrize("pattern", ["nobody", "north:!north", "n0[9]"])
def test_a_pattern_that_means_nobody_is_told(place, pattern):
    with pytest.raises(InputError) as caught:
        load(place).select(pattern)
    assert "n01" in caught.value.hint


def test_how_hosts_are_reached(place):
    (place / "hosts.yaml").write_text(
        "all:\n  hosts:\n    plain:\n    full:\n      ansible_host: 192.0.2.1\n      ansible_port: 2222\n      ansible_user: admin\n"
        "      ansible_ssh_private_key_file: keys/id\n      ansible_ssh_common_args: -o UserKnownHostsFile=/k -o 'ProxyJump jump' -J other -F cfg -q\n"
        "    here: {ansible_connection: local, igmpconf_socket: /run/x.sock}\n"
    )
    hosts = load(place).hosts
    assert hosts["plain"].target() == SshTarget(device="plain", host="plain")
    assert hosts["full"].target() == SshTarget(
        device="full",
        host="192.0.2.1",
        port=2222,
        user="admin",
        key_files=(str(place / "keys/id"),),
        options=(("userknownhostsfile", "/k"), ("proxyjump", "jump"), ("proxyjump", "other")),
        config_file=str(place / "cfg"),
    )
    assert hosts["here"].target() == UnixTarget(device="here", path="/run/x.sock")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("all: {hosts: {a: }, hosts: {b: }}\n", "i.yaml:1:21: the key 'hosts' is there twice"),
        ("all:\n  hosts:\n\ta:\n", "i.yaml:3:1"),
        ("- a\n", "not an inventory"),
        ("", "not an inventory"),
        ("all: {host: {a: }}\n", "group all has host"),
        ("all: {hosts: [a, b]}\n", "group all has hosts"),
        ("all: {hosts: {a: 3}}\n", "host a is 3"),
        ("all: {children: {x: {children: {y: {children: {x: }}}}}}\n", "contain each other: x > y > x"),
        ("all: {hosts: {'n[3:1]': }}\n", "does not count upwards"),
        ("all: {hosts: {a: {p: !vault x}}}\n", "vault"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, text, words):
    (tmp_path / "i.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "i.yaml")
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert str(tmp_path / "i.yaml") in caught.value.message or "contain" in words or "upwards" in words


def test_a_port_that_is_none_is_told(tmp_path):
    (tmp_path / "i.yaml").write_text("all: {hosts: {a: {ansible_port: 70000}}}\n")
    with pytest.raises(InputError, match="a: ansible_port is 70000"):
        load(tmp_path / "i.yaml").hosts["a"].target()


def test_a_template_with_an_unknown_variable_is_told_with_its_line(tmp_path):
    (tmp_path / "t.yaml.j2").write_text("igmp-proxy:\n  - interfaces: [{{ upstream }}]\n")
    assert "[wan]" in rendered(tmp_path / "t.yaml.j2", {"upstream": "wan"})
    with pytest.raises(InputError, match=r"t\.yaml\.j2:2: 'upstream' is undefined for r1"):
        rendered(tmp_path / "t.yaml.j2", {"inventory_hostname": "r1"})
    (tmp_path / "t.yaml.j2").write_text("a\n{% if %}\n")
    with pytest.raises(InputError, match=r"t\.yaml\.j2:2:"):
        rendered(tmp_path / "t.yaml.j2", {})


def test_a_template_cannot_leave_its_sandbox(tmp_path):
    (tmp_path / "t.j2").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(InputError):
        rendered(tmp_path / "t.j2", {})
