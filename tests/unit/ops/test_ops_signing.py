"""Signed tokens: every method, what ends a token, and options that cannot be."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from townhall.model import limits
from townhall.model.errors import InvalidField, Unavailable
from townhall.ops.signing import JwtSigner, signer_of


def pair(folder: Path, kind: str) -> tuple[str, str]:
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    elif kind == "ec":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{kind}.key", folder / f"{kind}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(private), str(public)


@pytest.mark.parametrize(("method", "kind"), [("RS256", "rsa"), ("PS512", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")])
def test_there_and_back(tmp_path, method, kind):
    private, public = pair(tmp_path, kind)
    signer = signer_of(f"jwt,sign-method={method},pub-key={public},priv-key={private},ttl=10m")
    assert signer is not None
    token = signer.sign("amy", 7)
    assert signer.read(token) == ("amy", 7)
    for damaged in (token[:-4] + "AAAA", token + ".x", "", "a.b.c"):
        assert signer.read(damaged) is None
    reader = signer_of(f"jwt,sign-method={method},pub-key={public}")
    assert reader is not None
    assert reader.read(token) == ("amy", 7)
    with pytest.raises(Unavailable):
        reader.sign("amy", 7)


def test_a_shared_secret_and_the_claims_of_etcd(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 64)
    signer = signer_of(f"jwt,sign-method=HS256,priv-key={secret}")
    assert signer is not None
    claims = jwt.decode(signer.sign("amy", 7), b"s" * 64, algorithms=["HS256"])
    assert (claims["username"], claims["revision"]) == ("amy", 7)
    assert 290 <= claims["exp"] - time.time() <= 300

    def forged(key: bytes = b"s" * 64, **changes: object) -> str:
        return jwt.encode({**claims, **changes}, key, algorithm="HS256")

    assert signer.read(forged()) == ("amy", 7)
    for bad in (forged(b"o" * 64), forged(exp=1), forged(username=5), forged(revision="x")):
        assert signer.read(bad) is None
    assert signer.read(jwt.encode(claims, None, algorithm="none")) is None


def test_expired_tokens_are_not_remembered_as_good(monkeypatch):
    signer = JwtSigner(method="HS256", public=b"s" * 64, private=b"s" * 64, ttl_s=60)
    token = signer.sign("amy", 7)
    assert signer.read(token) == ("amy", 7)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert signer.read(token) is None


def test_few_are_remembered(monkeypatch):
    monkeypatch.setattr(limits, "LOGINS_COUNT_MAX", 1)
    signer = JwtSigner(method="HS256", public=b"s" * 64, private=b"s" * 64, ttl_s=60)
    for revision in range(3):
        assert signer.read(signer.sign("amy", revision)) == ("amy", revision)
        assert len(signer._read) == 1


def test_what_the_option_may_say(tmp_path):
    assert signer_of("") is signer_of("simple") is None
    private, public = pair(tmp_path, "rsa")
    other = tmp_path / "other"
    other.mkdir()
    _, stranger = pair(other, "rsa")
    for text in (
        "simple,ttl=5m",
        "paseto",
        "jwt",
        "jwt,sign-method=none",
        "jwt,sign-method=RS256",
        "jwt,sign-method=HS256",
        "jwt,sign-method=RS256,pub-key=/nowhere/key",
        f"jwt,sign-method=RS256,pub-key={public},ttl=5",
        f"jwt,sign-method=RS256,pub-key={public},ttl=0m",
        f"jwt,sign-method=RS256,pub-key={public},pub-key={public}",
        f"jwt,sign-method=RS256,pub-key={public},colour=red",
        f"jwt,sign-method=ES256,pub-key={public},priv-key={private}",
        f"jwt,sign-method=RS256,pub-key={stranger},priv-key={private}",
    ):
        with pytest.raises(InvalidField):
            signer_of(text)
