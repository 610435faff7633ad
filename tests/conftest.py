from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _everything_published_agrees_with_the_contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every message that any test lets an agent publish is checked against the AsyncAPI document."""
    from mer_agent.wire import publisher

    transmit, faults = publisher._transmit, []

    async def checked(connection: Any, topic: str, payload: str, details: Any, **options: Any) -> None:
        from support import contract

        try:
            contract.check(topic, payload, retain=options.get("retain", False), qos=options.get("qos", 1))
        except Exception as error:
            faults.append(error)
        await transmit(connection, topic, payload, details, **options)

    monkeypatch.setattr(publisher, "_transmit", checked)
    yield
    if faults:
        raise faults[0]
