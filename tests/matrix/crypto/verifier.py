"""A person who verifies the bot: a second client (matrix-nio) with an identity and a SAS of its own.

Nothing here is of `bridge.matrix`: signatures are made and checked with `cryptography`, as the spec has it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import nio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.human import DEADLINE, NotSeen
from tests.matrix.crypto.other_side import Events, OtherSide, packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.human import Human


def _public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")


class Verifier:
    """One device of `human`, over against the device of the bot."""

    def __init__(self, human: Human, bot: str) -> None:
        self.human = human
        self.bot = bot
        self.user = human.user_id
        self.device = str(human.client.device_id)
        self.key = str(human.client.olm.account.identity_keys["ed25519"])
        self.master: Ed25519PrivateKey | None = None
        self.side: OtherSide | None = None
        self.inbox: list[tuple[str, dict[str, Any]]] = []
        self._seen = 0
        # matrix-nio knows an older way to verify, and answers what it does not expect.
        human.client.olm.handle_key_verification = lambda _event: None
        human.client.add_to_device_callback(self._to_device, nio.ToDeviceEvent)

    def _to_device(self, event: Any) -> None:
        kind = event.source["type"]
        if kind.startswith("m.key.verification."):
            self.inbox.append((kind, event.source["content"]))

    async def call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request to the homeserver; the JSON of its answer."""
        client = self.human.client
        answer = await client.send(
            method,
            f"/_matrix/client/v3/{path}",
            json.dumps(body),
            {"Authorization": f"Bearer {client.access_token}", "Content-Type": "application/json"},
        )
        told: dict[str, Any] = await answer.json()
        assert answer.status == 200, told
        return told

    async def published(self, user: str) -> dict[str, Any]:
        return await self.call("POST", "keys/query", {"device_keys": {user: []}})

    async def cross_sign(self) -> str:
        """Make an identity for the account, and sign this device with it; the public master key."""
        master, lower, upper = (Ed25519PrivateKey.generate() for _ in range(3))

        def key_object(usage: str, key: Ed25519PrivateKey) -> dict[str, Any]:
            return {
                "user_id": self.user,
                "usage": [usage],
                "keys": {f"ed25519:{_public(key)}": _public(key)},
            }

        def signed(value: dict[str, Any], by: Ed25519PrivateKey) -> dict[str, Any]:
            bare = {name: one for name, one in value.items() if name not in ("signatures", "unsigned")}
            signature = base64.b64encode(by.sign(packed(bare).encode())).decode().rstrip("=")
            return {**bare, "signatures": {self.user: {f"ed25519:{_public(by)}": signature}}}

        await self.call(
            "POST",
            "keys/device_signing/upload",
            {
                "master_key": key_object("master", master),
                "self_signing_key": signed(key_object("self_signing", lower), master),
                "user_signing_key": signed(key_object("user_signing", upper), master),
            },
        )
        known = (await self.published(self.user))["device_keys"][self.user][self.device]
        told = await self.call(
            "POST", "keys/signatures/upload", {self.user: {self.device: signed(known, lower)}}
        )
        assert told["failures"] == {}
        self.master = master
        return _public(master)

    async def expects(self) -> tuple[str, dict[str, str]]:
        """The bot's device, and the keys of it that are published."""
        told = await self.published(self.bot)
        ((device, published),) = told["device_keys"][self.bot].items()
        keys = {f"ed25519:{device}": published["keys"][f"ed25519:{device}"]}
        return device, keys | told["master_keys"][self.bot]["keys"]

    async def ask(self, room: str | None, **other: Any) -> str:
        """Ask the bot to verify, in a room or between devices; the id of the verification."""
        device, expected = await self.expects()
        content: dict[str, Any] = {"from_device": self.device, "methods": ["m.sas.v1", "m.qr_code.show.v1"]}
        if room is None:
            flow = uuid.uuid4().hex
            content |= {"transaction_id": flow, "timestamp": int(time.time() * 1000)} | other
            await self._send_to_device(device, "m.key.verification.request", content)
        else:
            content |= {"msgtype": "m.key.verification.request", "to": self.bot, "body": "verify me"} | other
            flow = await self.human.send(room, content)
        keys = {f"ed25519:{self.device}": self.key}
        if self.master is not None:
            keys[f"ed25519:{_public(self.master)}"] = _public(self.master)
        self.side = OtherSide(self.user, self.device, keys, (self.bot, device), expected, flow, bool(room))
        self.room = room
        return flow

    async def _send_to_device(self, device: str, kind: str, content: dict[str, Any]) -> None:
        body = {"messages": {self.bot: {device: content}}}
        await self.call("PUT", f"sendToDevice/{kind}/{uuid.uuid4()}", body)

    async def send(self, events: Events) -> None:
        assert self.side is not None
        for kind, content in events:
            if self.room is None:
                await self._send_to_device(self.side.them[1], kind, content)
            else:
                await self.human.send(self.room, content, kind=kind, fresh=False)

    async def start(self) -> None:
        assert self.side is not None
        await self.send(self.side.start())

    async def confirm(self) -> None:
        assert self.side is not None
        await self.send(self.side.confirm())

    def _arrived(self) -> Events:
        """What the bot has sent since this was asked last."""
        assert self.side is not None
        if self.room is None:
            new, self.inbox = self.inbox, []
            return [(kind, content) for kind, content in new if content["transaction_id"] == self.side.id]
        raw = self.human._raw[self.room]
        arrived, self._seen = raw[self._seen :], len(raw)
        found: list[dict[str, Any]] = [event.source for event in arrived if event.sender == self.bot]
        return [
            (source["type"], source["content"])
            for source in found
            if source["type"].startswith("m.key.verification.")
            and source["content"]["m.relates_to"]["event_id"] == self.side.id
        ]

    async def until(self, true: Callable[[OtherSide, list[str]], bool], deadline: float = DEADLINE) -> None:
        """Answer what the bot sends until `true` holds of our side and of the types that came."""
        assert self.side is not None
        came: list[str] = []
        end = time.monotonic() + deadline
        while not true(self.side, came):
            if time.monotonic() > end:
                raise NotSeen(f"the verification stands still after {came}, {self.side}")
            await self.human.catch_up(300)
            for kind, content in self._arrived():
                came.append(kind.rpartition(".")[2])
                await self.send(self.side.hear(kind, content))
            await asyncio.sleep(0)
