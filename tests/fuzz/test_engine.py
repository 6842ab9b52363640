"""Whole afternoons of an engine, and its decoders, from octets that Hypothesis chooses."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.afternoon import decode, seeds, spend
from tests.kit.conformance import covers


@covers("ROB-02", "DB-04")
@given(st.binary(min_size=40, max_size=900))
@settings(max_examples=150, deadline=None)
def test_nothing_that_can_happen_breaks_it(data):
    spend(data)


@covers("ROB-02")
def test_long_afternoons_and_everything_happened_in_them():
    """Hypothesis prefers short ones; these are long, and the same each time."""
    happened = Counter()
    for first in range(60):
        happened += spend(random.Random(first).randbytes(5_000), most_events=400).happened
    effects = {"SetVif", "ClearVif", "SetRoute", "ClearRoute", "SendPacket"}
    notes = {"membership/joined", "membership/left", "querier/lost", "querier/taken", "upstream/version", "kernel/refused", "limit/groups", "limit/sources"}
    assert happened.keys() >= effects | notes
    assert min(happened[one] for one in effects) > 100


@covers("ROB-02")
@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_decoders_take_any_octets(data):
    decode(data)


@covers("ROB-02")
def test_decoders_take_every_bent_message():
    chance = random.Random(1)
    messages = seeds()
    assert len(messages) > 30
    for message in messages:
        for _ in range(200):
            bent = bytearray(message)
            for _ in range(chance.randrange(1, 4)):
                bent[chance.randrange(len(bent))] = chance.randrange(256)
            decode(bytes(bent[: chance.randrange(len(bent) + 1)]) if chance.random() < 0.2 else bytes(bent))
            decode(bytes(bent))
