"""The handshake of connections: both ends prove that they know the same key, and neither says it.

Always: the messages are the standard library's, of 3.11 and of 3.12 and newer.  What an end that has proved nothing
sends is read up to 256 bytes, and never unpickled.
Not here: who has to prove something, and how long that may take (`connection`).
"""

from __future__ import annotations

import os
from typing import Any

from .context import AuthenticationError

__all__ = ["answer_challenge", "deliver_challenge"]

# The listener sends a challenge, the client answers with a digest of it, keyed; then the other way round.  Python
# 3.11 and older send 20 bytes and expect MD5's 16.  Since 3.12 a challenge begins with the digest's name in braces,
# and so does the answer.  An old end takes the name for part of the challenge and answers with MD5, which is
# accepted; an old end's challenge is answered with MD5.  So every pair of versions gets along.

MESSAGE_LENGTH = 40
_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"

_MD5ONLY_MESSAGE_LENGTH = 20
_MD5_DIGEST_LEN = 16
_LEGACY_LENGTHS = (_MD5ONLY_MESSAGE_LENGTH, _MD5_DIGEST_LEN)
_ALLOWED_DIGESTS = frozenset({b"md5", b"sha256", b"sha384", b"sha3_256", b"sha3_384"})
_MAX_DIGEST_LEN = max(map(len, _ALLOWED_DIGESTS))
# The longest message that is read from somebody who has not proved anything.
_UNPROVED = 256


def _get_digest_name_and_payload(message: bytes) -> tuple[str, bytes]:
    """Split a challenge or an answer into the digest's name, '' in an old one, and what follows it.

    Raises AuthenticationError for a name that is not allowed, or none.
    """
    if len(message) in _LEGACY_LENGTHS:
        return "", message
    if message.startswith(b"{"):
        name, brace, payload = message[1 : _MAX_DIGEST_LEN + 2].partition(b"}")
        if brace and name in _ALLOWED_DIGESTS:
            return name.decode("ascii"), message[len(name) + 2 :]
    raise AuthenticationError(
        f"unsupported message length, missing digest prefix, or unsupported digest: message={message!r}"
    )


def _create_response(authkey: bytes, message: bytes) -> bytes:
    """Return the answer to a challenge."""
    import hmac

    name = _get_digest_name_and_payload(message)[0]
    if not name:
        try:
            return hmac.new(authkey, message, "md5").digest()
        except ValueError:
            name = "sha256"  # this system has no MD5; the other end may know more than it asked for
    return b"{%s}%s" % (name.encode("ascii"), hmac.new(authkey, message, name).digest())


def _verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    """Raise AuthenticationError unless `response` answers the challenge `message`."""
    import hmac

    name, digest = _get_digest_name_and_payload(response)
    name = name or "md5"
    try:
        expected = hmac.new(authkey, message, name).digest()
    except ValueError:
        raise AuthenticationError(f"unsupported digest: {name}") from None
    if len(expected) != len(digest):
        raise AuthenticationError(f"expected {name!r} of length {len(expected)} got {len(digest)}")
    if not hmac.compare_digest(expected, digest):
        raise AuthenticationError("digest received was wrong")


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Let the other end prove that it knows the key.

    connection -- anything with send_bytes and recv_bytes
    digest_name -- str: 'md5', 'sha256', 'sha384', 'sha3_256' or 'sha3_384'

    Raises AuthenticationError if it does not, ValueError for a key that is not bytes.
    Differs: on 3.11 the challenge is the newer Pythons', which 3.11's answer too.
    """
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)!s}")
    message = b"{%s}%s" % (digest_name.encode("ascii"), os.urandom(MESSAGE_LENGTH))
    connection.send_bytes(_CHALLENGE + message)
    response = connection.recv_bytes(_UNPROVED)
    try:
        _verify_challenge(authkey, message, response)
    except AuthenticationError:
        connection.send_bytes(_FAILURE)
        raise
    connection.send_bytes(_WELCOME)


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Prove to the other end that we know the key.

    connection -- anything with send_bytes and recv_bytes

    Raises AuthenticationError if it is not content, ValueError for a key that is not bytes.  Differs: none.
    """
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)!s}")
    message = connection.recv_bytes(_UNPROVED)
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError(f"Protocol error, expected challenge: message={message!r}")
    message = message[len(_CHALLENGE) :]
    if len(message) < _MD5ONLY_MESSAGE_LENGTH:
        raise AuthenticationError(f"challenge too short: {len(message)} bytes")
    connection.send_bytes(_create_response(authkey, message))
    if connection.recv_bytes(_UNPROVED) != _WELCOME:
        raise AuthenticationError("digest sent was rejected")
