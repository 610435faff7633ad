from pathlib import Path

import pytest

from mer_agent.errors import DataError
from mer_agent.models.data.corpora import DATA, load


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="iemocap, meld, mosi"):
        load("friends", tmp_path, ("text/mpnet@1",))


@pytest.mark.parametrize("name", sorted(DATA))
def test_a_data_set_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="speech" if name.startswith("acted") else name):
        load(name, tmp_path, ("text/mpnet@1",))


def test_every_data_set_states_its_terms() -> None:
    assert all(source.data and source.terms for source in DATA.values())
