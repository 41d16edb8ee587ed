"""How a client gets a token: apps, the code that a person allows, the token for it.

https://docs.joinmastodon.org/methods/apps/, /methods/oauth/; PKCE: RFC 7636. The password grant is gone
since Mastodon 4.4 (mastodon/mastodon#30960).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.instance_state import Refusal, Token

if TYPE_CHECKING:
    from tests.fakes.instance_state import Account, Json, State


@dataclass
class App:
    id: str
    secret: str
    scopes: frozenset[str]


@dataclass
class Grant:
    app: App
    account: Account
    scopes: frozenset[str]
    challenge: str


class Login:
    """Apps and codes of one server. `signed_in` is who allows what a browser is shown."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._apps: dict[str, App] = {}
        self._codes: dict[str, Grant] = {}
        self.signed_in: Account | None = None

    def answer(self, method: str, path: str, body: Json, request: web.Request) -> web.Response:
        match method, path:
            case "POST", "/api/v1/apps":
                return self._register(body)
            case "GET", "/oauth/authorize":
                return self._allow(request)
            case "POST", "/oauth/token":
                return self._token(body)
            case "POST", "/oauth/revoke":
                token = self._state.tokens.get(str(body.get("token")))
                if token is not None:
                    token.revoked = True
                return web.json_response({})
        raise Refusal(404, "Record not found")

    def _register(self, body: Json) -> web.Response:
        if not body.get("client_name") or not body.get("redirect_uris"):
            raise Refusal(422, "Validation failed: Redirect URI must be an absolute URI.")
        scopes = frozenset(str(body.get("scopes") or "read").split())
        app = App(secrets.token_urlsafe(8), secrets.token_urlsafe(16), scopes)
        self._apps[app.id] = app
        return web.json_response(
            {"name": body["client_name"], "client_id": app.id, "client_secret": app.secret}
        )

    def _allow(self, request: web.Request) -> web.Response:
        """The page that a browser shows once its user has allowed it; out of band, so it shows the code."""
        query = request.query
        app = self._apps.get(query.get("client_id", ""))
        wanted = frozenset(query.get("scope", "read").split())
        if app is None or query.get("response_type") != "code" or not wanted <= app.scopes:
            raise Refusal(400, "invalid_client")
        if self.signed_in is None:
            raise Refusal(401, "nobody is signed in")
        code = secrets.token_urlsafe(8)
        self._codes[code] = Grant(app, self.signed_in, wanted, query.get("code_challenge", ""))
        page = f'<html><body><input class="oauth-code" readonly value="{code}"></body></html>'
        return web.Response(text=page, content_type="text/html")

    def _token(self, body: Json) -> web.Response:
        app = self._apps.get(str(body.get("client_id")))
        if app is None or app.secret != body.get("client_secret"):
            raise Refusal(401, "invalid_client")
        if body.get("grant_type") == "client_credentials":
            return self._give(None, app.scopes)
        if body.get("grant_type") != "authorization_code":
            raise Refusal(400, "unsupported_grant_type")
        grant = self._codes.pop(str(body.get("code")), None)
        if grant is None or grant.app is not app:
            raise Refusal(400, "invalid_grant")
        digest = hashlib.sha256(str(body.get("code_verifier", "")).encode()).digest()
        if grant.challenge and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != grant.challenge:
            raise Refusal(400, "invalid_grant")
        return self._give(grant.account, grant.scopes)

    def _give(self, account: Account | None, scopes: frozenset[str]) -> web.Response:
        token = secrets.token_urlsafe(16)
        self._state.tokens[token] = Token(account, scopes)
        told = {"access_token": token, "token_type": "Bearer", "scope": " ".join(sorted(scopes))}
        return web.json_response(told)
