"""What is measured of the running agent: throughput, latency and MQTT, beside other people's programs."""
