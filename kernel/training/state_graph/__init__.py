"""The state of live objects as plain data, with identity: what was one object is one object again."""
