"""Published vectors of Ed25519: those of RFC 8032, section 7.1, and those of Project Wycheproof."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

# Seed, public key, message, signature: TEST 1, 2, 3 and SHA(abc). TEST 1024 is number 83 of Wycheproof's.
_RFC_8032 = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
        "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da0"
        "85ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac1"
        "8ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b5890"
        "9351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
)


@dataclass(frozen=True)
class Vector:
    """A signature of which somebody has published whether it is valid."""

    number: int
    public_key: bytes
    message: bytes
    signature: bytes
    result: str  # valid, invalid, or acceptable: valid by the equation, and a strict verifier may refuse the key


def rfc_8032() -> list[tuple[bytes, Vector]]:
    """The RFC's vectors, each with the seed of its private key."""
    return [
        (bytes.fromhex(seed), Vector(number, bytes.fromhex(key), message, bytes.fromhex(signature), "valid"))
        for number, (seed, key, message, signature) in enumerate(_RFC_8032)
    ]


def wycheproof() -> list[Vector]:
    """Wycheproof's vectors, from the file beside this one."""
    text = Path(__file__).with_name("ed25519_wycheproof.csv").read_text(encoding="ascii")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    return [
        Vector(int(number), bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature), result)
        for number, key, message, signature, result in rows
    ]
