import pytest

from mer_agent.errors import DeviceError
from mer_agent.streams.devices import DeviceInfo, choose

DEVICES = [
    DeviceInfo(0, "HDA Intel PCH: ALC257 Analog (hw:0,0)", ""),
    DeviceInfo(2, "Jabra SPEAK 510 USB", "", default=True),
    DeviceInfo(5, "Jabra Link 380", ""),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("default", 2), ("0", 0), ("5", 5), ("jabra link 380", 5), ("speak", 2), ("hw:0,0", 0)],
)
def test_a_device_is_meant_by_number_name_or_part_of_it(wanted: str, index: int) -> None:
    assert choose(DEVICES, wanted, "microphone").index == index


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("1", "there is no microphone '1'; there is: 0 HDA"),
        ("Jabra SPEAK 501 USB", "did you mean 'Jabra SPEAK 510 USB'"),
        ("jabra", "more than one microphone is called 'jabra': 2 Jabra SPEAK 510 USB, 5 Jabra Link 380"),
    ],
)
def test_what_is_unknown_or_could_be_two_is_a_clear_error(wanted: str, message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose(DEVICES, wanted, "microphone")
    assert message in str(caught.value)


def test_without_any_device_the_error_says_so() -> None:
    with pytest.raises(DeviceError, match="no camera was found"):
        choose([], "default", "camera")


def test_where_the_system_prefers_none_the_first_is_the_default() -> None:
    assert choose(DEVICES[::2], "default", "microphone").index == 0
