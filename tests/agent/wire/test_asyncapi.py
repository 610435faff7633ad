from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from support import contract, npm
from support.messages import message

from mer_agent.wire import asyncapi
from mer_agent.wire.asyncapi import CHANNELS, channel_of, document, json_schemas
from mer_agent.wire.schema import Topics

ROOT = Path(__file__).parents[3]


@pytest.mark.node
def test_the_official_parser_finds_nothing_wrong_with_the_document(tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(document()))
    said = npm.run(
        "import { Parser } from '@asyncapi/parser'; import { readFileSync } from 'fs';"
        "const found = await new Parser().parse(readFileSync(process.argv[1], 'utf8'));"
        "console.log(JSON.stringify([Boolean(found.document), found.diagnostics]));",
        str(file),
    )
    assert json.loads(said) == [True, []]


@pytest.mark.node
def test_the_official_parser_would_find_something_wrong(tmp_path: Path) -> None:
    broken = document()
    broken["operations"]["send-final"]["channel"]["$ref"] = "#/channels/nowhere"
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(broken))
    said = npm.run(
        "import { Parser } from '@asyncapi/parser'; import { readFileSync } from 'fs';"
        "const found = await new Parser().parse(readFileSync(process.argv[1], 'utf8'));"
        "console.log(Boolean(found.document));",
        str(file),
    )
    assert said.strip() == "false"


@pytest.mark.parametrize("name", ["asyncapi", "schemas"])
def test_the_copies_in_the_package_are_what_the_code_makes(name: str) -> None:
    made = {"asyncapi": document(), "schemas": json_schemas()}[name]
    assert json.loads((ROOT / "agent" / "wire" / f"{name}.json").read_text(encoding="utf-8")) == made


def test_all_schemas_are_schemas_and_every_field_is_described() -> None:
    assert set(json_schemas()) == {"emotion", "status", "capabilities", "session", "turn", "command", "answer"}
    for schema in json_schemas().values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert [name for name, field in schema["properties"].items() if "description" not in field] == []
        assert "schema" in schema["required"]


def test_the_channels_are_the_topics() -> None:
    topics = Topics("desk", "s1")
    for name, topic in (
        ("status", topics.status),
        ("capabilities", topics.capabilities),
        ("session", topics.news),
        ("final", topics.emotion("speaker-0")),
        ("partial", topics.emotion("speaker-0", "partial")),
        ("turn", topics.turn),
        ("command", topics.command),
        ("answer", topics.answer()),
        ("answerTo", topics.answer("bot")),
    ):
        channel = channel_of(topic, topics)
        assert channel is not None
        assert channel.name == name
    assert channel_of("mer/v1/desk/s1/elsewhere", topics) is None
    assert channel_of("mer/v2/desk/status", topics) is None


def test_nothing_personal_is_retained() -> None:
    assert {channel.name for channel in CHANNELS if channel.retained} == {"status", "capabilities"}
    for channel in CHANNELS:
        if channel.retained:
            assert {"text", "speaker", "speaker_name", "speakers"}.isdisjoint(channel.model.model_fields)


def test_the_table_in_the_docs_has_every_topic() -> None:
    docs = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    for channel in CHANNELS:
        address = channel.address.replace("{prefix}", "mer/v1").replace("{", "<").replace("}", ">")
        retained = "yes" if channel.retained else "no"
        (row,) = (line for line in docs.splitlines() if line.startswith(f"| `{address}` |"))
        assert row.split(" | ")[-2:] == [str(channel.qos), f"{retained} |"], channel.name


def test_json_schema_is_of_2020_12() -> None:
    assert {schema["$schema"] for schema in json_schemas().values()} == {asyncapi.DIALECT}


def test_the_judge_of_published_messages_would_find_something_wrong() -> None:
    topics = Topics("desk", "s1")
    good = message().to_json()
    contract.check(topics.emotion("speaker-0"), good, retain=False, qos=1)
    with pytest.raises(jsonschema.ValidationError):
        contract.check(topics.emotion("speaker-0"), good.replace('"seq":0', '"seq":-1'), retain=False, qos=1)
    with pytest.raises(jsonschema.ValidationError):
        contract.check(topics.status, good, retain=True, qos=1)
    with pytest.raises(AssertionError, match="retained True"):
        contract.check(topics.emotion("speaker-0"), good, retain=True, qos=1)
    with pytest.raises(AssertionError, match="no channel"):
        contract.check("mer/v1/desk/s1/gossip", good, retain=False, qos=1)
