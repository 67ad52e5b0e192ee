"""Tasks for lm-evaluation-harness: its YAML files, and what they call."""
