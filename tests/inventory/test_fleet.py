from __future__ import annotations

import pytest

from igmpconf.errors import InputError
from igmpconf.inventory.fleet import digest_of, load
from igmpconf.inventory.render import Origins, rendered
from igmpconf.inventory.variables import Variables
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
    assert fleet.hosts["lonely"].groups == ("all", "ungrouped")


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
        ("all: {hosts: {a: {p: !secret x}}}\n", "i.yaml:1:22: could not determine a constructor for the tag '!secret'"),
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


def variables(**raw) -> Variables:
    return Variables("r1", raw, {"inventory_hostname": "r1"})


def test_a_template_with_an_unknown_variable_is_told_with_its_line(tmp_path):
    (tmp_path / "t.yaml.j2").write_text("igmp-proxy:\n  - interfaces: [{{ upstream }}]\n")
    assert "[wan]" in rendered(tmp_path / "t.yaml.j2", variables(upstream="wan"))
    with pytest.raises(InputError, match=r"t\.yaml\.j2:2: 'upstream' is undefined for r1"):
        rendered(tmp_path / "t.yaml.j2", variables())
    (tmp_path / "t.yaml.j2").write_text("a\n{% if %}\n")
    with pytest.raises(InputError, match=r"t\.yaml\.j2:2:"):
        rendered(tmp_path / "t.yaml.j2", variables())


@pytest.mark.parametrize(
    ("template", "raw", "words"),
    [
        ("\n{{ 1 // zero }}", {"zero": 0}, "t.yaml.j2:2: integer division or modulo by zero for r1"),
        ("\n{{ upstream + 1 }}", {"upstream": "wan"}, "t.yaml.j2:2: can only concatenate"),
        ("\n\n{{ upstream | ipaddr }}", {"upstream": "wan"}, "t.yaml.j2:3: No filter named 'ipaddr'"),
        ("{% include 'inner.j2' %}", {}, "inner.j2:2: 'nothing' is undefined for r1"),
        ("{{ a }}", {"a": "{{ b }}", "b": "{{ a }}"}, "variables of r1 are made of each other: a > b > a, used in"),
        ("{{ a }}", {"a": "{{ nowhere }}"}, "variable a of r1: 'nowhere' is undefined, used in"),
        ("{{ a }}", {"a": "{{ a b }}"}, "variable a of r1: expected token"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", {}, "unsafe"),
        ("{% for x in range(10000000) %}{% endfor %}", {}, "Range too big"),
    ],
)
def test_what_a_template_cannot_do_is_told_with_its_place(tmp_path, template, raw, words):
    (tmp_path / "t.yaml.j2").write_text(template)
    (tmp_path / "inner.j2").write_text("\n{{ nothing }}")
    with pytest.raises(InputError) as caught:
        rendered(tmp_path / "t.yaml.j2", variables(**raw))
    assert words in caught.value.message


def test_variables_may_be_made_of_others_and_keep_their_type(place):
    (place / "hosts.yaml").write_text(
        "all:\n  vars: {site: 7, both: [eth0, '{{ uplink }}'], uplink: 'vlan{{ site * 10 }}', rooms: '{{ [1, 2] if big else [] }}', big: yes}\n"
        "  hosts:\n    a: {ansible_host: '{{ inventory_hostname }}.example.org', ansible_port: '{{ 2200 + site }}', plain: !unsafe '{{ x }}'}\n    b:\n"
        "    c: {from: '{{ hostvars.a.ansible_host }}', others: '{{ groups.all }}'}\n"
    )
    hosts = load(place).hosts
    assert hosts["a"].values["both"] == ["eth0", "vlan70"]
    assert hosts["a"].values["rooms"] == [1, 2]
    assert hosts["a"].values["plain"] == "{{ x }}"
    assert hosts["a"].target() == SshTarget(device="a", host="a.example.org", port=2207, user=None, key_files=(), options=(), config_file=None)
    assert hosts["c"].values["from"] == "a.example.org"
    assert hosts["c"].values["others"] == ["a", "b", "c"]
    assert hosts["a"].variables["uplink"] == "vlan{{ site * 10 }}"


def test_secrets_stay_closed_and_hinder_nobody_who_does_not_need_them(place):
    (place / "group_vars").mkdir()
    (place / "group_vars" / "hotels").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (place / "hosts.yaml").write_text(FLEET + "    # below: a vault\n      vars: {password: !vault '$ANSIBLE_VAULT;1.1;AES256\n\n 6162', port: 22}\n")
    host = load(place).hosts["n03"]
    (place / "t.yaml.j2").write_text("{{ port }}\n")
    assert rendered(place / "t.yaml.j2", host.values) == "22\n"
    (place / "t.yaml.j2").write_text("\n{{ password }}")
    with pytest.raises(InputError, match=r"t\.yaml\.j2:2: 'password' is in a vault, which igmpconf does not open for n03"):
        rendered(place / "t.yaml.j2", host.values)


def test_every_file_of_a_directory_is_read_as_ansible_would(tmp_path):
    for name, text in {
        "10-sites.yaml": "hotel: {hosts: {a: {x: first, y: first}}}\n",
        "20-more.yml": "hotel: {hosts: {a: {x: second}, b: }}\ncity: {children: {hotel: }}\n",
        ".hidden.yaml": "- nonsense",
        "notes.txt": "nonsense",
        "sub/desired.yaml": "igmp-proxy: {}\n",
        "group_vars/ungrouped.yaml": "z: 1\n",
        "host_vars/b/inner/x.yml": "deep: yes\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    fleet = load(tmp_path)
    assert {name: host.variables for name, host in fleet.hosts.items()} == {"a": {"x": "second", "y": "first"}, "b": {"deep": True}}
    assert fleet.hosts["a"].groups == ("all", "city", "hotel")
    with pytest.raises(InputError, match="holds no inventory"):
        load(tmp_path / "host_vars")


def test_a_line_that_came_out_leads_back_to_the_line_of_the_template(tmp_path):
    (tmp_path / "t.yaml.j2").write_text(
        "top: 1\n{% for room in rooms -%}\n- {{ room }}: x\n{% endfor %}\n{% include 'inner.j2' %}\n\nend: {{ rooms | length }}\n"
    )
    (tmp_path / "inner.j2").write_text("{# nothing #}\nwithin: {{ rooms[0] }}")
    values = variables(rooms=["a", "b"])
    text = rendered(tmp_path / "t.yaml.j2", values)
    origins = Origins(tmp_path / "t.yaml.j2", values, text)
    found = {line: origins.place(i) for i, line in enumerate(text.split("\n"), 1) if line}
    assert {line: (place.file.name, place.line, place.is_literal) for line, place in found.items()} == {
        "top: 1": ("t.yaml.j2", 1, True),
        "- a: x": ("t.yaml.j2", 3, False),
        "- b: x": ("t.yaml.j2", 3, False),
        "within: a": ("inner.j2", 2, False),
        "end: 2": ("t.yaml.j2", 7, False),
    }
    assert origins.place(99) is None


def test_where_a_filter_counts_the_letters_no_wrong_line_is_told(tmp_path):
    (tmp_path / "t.yaml.j2").write_text("{% set x %}abc\ndef{% endset %}\nlength: {{ x | length }}\n")
    text = rendered(tmp_path / "t.yaml.j2", variables())
    assert text == "\nlength: 7\n"
    assert Origins(tmp_path / "t.yaml.j2", variables(), text).place(2) is None


def test_the_digest_of_a_host_changes_with_what_is_said_of_it_and_not_with_its_neighbours(place):
    before = load(place).select("n01")
    (place / "hosts.yaml").write_text(FLEET.replace("s1: {ansible_connection: local}", "s1: {ansible_connection: local}, s2: "))
    assert digest_of(load(place).select("n01")) == digest_of(before)
    (place / "hosts.yaml").write_text(FLEET.replace("interval: 125s", "interval: 60s"))
    assert digest_of(load(place).select("n01")) != digest_of(before)
    assert digest_of(load(place).select("n01,lonely")) == digest_of(load(place).select("lonely,n01"))


def test_hosts_that_want_the_very_same_are_read_once_and_mistakes_name_them_all(place, monkeypatch):
    from igmpconf.inventory import desired

    (place / "hosts.yaml").write_text(FLEET.replace("vars: {site: nowhere,", "vars: {igmpconf_config: d.yaml.j2, site: nowhere,"))
    (place / "d.yaml.j2").write_text("# {{ site }}\nigmp-proxy:\n  - interfaces: [{interface: wan, upstream: yes}, lan0]\n")
    read = []
    monkeypatch.setattr(desired, "load_files", lambda paths, load=desired.load_files: read.append(paths) or load(paths))
    hosts = load(place).select(None)
    assert len({id(one.config) for one in desired.of_hosts(hosts)}) == len(read) == 3  # nowhere, hotel, own
    (place / "d.yaml.j2").write_text("# {{ site }}\nigmp-proxy:\n  - interfaces: [{interface: wan, upstream: yes, robust: 3}, lan0]\n")
    with pytest.raises(InputError) as caught:
        desired.of_hosts(hosts)
    (complaint,) = caught.value.diagnostics
    assert all(host.name in complaint.message for host in hosts)
    assert (complaint.file, complaint.line, complaint.column) == (str(place / "d.yaml.j2"), 3, 50)
