"""The budget of an account: never over the limit, and shared fairly when it runs out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.limits import FEW, LOW, POSTS, POSTS_MS, REQUESTS, REQUESTS_MS, Limits

NOW = 1_800_000_000_000


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 40)), min_size=20, max_size=60))
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[int, int]]) -> None:
    """Whatever the rhythm of the requests, every window of the length holds at most the limit."""
    limits, now, sent = Limits(requests=30, requests_ms=10_000), NOW, list[int]()
    for pause, burst in steps:
        now += pause
        for _ in range(burst):
            if limits.before_request(now) == 0:
                limits.requested(now)
                sent.append(now)
    for start in sent:
        assert sum(start <= at < start + 10_000 for at in sent) <= 30


@given(st.lists(st.integers(0, 5_000), min_size=40, max_size=80))
def test_after_the_wait_that_was_named_one_may_go(pauses: list[int]) -> None:
    """A wait that was told is enough, and never longer than the window."""
    limits, now = Limits(requests=20, requests_ms=30_000), NOW
    for pause in pauses:
        now += pause
        wait = limits.before_request(now)
        assert 0 <= wait <= 30
        now += round(wait * 1000)
        assert limits.before_request(now) == 0
        limits.requested(now)


def test_a_burst_of_requests_ends_at_the_limit() -> None:
    """Three hundred requests go at once, the next one waits until the first is five minutes old."""
    limits = Limits()
    for _ in range(REQUESTS):
        assert limits.before_request(NOW) == 0
        limits.requested(NOW)
    assert limits.before_request(NOW + 1_000) == (REQUESTS_MS - 1_000) / 1000
    assert limits.requests_left(NOW + 1_000) == 0
    assert limits.before_request(NOW + REQUESTS_MS) == 0


def test_the_server_is_believed_when_it_says_less() -> None:
    """Others may use the same address: what the headers say is left is what is left, until the reset."""
    limits = Limits()
    limits.told(2, 60.0, NOW)
    limits.requested(NOW)
    assert limits.before_request(NOW) == 0
    limits.requested(NOW)
    assert limits.before_request(NOW) == 60.0
    assert limits.before_request(NOW + 60_000) == 0


def test_a_server_that_says_more_changes_nothing() -> None:
    """A generous header does not lift our own count."""
    limits = Limits(requests=5)
    for _ in range(5):
        limits.requested(NOW)
    limits.told(299, 300.0, NOW)
    assert limits.before_request(NOW) > 0


def test_a_clock_that_is_set_back_blocks_nothing_for_days() -> None:
    """Two days of difference cost at most one window, whichever way the clock jumps."""
    limits = Limits(requests=3, requests_ms=10_000)
    for _ in range(3):
        limits.requested(NOW)
    limits.told(0, 10.0, NOW)
    before = NOW - 2 * 86_400_000
    assert limits.before_request(before) <= 10
    assert limits.before_request(before + 10_000) == 0
    assert limits.before_request(NOW + 2 * 86_400_000) == 0


def test_nobody_waits_while_there_is_plenty() -> None:
    """One author alone may have three quarters of the window without a pause."""
    limits = Limits()
    for index in range(POSTS - FEW):
        assert limits.before_post("1", NOW + index) == 0
        limits.posted("1", NOW + index)


def test_the_last_quarter_is_shared() -> None:
    """When little is left, who had more than a share waits, and who had less is answered."""
    limits = Limits()
    for index in range(POSTS - FEW):
        limits.posted("greedy", NOW + index)
    assert limits.before_post("greedy", NOW + 1_000) == 0  # nobody else is there
    limits.posted("second", NOW + 1_000)
    assert limits.before_post("greedy", NOW + 2_000) > 0
    assert limits.before_post("second", NOW + 2_000) == 0
    assert limits.before_post("third", NOW + 2_000) == 0


@given(st.lists(st.sampled_from(["a", "a", "a", "a", "b", "c"]), min_size=300, max_size=600))
def test_who_asks_little_is_never_pushed_out(wishes: list[str]) -> None:
    """In a rush of one author the others get their answers as long as theirs are under an equal share."""
    limits, had = Limits(posts=60), dict[str, int]()
    for author in wishes:
        if limits.before_post(author, NOW) == 0:
            limits.posted(author, NOW)
            had[author] = had.get(author, 0) + 1
    assert sum(had.values()) <= 60
    wanted = {author: wishes.count(author) for author in set(wishes)}
    for author, wish in wanted.items():
        # A quarter is held back for all but the greediest: nobody under a fifth of it goes without.
        assert had.get(author, 0) >= min(wish, 15 // len(wanted))


def test_a_wait_for_a_post_is_enough() -> None:
    """Who waits as long as was said may post then, if nobody posted since."""
    now = NOW + 4_000
    for author in "abc":
        limits = Limits(posts=40, posts_ms=100_000)
        for index in range(40):
            limits.posted("ab"[index % 2], NOW + index * 100)
        wait = limits.before_post(author, now)
        assert 0 < wait <= 100
        assert limits.before_post(author, now + round(wait * 1000)) == 0


def test_people_are_told_when_there_is_room_again() -> None:
    """With a tenth left, `low` names the seconds until there is more; before that it says nothing."""
    limits = Limits()
    for index in range(POSTS - LOW - 1):
        limits.posted(str(index), NOW)
    assert limits.low(NOW) is None
    limits.posted("last", NOW + 1_000)
    told = limits.low(NOW + 1_000)
    assert told == (POSTS_MS - 1_000) / 1000
    assert limits.low(NOW + 1_000 + round(told * 1000)) is None


def test_the_answer_to_a_post_speaks_of_posts() -> None:
    """What Mastodon says with a post is about the statuses; requests go on."""
    limits = Limits()
    limits.told(0, 3_600.0, NOW, posting=True)
    assert limits.before_request(NOW) == 0
    assert limits.before_post("1", NOW) == 3_600.0
    assert limits.low(NOW) == 3_600.0
