"""The query worker. It runs inside a sandbox, never in the control plane, and imports nothing of Cloister."""
