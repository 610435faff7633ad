"""The contract with dialogue systems: messages, topics, and how they travel over MQTT."""
