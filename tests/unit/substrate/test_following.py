from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lambent.members.transport import MemberGone
from lambent.model.errors import PlatformError
from lambent.substrate.following import FedDocuments, Feed, FollowedDocuments
from lambent.substrate.memory.documents import MemoryDocuments
from lambent.substrate.ports import Change, Write


class Followers:
    """Followers that can be away."""

    def __init__(self, *names: str) -> None:
        self.documents: dict[str, FollowedDocuments | None] = {name: FollowedDocuments() for name in names}

    async def send(self, name: str, body: bytes) -> bytes:
        follower = self.documents[name]
        if follower is None:
            raise MemberGone("away", retry_safe=True)
        return await follower.apply(body)


def put(key: str, value: bytes | None) -> list[Write]:
    return [Write(collection="functions", key=key, value=value)]


async def value_of(follower: FollowedDocuments | None, key: str) -> bytes | None:
    assert follower is not None
    document = await follower.get("functions", key)
    return document.value if document else None


async def fed(*names: str) -> tuple[FedDocuments, Feed, Followers]:
    inner, followers = MemoryDocuments(), Followers(*names)
    feed = Feed(inner, names, followers.send)
    return FedDocuments(inner, feed), feed, followers


async def test_a_commit_is_seen_by_every_follower_when_it_returns() -> None:
    documents, feed, followers = await fed("1", "2")
    feed.start()
    for number in range(20):
        await documents.commit(put("a", b"%d" % number))
        assert [await value_of(follower, "a") for follower in followers.documents.values()] == [b"%d" % number] * 2
    await documents.commit(put("a", None))
    assert [await value_of(follower, "a") for follower in followers.documents.values()] == [None] * 2
    await feed.stop()


async def test_who_watches_a_copy_has_taken_a_change_when_the_commit_returns() -> None:
    documents, feed, followers = await fed("1")
    feed.start()
    follower = followers.documents["1"]
    assert follower is not None
    await feed.settle()
    seen: list[Change] = []

    async def watch(changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            seen.append(change)  # noqa: PERF401 - what it has when the commit returns is the point

    task = asyncio.create_task(watch(follower.watch("functions")))
    await asyncio.sleep(0)
    await documents.commit(put("a", b"1"))
    assert [change.key for change in seen] == ["a"]
    task.cancel()
    await feed.stop()


async def test_a_follower_that_is_away_holds_nobody_up_and_gets_a_whole_copy_when_it_is_back() -> None:
    documents, feed, followers = await fed("1", "2")
    feed.start()
    await documents.commit([*put("kept", b"1"), *put("gone", b"1")])
    before, followers.documents["2"] = followers.documents["2"], None
    await documents.commit(put("gone", None))
    await documents.commit(put("new", b"1"))
    assert await value_of(followers.documents["1"], "new") == b"1"
    # The same process, after a while without a connection: differences alone become changes.
    assert before is not None
    watch = before.watch("functions")
    followers.documents["2"] = before
    await documents.commit(put("later", b"1"))
    await wait_value(before, "later", b"1")
    changes = [await anext(watch) for _ in range(3)]
    assert {(change.key, change.document is None) for change in changes} == {
        ("gone", True),
        ("new", False),
        ("later", False),
    }
    await feed.stop()


async def test_a_replaced_follower_is_not_served_differences() -> None:
    documents, feed, followers = await fed("1")
    feed.start()
    await documents.commit(put("a", b"1"))
    followers.documents["1"] = replacement = FollowedDocuments()
    await documents.commit(put("b", b"1"))
    await wait_value(replacement, "a", b"1")
    assert await value_of(followers.documents["1"], "b") == b"1"
    await feed.stop()


async def test_a_new_writer_replaces_the_copy_and_the_old_one_is_not_heard_any_more() -> None:
    follower, bodies = FollowedDocuments(), list[bytes]()

    async def send(_name: str, body: bytes) -> bytes:
        bodies.append(body)
        return await follower.apply(body)

    for value in (b"old", b"new"):
        inner = MemoryDocuments()
        feed = Feed(inner, ["1"], send)
        await inner.commit(put("a", value))
        feed.start()
        await feed.settle()
        await asyncio.wait_for(wait_value(follower, "a", value), 10)
        await feed.stop()
    await follower.apply(bodies[0])
    assert await value_of(follower, "a") == b"new"


async def wait_value(follower: FollowedDocuments, key: str, value: bytes) -> None:
    changes = follower.watch("functions")
    if await value_of(follower, key) == value:
        return
    async for change in changes:
        if change.key == key and change.document is not None and change.document.value == value:
            return


async def test_a_caller_that_is_cancelled_leaves_no_commit_that_followers_do_not_see() -> None:
    documents, feed, followers = await fed("1")
    feed.start()
    await feed.settle()
    task = asyncio.create_task(documents.commit(put("a", b"1")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await documents.commit(put("b", b"1"))
    assert await value_of(followers.documents["1"], "a") == b"1"
    await feed.stop()


async def test_a_follower_writes_nothing() -> None:
    with pytest.raises(PlatformError):
        await FollowedDocuments().commit(put("a", b"1"))
