import pytest

from mer_agent.encoders import base


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """As in the agent; on a busy machine several threads mostly wait for each other."""
    base.limit_threads(1)
