"""The other client of a verification: written from the spec on vodozemac alone, nothing of `bridge.matrix`.

It plays either role, answers each event with the events that follow, and says what it shows.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import vodozemac

Events = list[tuple[str, dict[str, Any]]]

CHOICES = {
    "key_agreement_protocol": "curve25519-hkdf-sha256",
    "hash": "sha256",
    "message_authentication_code": "hkdf-hmac-sha256.v2",
}


def packed(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def committed(key: str, start: dict[str, Any]) -> str:
    return base64.b64encode(hashlib.sha256((key + packed(start)).encode()).digest()).decode().rstrip("=")


@dataclass
class OtherSide:
    """One device of another person. `expects` are the keys of ours that it knows, by id."""

    user: str
    device: str
    keys: dict[str, str]
    them: tuple[str, str]
    expects: dict[str, str]
    id: str
    room: bool = False
    sas: vodozemac.Sas = field(default_factory=vodozemac.Sas)
    agrees: bool = True
    lies_about: str = ""
    """Which of its own steps is a lie: `key`, `mac`, `keys`."""
    shown: Any = None
    cancelled: str = ""
    done: bool = False
    proven: set[str] = field(default_factory=set)
    _start: dict[str, Any] = field(default_factory=dict)
    _starter: bool = False
    _promise: str = ""
    _secret: Any = None
    _confirmed: bool = False

    def wrapped(self, **content: Any) -> dict[str, Any]:
        if self.room:
            return {**content, "m.relates_to": {"rel_type": "m.reference", "event_id": self.id}}
        return {**content, "transaction_id": self.id}

    def start(self, **other: Any) -> Events:
        self._starter = True
        self._start = self.wrapped(
            from_device=self.device,
            method="m.sas.v1",
            **{
                f"{name}{'' if name.endswith('s') else 's'}": [value]
                for name, value in CHOICES.items()
                if name != "hash"
            },
            hashes=["sha256"],
            short_authentication_string=["emoji", "decimal"],
        )
        self._start |= other
        return [("m.key.verification.start", self._start)]

    def hear(self, kind: str, content: dict[str, Any]) -> Events:
        own = self.sas.public_key.to_base64()
        match kind.rpartition(".")[2]:
            case "start":
                self._start = content
                return [
                    (
                        "m.key.verification.accept",
                        self.wrapped(
                            **CHOICES,
                            method="m.sas.v1",
                            commitment=committed(own, content),
                            short_authentication_string=["emoji", "decimal"],
                        ),
                    )
                ]
            case "accept":
                self._promise = content["commitment"]
                return [("m.key.verification.key", self.wrapped(key=own))]
            case "key":
                return self._key(own, content["key"])
            case "mac":
                return self._check(content)
            case "cancel":
                self.cancelled = content["code"]
            case "done":
                self.done = True
        return []

    def _key(self, own: str, given: str) -> Events:
        if self._starter:
            assert committed(given, self._start) == self._promise
        secret = self.sas.diffie_hellman(vodozemac.Curve25519PublicKey.from_base64(given))
        me, them = f"{self.user}|{self.device}|{own}", f"{'|'.join(self.them)}|{given}"
        pair = f"{me}|{them}" if self._starter else f"{them}|{me}"
        shown = secret.bytes(f"MATRIX_KEY_VERIFICATION_SAS|{pair}|{self.id}")
        self.shown = (tuple(shown.emoji_indices), shown.decimals)
        self._secret = secret
        if self._starter:
            return []
        sent = vodozemac.Sas().public_key.to_base64() if self.lies_about == "key" else own
        return [("m.key.verification.key", self.wrapped(key=sent))]

    def confirm(self) -> Events:
        """What a person says who looks at both screens."""
        if not self.agrees:
            self.cancelled = "m.mismatched_sas"
            return [
                ("m.key.verification.cancel", self.wrapped(code="m.mismatched_sas", reason="they differ"))
            ]
        self._confirmed = True
        prefix = f"MATRIX_KEY_VERIFICATION_MAC{self.user}{self.device}{''.join(self.them)}{self.id}"
        mac = {one: self._secret.calculate_mac(key, prefix + one) for one, key in self.keys.items()}
        if self.lies_about == "mac":
            mac = {one: self._secret.calculate_mac("another key", prefix + one) for one in mac}
        names = ",".join(sorted(mac)) + (",ed25519:MORE" if self.lies_about == "keys" else "")
        keys = self._secret.calculate_mac(names, f"{prefix}KEY_IDS")
        return [("m.key.verification.mac", self.wrapped(mac=mac, keys=keys)), *self._finish()]

    def _check(self, content: dict[str, Any]) -> Events:
        prefix = f"MATRIX_KEY_VERIFICATION_MAC{''.join(self.them)}{self.user}{self.device}{self.id}"
        self._secret.verify_mac(",".join(sorted(content["mac"])), f"{prefix}KEY_IDS", content["keys"])
        for one, mac in content["mac"].items():
            self._secret.verify_mac(self.expects[one], prefix + one, mac)
            self.proven.add(one)
        return self._finish()

    def _finish(self) -> Events:
        return [("m.key.verification.done", self.wrapped())] if self._confirmed and self.proven else []
