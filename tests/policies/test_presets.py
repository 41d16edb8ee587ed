"""Presets: every page loads, says why for each value, and lets out nothing that is sensitive."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from policies import presets
from policies.classes import SENSITIVE
from policies.document import PolicyDocument, parsed
from policies.room import Answers, Mode, Preview, RoomPolicy, Voice

LONGEST_LINE = 100
KEY = re.compile(r"^([a-z_]+) = ", re.MULTILINE)


def policy(name: str) -> RoomPolicy:
    return RoomPolicy.model_validate(presets.values(name), strict=False)


def test_there_is_one_page_for_each_name_and_no_other() -> None:
    """What can be chosen is what is in the package."""
    pages = {page.name for page in resources.files(presets).iterdir() if page.name.endswith(".toml")}
    assert pages == {f"{name}.toml" for name in presets.NAMES}


@pytest.mark.parametrize("name", ["", "Family", "../room", "family.toml", "nobody"])
def test_an_unknown_name_is_refused(name: str) -> None:
    """A name that is not listed opens no file."""
    with pytest.raises(KeyError):
        presets.text(name)
    with pytest.raises(KeyError):
        presets.values(name)


def test_values_are_the_callers_own() -> None:
    """Whoever changes what was read does not change the preset."""
    presets.values("family")["mode"] = "admin"
    assert presets.values("family")["mode"] == "consent"


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_is_a_policy(name: str) -> None:
    """Only fields that there are, with values that they may have; as a document of a room as well."""
    assert set(presets.values(name)) <= set(RoomPolicy.model_fields)
    document = parsed(json.dumps({"v": 1, **presets.values(name)}))
    assert isinstance(document, PolicyDocument)
    assert document.policy() == policy(name)


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_decides_what_leaves_and_who_decides(name: str) -> None:
    """What a parent wants to know stands on the page, and does not follow from what is not there."""
    fields = list(RoomPolicy.model_fields)
    from_here_on = set(fields[fields.index("ask_peers") :]) - {"peer_per_person_day"}
    assert from_here_on <= set(presets.values(name))


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_page_says_for_whom_it_is_and_why_for_each_value(name: str) -> None:
    """The first lines are a paragraph; above each value stands a comment of its own."""
    lines = presets.text(name).splitlines()
    assert lines[0].startswith("# For ")
    assert len([line for line in lines[:10] if line.startswith("# ")]) >= 4
    set_here = KEY.findall(presets.text(name))
    assert sorted(set_here) == sorted(presets.values(name))
    for at, line in enumerate(lines):
        if KEY.match(line):
            assert lines[at - 1].startswith("# "), line
            assert not lines[at - 1].startswith("# --"), line


@pytest.mark.parametrize("name", presets.NAMES)
def test_no_line_of_a_page_is_too_long_to_read(name: str) -> None:
    """At most 100 characters, as a terminal shows it."""
    assert [line for line in presets.text(name).splitlines() if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("name", presets.NAMES)
def test_nothing_sensitive_leaves_or_comes_in(name: str) -> None:
    """Health, children and location are never named; nor a summary, a voice, a hop or an unseen question."""
    here = policy(name)
    assert not (here.classes_out | here.classes_in) & SENSITIVE
    assert not here.with_summary
    assert not here.voice_may_leave
    assert here.max_hops == 0
    assert here.preview is Preview.ALWAYS
    assert here.answers is Answers.MENTION


@pytest.mark.parametrize("name", ["family", "city", "school"])
def test_no_peer_is_asked_before_the_room_says_so(name: str) -> None:
    """Copying the preset lets nothing out; an association names all that have a grant."""
    assert policy(name).ask_peers == frozenset()


def test_a_family_decides_together_and_remembers_most() -> None:
    """Consent, no quiet night, every voice message, the longest memory."""
    family = policy("family")
    assert (family.mode, family.voice, family.quiet) == (Mode.CONSENT, Voice.ALL, frozenset())
    assert family.remote_model is False
    for other in ("association", "city", "school"):
        assert (family.memory_messages or 0) > (policy(other).memory_messages or 0)
        assert (family.memory_hours or 0) > (policy(other).memory_hours or 0)


def test_an_association_and_a_city_vote() -> None:
    """Majority; the city with the tighter quotas for one person, and later votes for newcomers."""
    association, city = policy("association"), policy("city")
    assert association.mode is city.mode is Mode.MAJORITY
    for field in ("per_person_day", "answer_words", "memory_hours", "peer_per_day", "peer_per_person_day"):
        assert getattr(city, field) < getattr(association, field)
    assert city.min_member_hours > association.min_member_hours


def test_a_school_is_quiet_at_night_and_closed() -> None:
    """No voices, no other machine, no class of question in or out, and no answer at midnight UTC."""
    school = policy("school")
    assert (school.mode, school.voice, school.remote_model) == (Mode.ADMIN, Voice.OFF, False)
    assert school.classes_out == school.classes_in == frozenset()
    midnight, hour = 0, 3_600_000
    assert school.quiet_until(midnight) == "07:00"
    assert school.quiet_until(midnight + 12 * hour) is None
