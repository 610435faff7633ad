"""Where encoders compute: names of devices, precision, and how a batch gets there."""

from __future__ import annotations

import pytest
import torch

from mer_agent.encoders import place
from mer_agent.encoders.place import Place, fastest


def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, name in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert Place.of("auto").device == torch.device(name)
    assert Place.of("cuda:1").device == torch.device("cuda", 1)


def test_a_place_is_taken_as_it_is() -> None:
    known = Place(torch.device("cpu"), "bfloat16")
    assert Place.of(known) is known
    assert hash(known) == hash(Place.of("cpu", "bfloat16"))


def test_precision_is_that_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Place.of("cpu").dtype == torch.float32
    assert Place.of("cpu", "bfloat16").dtype == torch.bfloat16
    monkeypatch.setattr(place, "fastest", lambda: "bfloat16")
    assert Place.of("cpu", "auto").precision == "bfloat16"


@pytest.mark.parametrize("told", [{"amx_bf16": True}, {"avx512_bf16": True}, {}], ids=str)
def test_the_fastest_is_what_the_processor_has_in_hardware(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert fastest() == ("bfloat16" if told else "float32")


def test_the_fastest_on_a_gpu_is_what_it_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert fastest() == expected


class Copied:
    """A batch that writes down how it is copied, since there may be no GPU here."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.steps: list[object] = []

    def pin_memory(self) -> Copied:
        self.steps.append("pinned")
        return self

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Copied:
        self.steps.append((str(device), non_blocking))
        return self


def test_a_gpu_copies_from_pinned_memory_and_others_plainly() -> None:
    for name, steps in (("cuda", ["pinned", ("cuda", True)]), ("cpu", [("cpu", False)])):
        batch = Copied()
        Place(torch.device(name)).put(batch)  # type: ignore[arg-type]
        assert batch.steps == steps
    numbers = torch.ones(3)
    assert Place.of("cpu").put(numbers) is numbers
    assert Place.of("meta").put(numbers).device.type == "meta"
