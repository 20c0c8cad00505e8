"""A small server of tokens, as an identity provider is one: client credentials in, a signed token (RS256) out."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "kafka"
LIFE_SECONDS = 300


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Serves `/token` and the public key at `/keys`. `secrets` are those of the users. A context manager."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets
        self.given: list[str] = []  # to whom
        self._key = rsa.generate_private_key(65_537, 2_048)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                login = base64.b64decode(self.headers.get("Authorization", "Basic ").removeprefix("Basic "))
                user, _, secret = (unquote(part) for part in login.decode().partition(":"))
                if server.secrets.get(user) != secret:
                    self._answer(401, {"error": "invalid_client"})
                    return
                server.given.append(user)
                token = server.token(user)
                self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFE_SECONDS})

            def do_GET(self) -> None:
                self._answer(200, {"keys": [server.public_key()]})

            def _answer(self, code: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def token(self, user: str) -> str:
        now = int(time.time())
        claims = {"iss": self.address, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + LIFE_SECONDS}
        head = {"alg": "RS256", "typ": "JWT", "kid": "the-key"}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        n, e = (_encoded(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "the-key", "n": n, "e": e}

    def broker_settings(self) -> dict[str, str]:
        """What a secured broker needs to take its tokens beside passwords."""
        prefix = "listener.name.sasl_ssl.oauthbearer."
        package = "org.apache.kafka.common.security.oauthbearer."
        return {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            f"{prefix}sasl.jaas.config": f"{package}OAuthBearerLoginModule required;",
            f"{prefix}sasl.server.callback.handler.class": f"{package}OAuthBearerValidatorCallbackHandler",
            f"{prefix}sasl.oauthbearer.jwks.endpoint.url": f"{self.address}/keys",
            f"{prefix}sasl.oauthbearer.expected.audience": AUDIENCE,
            f"{prefix}sasl.oauthbearer.expected.issuer": self.address,
        }

    def java_options(self) -> str:
        """The brokers fetch keys only from addresses that this names."""
        return f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.address}/keys"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
