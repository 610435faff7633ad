"""The commands around the agent, as `cli` collects them: each file is a group of them."""
