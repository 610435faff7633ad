"""The accuracy bench and others: what is trained and measured, and the report of it."""
