"""A served model embeds as a local one does; what a server may do wrong is named."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from codex_forge.config.sections import ServedConfig
from codex_forge.errors import ConfigError, ForgeError, InputError, TryAgain
from codex_forge.model.served import ServedEncoder, identity
from codex_forge.model.server import PATIENCE_VARIABLE
from tests.servers.chat_server import Reply
from tests.servers.embedding_server import DIMENSION, EmbeddingServer, embedding_server, vector_of
from tests.servers.s3 import free_ports

KEY = "sk-very-secret-1234"
TEXTS = [f"text number {i}" for i in range(23)]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as found:
        yield found


def config(server: EmbeddingServer, **options: Any) -> ServedConfig:
    return ServedConfig(**{"url": server.url, "model": "bge-m3", "batch_size": 5, **options})


def unit(texts: list[str]) -> Any:
    found = np.array([vector_of(text) for text in texts])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


APIS = pytest.mark.parametrize("api", ["ollama", "openai"])


@APIS
@pytest.mark.parametrize("ending", ["", "/v1"])
def test_texts_become_unit_vectors_in_their_order(
    server: EmbeddingServer, api: str, ending: str
) -> None:
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
    encoder = ServedEncoder(config(server, api=api, url=server.url + ending, **prompts))
    found = encoder.encode_document(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (23, DIMENSION)
    assert np.allclose(found, unit([f"passage: {text}" for text in TEXTS]), atol=1e-6)
    queries = encoder.encode_query(TEXTS[:2])
    assert np.allclose(queries, unit([f"query: {text}" for text in TEXTS[:2]]), atol=1e-6)
    assert sorted(map(len, server.requests[:5])) == [3, 5, 5, 5, 5]
    assert encoder.dimension == DIMENSION
    assert encoder.encode_query([]).shape == (0, DIMENSION)


def test_the_dimension_is_asked_for_when_nothing_was_encoded(server: EmbeddingServer) -> None:
    encoder = ServedEncoder(config(server))
    assert (encoder.dimension, encoder.dimension) == (DIMENSION, DIMENSION)
    assert len(server.requests) == 1


def test_so_many_requests_go_at_a_time_and_slow_ones_do_not_mix_the_order(
    server: EmbeddingServer,
) -> None:
    server.script = lambda number, _: Reply(seconds=0.15 if number == 0 else 0.05, is_normal=True)
    found = ServedEncoder(config(server, requests=3)).encode_document(TEXTS)
    assert np.allclose(found, unit(TEXTS), atol=1e-6)
    assert server.most_under_way == 3


# --- what heals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [Reply(429), Reply(503), Reply(500, body="oops"), Reply(hangs_up=True), Reply(seconds=0.6)],
    ids=["429", "503", "500", "hangs-up", "too-slow"],
)
def test_what_may_heal_is_tried_again(server: EmbeddingServer, reply: Reply) -> None:
    server.script = lambda number, _: reply if number == 0 else None
    found = ServedEncoder(config(server, requests=1, timeout=0.4)).encode_query(TEXTS[:3])
    assert np.allclose(found, unit(TEXTS[:3]), atol=1e-6)
    assert len(server.requests) == 2


def test_retry_after_is_honoured(server: EmbeddingServer) -> None:
    server.script = lambda number, _: (
        Reply(429, headers={"Retry-After": "1"}) if number == 0 else None
    )
    ServedEncoder(config(server)).encode_query(["a"])
    assert server.times[1] - server.times[0] >= 1.0


def test_a_server_that_never_answers_is_given_up_and_named(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.3")
    server.script = lambda _number, _texts: Reply(503)
    with pytest.raises(TryAgain, match=r"does not answer \(HTTP 503\)") as down:
        ServedEncoder(config(server)).encode_document(TEXTS)
    assert server.url in str(down.value)
    assert len(server.requests) >= 2
    nobody = f"http://127.0.0.1:{free_ports(1)}"
    with pytest.raises(TryAgain, match="does not answer"):
        ServedEncoder(config(server, url=nobody)).encode_query(["a"])


def test_a_pause_longer_than_the_patience_is_not_waited_for(server: EmbeddingServer) -> None:
    server.script = lambda _number, _texts: Reply(429, headers={"Retry-After": "3600"})
    started = time.monotonic()
    with pytest.raises(TryAgain, match="HTTP 429"):
        ServedEncoder(config(server)).encode_query(["a"])
    assert time.monotonic() - started < 10


def test_one_refusal_ends_the_pauses_of_the_other_requests(server: EmbeddingServer) -> None:
    def script(_number: int, texts: list[str]) -> Reply:
        if TEXTS[0] in texts:
            return Reply(400, body="too long", seconds=0.2)
        return Reply(429, headers={"Retry-After": "60"})

    server.script = script
    started = time.monotonic()
    with pytest.raises(InputError, match="HTTP 400: too long"):
        ServedEncoder(config(server)).encode_document(TEXTS)
    assert time.monotonic() - started < 10


# --- what does not -----------------------------------------------------------------------------


def embeddings(*vectors: list[float]) -> str:
    return json.dumps({"embeddings": vectors}).replace('"nan"', "NaN")


@pytest.mark.parametrize(
    "body, said",
    [
        (embeddings([1.0, 2.0]), r"embeddings of shape \(1, 2\) for 2 texts"),
        (embeddings([], []), r"of shape \(2, 0\)"),
        (embeddings([1.0, 2.0], [1.0]), "no embeddings"),
        ('{"embeddings": [[1.0, NaN], [1.0, 2.0]]}', "not finite"),
        ('{"embeddings": [[1.0, null], [1.0, 2.0]]}', "no embeddings|not finite"),
        ("[[0.0, 0.0], [1.0, 2.0]]".join(['{"embeddings": ', "}"]), "vectors of length 0"),
        ('{"data": []}', "no embeddings"),
        ("[]", "no embeddings"),
    ],
)
def test_what_is_no_vector_of_each_text_is_refused(
    server: EmbeddingServer, body: str, said: str
) -> None:
    server.script = lambda _number, _texts: Reply(body=body)
    with pytest.raises(InputError, match=said):
        ServedEncoder(config(server, api="ollama")).encode_query(["a", "b"])


def test_very_large_numbers_have_a_direction(server: EmbeddingServer) -> None:
    body = '{"embeddings": [[3e300, 4e300], [3e-300, 4e-300]]}'
    server.script = lambda _number, _texts: Reply(body=body)
    found = ServedEncoder(config(server, api="ollama")).encode_query(["a", "b"])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


def test_openai_vectors_must_be_one_of_each_text(server: EmbeddingServer) -> None:
    row = {"index": 0, "embedding": [1.0, 2.0]}
    server.script = lambda _number, _texts: Reply(body=json.dumps({"data": [row, row]}))
    with pytest.raises(InputError, match="no embeddings"):
        ServedEncoder(config(server)).encode_query(["a", "b"])


def test_vectors_that_change_their_length_are_refused(server: EmbeddingServer) -> None:
    encoder = ServedEncoder(config(server, api="ollama"))
    encoder.encode_query(["a"])
    server.script = lambda _number, _texts: Reply(body=embeddings([1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match=r"different lengths \(\[3, 8\]\)"):
        encoder.encode_query(["a"])


@pytest.mark.parametrize(
    "reply, error, said",
    [
        (Reply(body="<html>"), ConfigError, "no JSON"),
        (Reply(301, headers={"Location": "http://x.example"}), InputError, "HTTP 301"),
        (Reply(429, body='{"code": "insufficient_quota"}'), ConfigError, "quota"),
        (Reply(403), ConfigError, "name it in embed.served.key_variable"),
    ],
)
def test_answers_that_no_second_attempt_heals(
    server: EmbeddingServer, reply: Reply, error: type[ForgeError], said: str
) -> None:
    server.script = lambda _number, _texts: reply
    with pytest.raises(error, match=said):
        ServedEncoder(config(server)).encode_query(["a"])
    assert len(server.requests) == 1


def test_a_model_or_an_address_that_is_not_there(server: EmbeddingServer) -> None:
    with pytest.raises(ConfigError, match=r"no model 'other'.*ollama pull other"):
        ServedEncoder(config(server, api="ollama", model="other")).encode_query(["a"])
    with pytest.raises(ConfigError, match=r"no model 'other'.*embed\.served\.model"):
        ServedEncoder(config(server, model="other")).encode_query(["a"])
    with pytest.raises(ConfigError, match=r"no such address.*embed\.served\.url"):
        ServedEncoder(config(server, url=f"{server.url}/elsewhere")).encode_query(["a"])


# --- keys --------------------------------------------------------------------------------------


def test_a_key_is_sent_and_never_said(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.key = "another"
    monkeypatch.setenv("FORGE_TEST_KEY", KEY)
    given = config(server, key_variable="FORGE_TEST_KEY")
    with pytest.raises(ConfigError, match=r"refuses access \(HTTP 401\).*FORGE_TEST_KEY") as error:
        ServedEncoder(given).encode_query(["a"])
    assert KEY not in str(error.value)
    server.key, server.script = KEY, lambda _number, _texts: Reply(400, body=f"bad, {KEY}")
    with pytest.raises(InputError, match="bad, ") as other:
        ServedEncoder(given).encode_query(["a"])
    assert KEY not in str(other.value)
    server.script = lambda _number, _texts: None
    assert len(ServedEncoder(given).encode_query(["a"])) == 1
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


def test_a_key_that_is_not_there_or_is_none(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORGE_TEST_KEY", raising=False)
    given = config(server, key_variable="FORGE_TEST_KEY")
    with pytest.raises(ConfigError, match="key_variable=FORGE_TEST_KEY: the environment has no"):
        ServedEncoder(given)
    monkeypatch.setenv("FORGE_TEST_KEY", "two words")
    with pytest.raises(ConfigError, match="holds signs that no key has"):
        ServedEncoder(given)
    assert server.requests == []


# --- identity ----------------------------------------------------------------------------------


def test_ollamas_digest_is_the_identity_wherever_it_runs(server: EmbeddingServer) -> None:
    found = identity(config(server, api="ollama"))
    assert (found.kind, found.name) == ("served", "bge-m3")
    assert found == identity(config(server, api="ollama", url=f"{server.url}/v1"))
    server.digest = "cd" * 32
    assert identity(config(server, api="ollama")).digest != found.digest
    with pytest.raises(ConfigError, match=r"no model 'other'.*ollama pull other"):
        identity(config(server, api="ollama", model="other"))


def test_elsewhere_the_name_is_the_identity_and_nobody_is_asked(server: EmbeddingServer) -> None:
    found = identity(config(server))
    assert found == identity(config(server, url="http://127.0.0.1:1"))
    assert found.digest != identity(config(server, model="other")).digest
    assert server.requests == []
