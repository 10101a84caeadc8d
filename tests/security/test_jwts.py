"""JSON Web Tokens: whose key decides the algorithm, what must be in them, what is refused."""

import base64
import json
import time

import pytest

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: E402
from jwt.algorithms import ECAlgorithm, RSAAlgorithm  # noqa: E402

from server.callers import Right  # noqa: E402
from server.errors import Unauthorized  # noqa: E402
from server.ops import watched  # noqa: E402
from server.ops.auth import Auth  # noqa: E402
from server.settings import Settings, SettingsError  # noqa: E402

SECRET = "s" * 40
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwks(*more: dict) -> str:
    keys = [
        RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"kid": "r", "alg": "RS256"},
        ECAlgorithm.to_jwk(EC.public_key(), as_dict=True) | {"kid": "e", "use": "sig"},
        RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"use": "enc"},
        *more,
    ]
    return json.dumps({"keys": keys})


def claims(**changed: object) -> dict:
    all_ = {"sub": "ann", "exp": time.time() + 60, "scope": "openid read create"} | changed
    return {key: value for key, value in all_.items() if value is not None}


@pytest.fixture
def auth(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(jwks())
    return Auth(Settings(jwks=path, jwt_secret=SECRET, jwt_issuer="https://login", jwt_audience="tw"))


def signed(key=EC, algorithm="ES256", kid: str | None = "e", **changed: object) -> str:
    body = {"iss": "https://login", "aud": "tw"} | changed
    return jwt.encode(claims(**body), key, algorithm, headers={"kid": kid} if kid else {})


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(EC, "ES256", "e"), (EC, "ES256", None), (RSA, "RS256", "r"), (SECRET, "HS256", None)],
    ids=["ES256", "without-kid", "RS256", "HS256"],
)
def test_a_good_token_says_who_asks_and_what_they_may(auth, key, algorithm, kid):
    found = auth.caller(signed(key, algorithm, kid, aud=["other", "tw"]))
    assert (found.principal, found.rights) == ("jwt:ann", {Right.READ, Right.CREATE})
    assert found.session is None
    assert 50 < found.until - time.time() < 61


def test_a_token_may_be_for_one_session(auth):
    assert auth.caller(signed(sid="x" * 32)).session == "x" * 32


def unsigned(header: dict) -> str:
    body = json.dumps(claims(iss="https://login", aud="tw"))
    parts = (json.dumps(header), body)
    return ".".join(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in parts) + "."


def confused() -> str:
    """Signed with the public key as if that were a shared secret."""
    import hashlib
    import hmac

    head = unsigned({"alg": "HS256", "kid": "r"}).rstrip(".")
    mac = hmac.digest(RSA_PEM, head.encode(), hashlib.sha256)
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


ATTACKS = {
    "another's key": lambda: signed(OTHER),
    "another kid": lambda: signed(kid="r"),
    "an unknown kid": lambda: signed(kid="x"),
    "a weaker algorithm": lambda: signed(RSA, "RS512", "r"),
    "expired": lambda: signed(exp=time.time() - 60),
    "without an end": lambda: signed(exp=None),
    "not yet": lambda: signed(nbf=time.time() + 60),
    "without a subject": lambda: signed(sub=None),
    "an empty subject": lambda: signed(sub=""),
    "a subject that is no text": lambda: signed(sub="x" * 257),
    "rights that are no text": lambda: signed(scope=["read"]),
    "a session that is no text": lambda: signed(sid=7),
    "another issuer": lambda: signed(iss="https://evil"),
    "no issuer": lambda: signed(iss=None),
    "another audience": lambda: signed(aud="other"),
    "no audience": lambda: signed(aud=None),
    "no algorithm": lambda: unsigned({"alg": "none"}),
    "No algorithm": lambda: unsigned({"alg": "None", "kid": "e"}),
    "no signature": lambda: unsigned({"alg": "ES256", "kid": "e"}),
    "the public key as a secret": confused,
    "an algorithm that is no text": lambda: unsigned({"alg": ["ES256"]}),
    "cut": lambda: signed()[:-4],
    "changed": lambda: signed().replace(".", ".e", 1),
    "nothing": lambda: "",
    "blank": lambda: " ",
    "dots": lambda: "..",
    "long": lambda: "a" * 100_000,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_bad_token_is_nobodys(auth, attack):
    with pytest.raises(Unauthorized):
        auth.caller(ATTACKS[attack]())


def test_without_an_audience_a_token_for_somebody_is_not_for_us():
    auth = Auth(Settings(jwt_secret=SECRET))
    assert auth.caller(jwt.encode(claims(), SECRET)).principal == "jwt:ann"
    with pytest.raises(Unauthorized):
        auth.caller(jwt.encode(claims(aud="other"), SECRET))


def test_a_jwks_is_read_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "LOOK", 0.0)
    path = tmp_path / "jwks.json"
    path.write_text(jwks())
    auth = Auth(Settings(jwks=path))
    token = jwt.encode(claims(), OTHER, "ES256", headers={"kid": "o"})
    with pytest.raises(Unauthorized):
        auth.caller(token)
    path.write_text(jwks(ECAlgorithm.to_jwk(OTHER.public_key(), as_dict=True) | {"kid": "o"}))
    assert auth.caller(token).principal == "jwt:ann"


SHORT = {"kty": "oct", "k": base64.urlsafe_b64encode(b"hush").decode()}


OTHERS = [
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "o"},
    {"kty": "from the future"},
    {"kid": "no kind"},
    {"kty": "RSA", "n": "cut"},
    {"kty": "EC", "crv": "P-256", "x": "é", "y": 7},
    ECAlgorithm.to_jwk(P384.public_key(), as_dict=True),
    RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"alg": "PS256"},
    SHORT,
    "hush",
]


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
def test_a_key_that_is_not_understood_is_ignored(tmp_path, other):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [other, *json.loads(jwks())["keys"]]}))
    auth = Auth(Settings(jwks=path))
    assert auth.caller(jwt.encode(claims(), EC, "ES256", headers={"kid": "e"})).principal == "jwt:ann"
    with pytest.raises(Unauthorized):
        auth.caller(jwt.encode(claims(), P384, "ES384"))


BAD = [
    "", "{}", '{"keys":[]}', json.dumps({"keys": OTHERS}),
    '{"keys":[{}]}', '{"keys":[{"kty":"OKP"}]}', "[]", '{"keys":["hush"]}',
    '{"keys":[{"kty":"RSA","alg":"none"}]}', json.dumps({"keys": [SHORT]}),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_bad_jwks_is_refused_without_being_shown(tmp_path, text):
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rf"^{path}: expected a JWKS") as raised:
        Auth(Settings(jwks=path))
    assert "hush" not in str(raised.value)


def test_a_short_secret_is_refused_without_being_shown():
    with pytest.raises(SettingsError, match=r"^jwt_secret: expected str of length >= 32$"):
        Settings(jwt_secret="hush")
