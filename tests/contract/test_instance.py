"""What Hearth relies on of a server that speaks Mastodon's API, held against our doubles and a real one.

    pytest tests/contract --mastodon-url http://127.0.0.1:3000 --mastodon-tokens FILE

The doubles are always asked: Mastodon, and servers that differ from it. Documented behaviour is what
`api_versions.mastodon` in the instance document promises (4.3 and later); where a server says nothing of
the kind, what is checked is the part that our client needs.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from bridge.mastodon.client import MANY
from bridge.mastodon.instance import parse_instance
from bridge.mastodon.render import neutralise
from bridge.mastodon.text import plain
from bridge.mastodon.wire import told
from tests.contract.instances import GONE, OK, POLICY, Person, beep, connected, happens, listen, until
from tests.contract.servers import kinds, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.instances import Answer, Json, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = (401, 403, *GONE)
TOO_LONG = (400, 422)
KNOCKS = 3
"""A stream that is just being opened may miss something: it is a doorbell, rung again."""
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
"""Five code points that people see as one character."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", kinds(metafunc.config), indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """One server for all tests, as a real one is."""
    folder = tmp_path_factory.mktemp("instance")
    async with (
        serving(request.param, request.config, folder) as (url, tokens),
        connected(url, tokens) as server,
    ):
        yield server


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _tidy(server: Server) -> AsyncIterator[None]:
    yield
    await server.tidy()


def ids_of(answer: Answer) -> list[str]:
    return [one["id"] for one in answer.body]


# -- who and what ----------------------------------------------------------------------------------


async def test_the_server_says_what_it_is(server: Server) -> None:
    """Domain, version, the limit of a post and what a link counts are in the document, as their types.

    https://docs.joinmastodon.org/methods/instance/#v2, /entities/Instance/
    """
    found = server.instance
    assert found.version == server.document["version"] != ""
    assert found.domain != ""
    assert "/" not in found.domain
    assert found.max_characters >= 100
    if server.documented:
        limits = server.document["configuration"]["statuses"]
        assert found.domain == server.document["domain"].casefold()
        assert found.max_characters == limits["max_characters"]
        assert found.characters_per_url == limits["characters_reserved_per_url"]
        assert found.streaming_url is not None


async def test_the_older_document_says_the_same(server: Server) -> None:
    """The first version of the document, our fallback, has the same domain, version and limit.

    https://docs.joinmastodon.org/methods/instance/#v1, /entities/V1_Instance/
    """
    older = parse_instance(server.instance.url, await server.anyone.get("/v1/instance"))
    assert older.domain == server.instance.domain
    assert older.version == server.instance.version
    assert older.max_characters == server.instance.max_characters


async def test_an_account_knows_itself(server: Server) -> None:
    """Ids and names are text, the bot mark is true or false; others see the same account by its id.

    https://docs.joinmastodon.org/methods/accounts/#verify_credentials, #get
    """
    mine = await server.hearth.get("/v1/accounts/verify_credentials")
    seen = await server.alice.get(f"/v1/accounts/{mine['id']}")
    for account in (mine, seen):
        assert account["id"] == server.hearth.id != server.alice.id
        assert account["acct"].partition("@")[0] == account["username"] != ""
        assert account["acct"].partition("@")[2] in ("", server.instance.domain)
        assert isinstance(account["bot"], bool)
        assert isinstance(account["note"], str)


async def test_a_token_that_nobody_knows(server: Server) -> None:
    """A bad token is 401 (Takahe: 400), none is refused; neither looks like a server that is down.

    https://docs.joinmastodon.org/methods/accounts/#verify_credentials
    """
    stranger = Person(server.anyone.session, server.anyone.url, "made-up")
    answer = await stranger.ask("GET", "/v1/accounts/verify_credentials")
    assert answer.status == 401 if server.documented else answer.status in (400, 401)
    nobody = await server.anyone.ask("GET", "/v1/accounts/verify_credentials")
    assert nobody.status in REFUSED


async def test_the_profile_can_be_set(server: Server) -> None:
    """Profile text and bot mark are set by their owner and seen by others.

    https://docs.joinmastodon.org/methods/accounts/#update_credentials
    """
    before = await server.hearth.get("/v1/accounts/verify_credentials")
    note = f"I answer when I am mentioned {uuid.uuid4().hex}"
    try:
        assert (await server.hearth.present(note, bot=not before["bot"])).status == OK
        seen = await server.alice.get(f"/v1/accounts/{server.hearth.id}")
        assert note in seen["note"]
        if seen["bot"] is before["bot"]:
            server.lacks("the bot mark is not kept")
    finally:
        await server.hearth.present(before.get("source", {}).get("note", ""), bot=before["bot"])


async def test_the_filter_of_notifications(server: Server) -> None:
    """What a server does with private mentions of strangers can be read, or it knows no such filter (404).

    https://docs.joinmastodon.org/methods/notifications/#get-policy, /entities/NotificationPolicy/
    """
    answer = await server.hearth.ask("GET", POLICY)
    if answer.status in GONE:
        assert not server.documented
    else:
        assert answer.body["for_private_mentions"] == answer.body["for_not_following"] == "accept"


async def test_rate_limits_are_told(server: Server) -> None:
    """Where the headers are there, they say how many requests are left and when all are back.

    https://docs.joinmastodon.org/api/rate-limits/
    """
    found = [await server.hearth.ask("GET", "/v1/accounts/verify_credentials") for _ in range(2)]
    first, second = (told(answer.headers) for answer in found)
    if "X-RateLimit-Reset" not in found[0].headers:
        assert not server.documented
        assert first.remaining is None
        return
    assert first.remaining is not None
    assert second.remaining is not None
    assert first.reset is not None
    assert 0 < first.reset <= 900
    assert second.remaining == first.remaining - 1 or second.remaining > first.remaining


# -- mentions --------------------------------------------------------------------------------------


async def test_a_private_mention_arrives(server: Server) -> None:
    """Who is mentioned in a direct post gets a notification with author, text, visibility and mentions.

    https://docs.joinmastodon.org/methods/notifications/#get, /entities/Status/#Mention
    """
    text = "salt & <b>pepper</b>\n\nand @ <i>noon</i> #tea"
    posted = await server.alice.post(server.hearth.called(text), visibility="direct")
    notification = await server.hearth.hears(posted["id"])
    status = notification["status"]
    assert notification["type"] == "mention"
    assert isinstance(notification["id"], str)
    assert notification["account"]["id"] == status["account"]["id"] == server.alice.id
    assert (status["visibility"], status["in_reply_to_id"], status["reblog"]) == ("direct", None, None)
    assert [one["id"] for one in status["mentions"]] == [server.hearth.id]
    assert status["mentions"][0]["acct"] == server.hearth.acct
    assert plain(status["content"], status["mentions"], me_id=server.hearth.id, quoted=False) == text


async def test_notifications_are_walked_forward(server: Server) -> None:
    """`min_id` gives the page right after the cursor, not the newest; walked on, nothing is left out.

    https://docs.joinmastodon.org/api/guidelines/#pagination, /methods/notifications/#get
    """
    alice, text = server.alice, server.hearth.called("next")
    posted = [await alice.post(text, visibility="direct") for _ in range(5)]
    heard = [await server.hearth.hears(one["id"]) for one in posted]
    mine = {one["id"] for one in heard}
    order = [one["id"] for one in reversed(await server.hearth.mentions()) if one["id"] in mine]
    cursor = order[0]
    walked: list[str] = []
    for size in (2, 2, 0):
        page = await server.hearth.mentions(min_id=cursor, limit="2")
        assert len(page) == size
        walked += [one["id"] for one in reversed(page)]
        cursor = walked[-1]
    assert walked == order[1:]
    back = await server.hearth.mentions(max_id=order[-1], limit="2")
    assert [one["id"] for one in back] == [order[-2], order[-3]]


async def test_only_mentions_are_asked_for(server: Server) -> None:
    """`types[]` leaves out all other kinds of notification.

    https://docs.joinmastodon.org/methods/notifications/#get
    """
    posted = await server.alice.post(server.hearth.called("hello"), visibility="direct")
    heard = await server.hearth.hears(posted["id"])
    answer = await server.hearth.ask("GET", "/v1/notifications", query=[("types[]", "favourite")])
    assert heard["id"] not in ids_of(answer)
    assert {one["type"] for one in await server.hearth.mentions()} == {"mention"}


async def test_the_doorbell_rings(server: Server) -> None:
    """A mention wakes up who listens to `user:notification`; where nobody can listen, a poll finds it.

    https://docs.joinmastodon.org/methods/streaming/#notification
    """
    opened, rung = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(listen(server, opened, rung))
    try:
        if not await happens(listening, opened):
            assert not server.documented
            posted = await server.alice.post(server.hearth.called("knock"), visibility="direct")
            await server.hearth.hears(posted["id"])
            return
        for _ in range(KNOCKS):
            await server.alice.post(server.hearth.called("knock"), visibility="direct")
            if await happens(listening, rung):
                return
        pytest.fail("nothing was heard")
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


# -- threads ---------------------------------------------------------------------------------------


async def test_a_thread_is_told_in_order(server: Server) -> None:
    """The context of a post has what it replies to, oldest first, and what replies to it.

    https://docs.joinmastodon.org/methods/statuses/#context
    """
    asked = await server.alice.post(server.hearth.called("why?"))
    answer = await server.hearth.post(server.alice.called("because"), in_reply_to_id=asked["id"])
    again = await server.alice.post(server.hearth.called("really?"), in_reply_to_id=answer["id"])
    assert answer["in_reply_to_id"] == asked["id"]
    assert answer["in_reply_to_account_id"] == server.alice.id
    assert await _around(server.hearth, answer) == ([asked["id"]], [again["id"]])
    assert await _around(server.hearth, again) == ([asked["id"], answer["id"]], [])
    assert await _around(server.hearth, asked) == ([], [answer["id"], again["id"]])


async def _around(person: Person, status: Json) -> tuple[list[str], list[str]]:
    context = await person.get(f"/v1/statuses/{status['id']}/context")
    above, below = ([one["id"] for one in context[part]] for part in ("ancestors", "descendants"))
    return above, below


async def test_an_answer_is_posted_once(server: Server) -> None:
    """The same key is the same post; where keys are not kept, each post is found below the question.

    https://docs.joinmastodon.org/methods/statuses/#create (Idempotency-Key)
    """
    asked = await server.alice.post(server.hearth.called("once?"))
    text, key = server.alice.called("once"), str(uuid.uuid4())
    answers = [await server.hearth.post(text, key=key, in_reply_to_id=asked["id"]) for _ in range(2)]
    other = await server.hearth.post(text, key=str(uuid.uuid4()), in_reply_to_id=asked["id"])
    ids = {one["id"] for one in answers}
    assert other["id"] not in ids
    if server.documented:
        assert len(ids) == 1
    assert set((await _around(server.hearth, asked))[1]) == ids | {other["id"]}


async def test_own_posts_are_found(server: Server) -> None:
    """An answer reaches who asked; who gave it finds it among the newest posts, with what it replies to.

    https://docs.joinmastodon.org/methods/accounts/#statuses
    """
    asked = await server.alice.post(server.hearth.called("where?"), visibility="direct")
    answer = await server.hearth.post(
        server.alice.called("here"), in_reply_to_id=asked["id"], visibility="direct"
    )
    assert (await server.alice.hears(answer["id"]))["account"]["id"] == server.hearth.id
    newest = await server.hearth.get(
        f"/v1/accounts/{server.hearth.id}/statuses", limit="40", exclude_reblogs="true"
    )
    found = {one["id"]: one["in_reply_to_id"] for one in newest}
    assert found[answer["id"]] == asked["id"]


async def test_strangers_read_nothing_private(server: Server) -> None:
    """A direct post is there for those whom it mentions, and for nobody else, also not in its thread.

    https://docs.joinmastodon.org/entities/Status/#visibility
    """
    asked = await server.alice.post(server.hearth.called("in public"))
    answer = await server.hearth.post(
        server.alice.called("in private"), in_reply_to_id=asked["id"], visibility="direct"
    )
    alone = await server.alice.post("a note to myself", visibility="direct")
    path = f"/v1/statuses/{answer['id']}"
    assert (await server.alice.get(path))["visibility"] == "direct"
    assert (await server.anyone.ask("GET", path)).status in REFUSED
    assert (await server.hearth.ask("GET", f"/v1/statuses/{alone['id']}")).status in REFUSED
    context = await server.anyone.ask("GET", f"/v1/statuses/{asked['id']}/context")
    assert context.status in REFUSED or context.body["descendants"] == []


async def test_a_broken_handle_calls_nobody(server: Server) -> None:
    """A handle that was broken, as in what a model writes, is no mention: the post does not reach them.

    https://docs.joinmastodon.org/user/posting/#text, /entities/Status/#Mention
    """
    text = neutralise(f"@{server.hearth.acct} and @{server.hearth.acct}@{server.instance.domain}")
    posted = await server.alice.post(text, visibility="direct")
    assert posted["mentions"] == []
    assert (await server.hearth.ask("GET", f"/v1/statuses/{posted['id']}")).status in REFUSED


# -- one status ------------------------------------------------------------------------------------


async def test_an_edit_is_seen(server: Server) -> None:
    """An edited post keeps its id and has a new text and `edited_at`, which is null before.

    https://docs.joinmastodon.org/methods/statuses/#edit
    """
    posted = await server.alice.post(server.hearth.called("the frist"))
    path = f"/v1/statuses/{posted['id']}"
    assert (await server.hearth.get(path)).get("edited_at") is None
    answer = await server.alice.ask("PUT", path, {"status": server.hearth.called("the first")})
    if answer.status in (*GONE, 405):
        server.lacks("posts cannot be edited")
    assert answer.status == OK
    seen = await server.hearth.get(path)
    assert (seen["id"], isinstance(seen["edited_at"], str)) == (posted["id"], True)
    assert "the first" in seen["content"]
    assert [one["id"] for one in seen["mentions"]] == [server.hearth.id]


async def test_what_is_deleted_is_gone(server: Server) -> None:
    """A deleted post is 404, and so is a reply to it; or the reply is an orphan and says so (Takahe).

    https://docs.joinmastodon.org/methods/statuses/#delete, #create
    """
    posted = await server.alice.post(server.hearth.called("never mind"))
    path = f"/v1/statuses/{posted['id']}"
    assert (await server.hearth.get(path))["id"] == posted["id"]
    await server.alice.withdraw(posted["id"])
    assert (await server.hearth.ask("GET", path)).status in GONE
    answer = await server.hearth.send(server.alice.called("too late"), in_reply_to_id=posted["id"])
    if server.documented:
        assert answer.status == 404
    assert answer.status in GONE or answer.body["in_reply_to_id"] is None


async def test_many_are_read_at_once(server: Server) -> None:
    """Twenty in one request give those that are there for the asker; elsewhere one by one says the same.

    https://docs.joinmastodon.org/methods/statuses/#index (4.3)
    """
    wanted = [await server.alice.post(server.hearth.called(text), visibility="direct") for text in "abc"]
    hidden = await server.alice.post("for nobody", visibility="direct")
    ids = [one["id"] for one in (*wanted, hidden)]
    await server.alice.withdraw(ids[1])
    unknown = map(str, range(1, MANY - len(ids) + 1))
    query = [("id[]", one) for one in (*ids, *unknown)]
    answer = await server.hearth.ask("GET", "/v1/statuses", query=query)
    if server.instance.reads_many:
        assert answer.status == OK
        assert sorted(ids_of(answer)) == sorted([ids[0], ids[2]])
    else:
        statuses = [(await server.hearth.ask("GET", f"/v1/statuses/{one}")).status for one in ids]
        assert [status == OK for status in statuses] == [True, False, True, False]


async def test_warning_and_language_are_kept(server: Server) -> None:
    """The reader of a post sees its content warning, and the language that was set (Takahe: none).

    https://docs.joinmastodon.org/methods/statuses/#create, /entities/Status/#language
    """
    posted = await server.alice.post(
        server.hearth.called("das Ende"), spoiler_text="Film", sensitive=True, language="de"
    )
    seen = await server.hearth.get(f"/v1/statuses/{posted['id']}")
    assert (seen["spoiler_text"], seen["sensitive"]) == ("Film", True)
    assert "Film" not in seen["content"]
    assert seen["language"] == "de" or (seen["language"] is None and not server.documented)


async def test_a_post_is_as_long_as_is_said(server: Server) -> None:
    """Plain text of exactly the limit is posted, one character more is refused and leaves nothing.

    https://docs.joinmastodon.org/user/posting/#text, /methods/statuses/#create
    """
    text = ("word " * server.instance.max_characters)[: server.instance.max_characters - 1] + "."
    assert (await server.alice.send(text)).status == OK
    assert (await server.alice.send(f"{text}.")).status in TOO_LONG
    assert len(server.alice.posted) == 1


async def test_how_length_is_counted(server: Server) -> None:
    """A link counts what the document says, a mention without its domain, an emoji as one, the warning too.

    https://docs.joinmastodon.org/user/posting/#text; where nothing is documented, in full.
    """
    warning, whole = "warned", f"https://social.example/{'a' * 60} @nobody@social.example {FAMILY} "
    if server.documented:
        counted = server.instance.characters_per_url + len("@nobody") + 1 + 3 + len(warning)
    else:
        counted = len(whole) + len(warning)
    text = whole + "x" * (server.instance.max_characters - counted)
    assert (await server.alice.send(text, spoiler_text=warning)).status == OK
    if server.documented:
        assert (await server.alice.send(f"{text}x", spoiler_text=warning)).status in TOO_LONG


async def test_a_poll_is_shown(server: Server) -> None:
    """The options of a poll are part of the post, in their order.

    https://docs.joinmastodon.org/methods/statuses/#create, /entities/Poll/
    """
    poll = {"options": ["tea", "coffee"], "expires_in": 3600}
    answer = await server.alice.send(server.hearth.called("which?"), poll=poll)
    if answer.status != OK:
        server.lacks("no polls")
    seen = await server.hearth.get(f"/v1/statuses/{answer.body['id']}")
    assert [option["title"] for option in seen["poll"]["options"]] == ["tea", "coffee"]


async def test_sound_is_attached(server: Server) -> None:
    """An upload is 202 until it is processed (206, then 200); in the post it has type, address and words.

    https://docs.joinmastodon.org/methods/media/#v2, #get, /entities/MediaAttachment/
    """
    form = aiohttp.FormData()
    form.add_field("file", beep(), filename="beep.wav", content_type="audio/wav")
    form.add_field("description", "A beep")
    upload = await server.alice.ask("POST", "/v2/media", form=form)
    if upload.status not in (OK, 202):
        server.lacks("takes no sound")
    if upload.status == 202:
        assert upload.body["url"] is None

    async def processed() -> Json | None:
        answer = await server.alice.ask("GET", f"/v1/media/{upload.body['id']}")
        assert answer.status in (OK, 206)
        return answer.body if answer.status == OK else None

    assert isinstance((await until(processed))["url"], str)
    posted = await server.alice.post(server.hearth.called("listen"), media_ids=[upload.body["id"]])
    seen = await server.hearth.get(f"/v1/statuses/{posted['id']}")
    (media,) = seen["media_attachments"]
    assert (media["type"], media["description"]) == ("audio", "A beep")
    async with server.hearth.session.get(media["url"]) as response:
        assert (response.status, response.content_type.partition("/")[0]) == (OK, "audio")
