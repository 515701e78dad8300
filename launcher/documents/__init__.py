"""What `--json` prints: a record a document, from which docs/json.md and the JSON Schemas are made.

A command prints the `plain` of the very value that its class describes. A field is never taken away or given another
meaning without a new `printed.SCHEMA`; new ones may come.
"""
