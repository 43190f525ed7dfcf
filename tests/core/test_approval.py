"""The rule of approvals: for any words in any order, nothing is released with fewer, expired, foreign or the author's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.approval import Rule, Standing, Word, approvers, person, rule_of, say, stand, why_not
from ecluse.core.errors import DeclarationError
from ecluse.core.loop_settings import Approval, Policy
from ecluse.core.settings import resolve

NOW = datetime(2024, 2, 29, tzinfo=UTC)
REPORT, OTHER = "a" * 64, "b" * 64
PEOPLE = ("ana", "bob", "eva", "kim", "bob-key")
ITEMS = ("segments", "costs")
SETTINGS = Approval(
    approvers=("role:risk", "eva", "ana"),
    roles={"risk": ("bob",)},
    people={"bob": ("bob-key",)},
    expires=timedelta(days=3),
    checklist=ITEMS,
)
AUTHORS = frozenset({"ana"})

words = st.lists(
    st.builds(
        Word,
        sequence=st.integers(1, 10_000),
        who=st.sampled_from(PEOPLE),
        yes=st.booleans(),
        report=st.sampled_from((REPORT, OTHER)),
        when=st.sampled_from([NOW - timedelta(days=days) for days in (0, 1, 3, 4, 30)]),
        checks=st.sets(st.sampled_from(ITEMS)).map(lambda items: tuple(sorted(items))),
    ),
    max_size=10,
    unique_by=lambda word: word.sequence,
)
rules = st.builds(Rule, st.just("any"), st.just(True), st.integers(1, 3), st.sampled_from([(), ITEMS]))


def judge(rule: Rule, said: list[Word]) -> Standing:
    return stand(rule, SETTINGS, said, REPORT, AUTHORS, NOW)


def good(word: Word) -> bool:
    """By the words of the policy, apart from the code: an approver, not the author, of this report, not expired."""
    return word.yes and word.report == REPORT and word.who not in ("ana", "kim") and NOW - word.when <= SETTINGS.expires


@given(rules, words.flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))))
def test_the_order_the_words_are_read_in_does_not_matter(rule: Rule, both: tuple[list[Word], list[Word]]) -> None:
    assert judge(rule, both[0]) == judge(rule, both[1])


@given(rules, words.flatmap(lambda said: st.tuples(st.just(said), st.permutations([word.sequence for word in said]))))
def test_the_order_different_people_speak_in_does_not_matter(rule: Rule, both: tuple[list[Word], list[int]]) -> None:
    said, places = both
    once = list({person(SETTINGS, word.who): word for word in said}.values())
    moved = [replace(word, sequence=place) for word, place in zip(once, places, strict=False)]
    before, after = judge(rule, once), judge(rule, moved)
    assert (after.enough, after.missing, after.until) == (before.enough, before.missing, before.until)
    assert set(after.unchecked) == set(before.unchecked)


@given(rules, words)
def test_never_enough_with_fewer_good_words_than_asked(rule: Rule, said: list[Word]) -> None:
    standing = judge(rule, said)
    persons = {"bob" if word.who == "bob-key" else word.who for word in said if good(word)}
    if standing.enough:
        assert len(persons) >= rule.approvals
        assert all(good(word) for word in standing.given)
        assert set(rule.checklist) <= {item for word in said if good(word) for item in word.checks}
    assert len({word.who for word in standing.given}) == len(standing.given) <= len(persons)
    assert len(standing.given) + len(standing.against) + len(standing.void) == len(said)


@given(rules, words)
def test_words_that_do_not_count_change_nothing(rule: Rule, said: list[Word]) -> None:
    idle = [
        Word(20_001, "ana", True, REPORT, NOW, ITEMS),
        Word(20_002, "kim", True, REPORT, NOW, ITEMS),
        Word(20_003, "eva", True, OTHER, NOW, ITEMS),
    ]
    before, after = judge(rule, said), judge(rule, [*said, *idle])
    assert (after.given, after.missing, after.unchecked, after.against) == (
        before.given,
        before.missing,
        before.unchecked,
        before.against,
    )


@given(words)
def test_a_no_stands_until_the_same_person_says_yes(said: list[Word]) -> None:
    rule = Rule("approval", True, 1)
    no = Word(20_000, "eva", False, REPORT, NOW)
    assert not judge(rule, [*said, no]).enough
    assert "eva says no" in say(judge(rule, [*said, no]))
    bobs = [word for word in said if not (word.who.startswith("bob") and not word.yes)]
    assert judge(rule, [*bobs, no, Word(20_001, "eva", True, REPORT, NOW)]).enough


def test_two_keys_of_one_person_are_one_person() -> None:
    rule = Rule("risk: high", True, 2)
    twice = [Word(1, "bob", True, REPORT, NOW), Word(2, "bob-key", True, REPORT, NOW)]
    assert judge(rule, twice).missing == 1
    assert judge(rule, [*twice, Word(3, "eva", True, REPORT, NOW)]).enough
    assert why_not(replace(SETTINGS, approvers=()), "bob-key", {"bob"}) == "bob-key made it: an author does not approve"


def test_an_approval_ends_and_says_when() -> None:
    rule, word = Rule("approval", True, 1), Word(1, "eva", True, REPORT, NOW - timedelta(days=3))
    standing = judge(rule, [word])
    assert (standing.enough, standing.until) == (True, NOW)
    late = stand(rule, SETTINGS, [word], REPORT, AUTHORS, NOW + timedelta(microseconds=1))
    assert (late.enough, late.missing) == (False, 1)
    assert late.void[0].why == "it expired 2024-02-29T00:00:00Z"


def test_an_author_approves_only_where_that_is_declared() -> None:
    word = Word(1, "ana", True, REPORT, NOW)
    allowed = replace(SETTINGS, author_may_approve=True)
    assert stand(Rule("approval", True, 1), allowed, [word], REPORT, AUTHORS, NOW).enough
    assert not judge(Rule("approval", True, 1), [word]).enough


@pytest.mark.parametrize(
    ("policy", "asks", "by_itself", "checklist"),
    [
        (Policy(), 0, False, ()),
        (Policy(promotion="automatic"), 0, True, ()),
        (Policy(promotion="approval"), 1, True, ITEMS),
        (Policy(promotion="risk", tier="low"), 0, True, ()),
        (Policy(promotion="risk", tier="medium"), 1, True, ()),
        (Policy(promotion="risk", tier="high"), 2, True, ITEMS),
    ],
)
def test_policies_as_rules(policy: Policy, asks: int, by_itself: bool, checklist: tuple[str, ...]) -> None:
    rule = rule_of(policy, SETTINGS)
    assert (rule.approvals, rule.by_itself, rule.checklist) == (asks, by_itself, checklist)


def test_names_of_people_and_roles() -> None:
    assert approvers(SETTINGS) == {"ana", "bob", "eva"}
    assert person(SETTINGS, "bob-key") == "bob"
    assert why_not(SETTINGS, "kim", ()) == "kim is no approver"


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"approval": {"approvers": ["role:risk"]}}, "no role"),
        ({"approval": {"count": 0}}, "begins at 1"),
        ({"approval": {"expires": "0d"}}, "must last"),
        ({"policy": {"promotion": "risk", "tier": "high"}}, "checklist"),
        ({"policy": {"promotion": "approval"}, "approval": {"count": 2, "approvers": ["ana"]}}, "of 1 approvers"),
    ],
)
def test_a_rule_nobody_could_satisfy_is_refused(tables: dict[str, object], why: str) -> None:
    for file in (tables, {"prod": tables}, {"models": {"churn": tables}}):
        with pytest.raises(DeclarationError, match=why):
            resolve(file, "dev", {})
