"""Settings: one documented schema, from defaults, a file, the environment and the command line."""
