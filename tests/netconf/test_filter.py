from __future__ import annotations

import time

import pytest

from igmpconf.netconf.filter import filtered
from igmpconf.xmltext import parse, serialize

USERS = """<top xmlns="urn:t"><users>
<user kind="a"><name>root</name><type>superuser</type><dept>1</dept><company><id>1</id></company></user>
<user kind="b"><name>fred</name><type>admin</type><dept>2</dept><company><id>2</id></company></user>
<user kind="b"><name>barney</name><type>admin</type><dept>2</dept><company><id>3</id></company></user>
</users><other><x/></other></top>"""


def squeezed(text: bytes) -> str:
    return "".join(line.strip() for line in text.decode().splitlines())


def select(subtree: str, data: str = USERS) -> str:
    found = filtered([parse(data.encode())], parse(f"<filter>{subtree}</filter>".encode()))
    return squeezed(b"".join(serialize(one) for one in found)).replace(' xmlns="urn:t"', "")


def names(subtree: str) -> list[str]:
    return [part.split("<")[0] for part in select(subtree).split("<name>")[1:]]


def test_nc_057_an_empty_filter_selects_nothing():
    assert select("") == ""


def test_nc_053_namespaces():
    assert select('<top xmlns="urn:t"/>') == squeezed(USERS.encode()).replace(' xmlns="urn:t"', "")
    assert select("<top/>") != ""  # without a namespace: any
    assert select('<top xmlns="urn:other"/>') == ""
    assert names('<top xmlns="urn:t"><users><user xmlns=""><name/></user></users></top>') == ["root", "fred", "barney"]


def test_nc_054_attribute_match():
    assert names('<top><users><user kind="b"/></users></top>') == ["fred", "barney"]
    assert names('<top><users><user kind="c"/></users></top>') == []


def test_nc_055_selection_and_containment():
    assert select("<top><users><user><name/></user></users></top>").count("<name>") == 3
    assert "dept" not in select("<top><users><user><name/></user></users></top>")
    assert select("<top><nosuch/></top>") == ""
    assert select("<top><users><user><nosuch/></user></users></top>") == ""


def test_nc_055_content_match_selects_the_whole_entry():
    assert names("<top><users><user><name>fred</name></user></users></top>") == ["fred"]
    assert "<dept>2</dept>" in select("<top><users><user><name>\n fred\t</name></user></users></top>")
    assert select("<top><users><user><name>wilma</name></user></users></top>") == ""


def test_nc_055_several_content_matches_are_anded():
    assert names("<top><users><user><type>admin</type><name>barney</name></user></users></top>") == ["barney"]
    assert names("<top><users><user><type>superuser</type><name>barney</name></user></users></top>") == []


def test_nc_056_content_match_with_selection_siblings():
    found = select("<top><users><user><name>fred</name><type/></user></users></top>")
    assert found == '<top><users><user kind="b"><name>fred</name><type>admin</type></user></users></top>'


def test_nc_056_content_match_with_a_containment_sibling():
    found = select("<top><users><user><name>fred</name><company><id/></company></user></users></top>")
    assert found == '<top><users><user kind="b"><name>fred</name><company><id>2</id></company></user></users></top>'


def test_nc_058_subtrees_are_united_and_entries_merged_once():
    found = select("<top><users><user><name>fred</name><type/></user><user><name>fred</name><dept/></user><user><name>root</name><dept/></user></users></top>")
    assert found == (
        '<top><users><user kind="a"><name>root</name><dept>1</dept></user><user kind="b"><name>fred</name><type>admin</type><dept>2</dept></user></users></top>'
    )
    assert names("<top><users/></top><top><users><user><name>fred</name></user></users></top>") == ["root", "fred", "barney"]


def test_content_match_on_a_leaf_list_keeps_the_value_that_matched():
    data = '<top xmlns="urn:t"><if><name>a</name><oif>x</oif><oif>y</oif></if><if><name>b</name><oif>y</oif></if></top>'
    assert select("<top><if><oif>x</oif><name/></if></top>", data) == "<top><if><name>a</name><oif>x</oif></if></top>"


@pytest.mark.parametrize("entries", [20_000])
@pytest.mark.alone
def test_a_thousand_keys_over_many_entries_are_no_product(entries):
    data = parse(('<top xmlns="urn:t">' + "".join(f"<e><k>{i}</k><v>{i}</v></e>" for i in range(entries)) + "</top>").encode())
    subtree = parse(("<filter><top>" + "".join(f"<e><k>{i}</k></e>" for i in range(0, entries, 2)) + "</top></filter>").encode())
    began = time.perf_counter()
    (found,) = filtered([data], subtree)
    assert len(found) == entries // 2
    assert time.perf_counter() - began < 5  # the product would be 200 million comparisons
