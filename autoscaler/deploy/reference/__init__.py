"""The policy described from its types, for editors and for readers.

fields.py reads what a field is for, schema.py writes `policy.schema.json`, page.py `docs/policy/reference.md`;
`make reference` writes both.
"""
