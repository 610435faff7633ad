from mer_agent.health import Health


def test_the_agent_is_degraded_while_one_of_its_sources_is_not_what_it_should_be() -> None:
    told: list[tuple[str, dict[str, str]]] = []
    health = Health(lambda state, sources: told.append((state, dict(sources))))
    for source, state in (
        ("audio-0", "opening"),
        ("audio-0", "capturing"),
        ("video-0", "frozen"),
        ("video-0", "frozen"),
        ("audio-0", "silent"),
        ("video-0", "capturing"),
    ):
        health.report(source, state)
    assert told == [
        ("ready", {"audio-0": "opening"}),
        ("ready", {"audio-0": "capturing"}),
        ("degraded", {"audio-0": "capturing", "video-0": "frozen"}),
        ("degraded", {"audio-0": "silent", "video-0": "frozen"}),
        ("ready", {"audio-0": "silent", "video-0": "capturing"}),
    ]
    assert health.state == "ready"
