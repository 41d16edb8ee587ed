"""What Hearth is measured against: the shortest honest echo bot on matrix-nio.

    python -m tests.bench.bare_bot URL USER PASSWORD STORE

It does what such bots do: `sync_forever`, a callback that awaits the receipt, the typing notice and the
reply, one after the other. No journal, no retries, no policy, no model: it answers from memory and
loses what arrives while it is down. Encryption as the library gives it.
"""

from __future__ import annotations

import asyncio
import sys

import nio


async def main(url: str, user: str, password: str, store: str) -> None:
    config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False)
    client = nio.AsyncClient(url, user, store_path=store, config=config)
    await client.login(password, device_name="bare")

    async def on_invite(room: nio.MatrixRoom, _event: nio.InviteMemberEvent) -> None:
        await client.join(room.room_id)

    async def on_message(room: nio.MatrixRoom, event: nio.RoomMessageText) -> None:
        content = event.source["content"]
        if user not in (content.get("m.mentions") or {}).get("user_ids", ()):
            return
        await client.update_receipt_marker(room.room_id, event.event_id)
        await client.room_typing(room.room_id, typing_state=True)
        reply = {
            "msgtype": "m.text",
            "body": f"Echo: {room.user_name(event.sender)}: {event.body}",
            "m.mentions": {"user_ids": [event.sender]},
            "m.relates_to": {"m.in_reply_to": {"event_id": event.event_id}},
        }
        await client.room_send(room.room_id, "m.room.message", reply, ignore_unverified_devices=True)

    client.add_event_callback(on_invite, nio.InviteMemberEvent)
    client.add_event_callback(on_message, nio.RoomMessageText)
    await client.sync(full_state=True)
    # As many events at once as Hearth asks for: the default of ten would lose some in a burst.
    await client.sync_forever(timeout=30_000, sync_filter={"room": {"timeline": {"limit": 50}}})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
