"""Prometheus metrics of the control plane. Labels never name a person."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

REGISTRY = CollectorRegistry()

REQUESTS = Counter("cloister_http_requests", "Requests answered", ["method", "route", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "cloister_http_request_seconds",
    "Time to answer",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
AUDIT_RECORDS = Counter("cloister_audit_records", "Audit records made durable", registry=REGISTRY)
SANDBOXES = Gauge("cloister_sandboxes", "Sandboxes by state", ["state"], registry=REGISTRY)
SANDBOX_START_SECONDS = Histogram(
    "cloister_sandbox_start_seconds",
    "From request to the agent's first word",
    ["purpose"],
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20),
    registry=REGISTRY,
)
WORKSPACE_START_SECONDS = Histogram(
    "cloister_workspace_start_seconds",
    "From being asked for to the app's first answer",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
WORKSPACE_RESTARTS = Counter("cloister_workspace_restarts", "Workspaces started again after a crash", registry=REGISTRY)
RELAYED = Counter("cloister_relay_bytes", "Bytes through the relay", ["direction"], registry=REGISTRY)
QUERIES = Counter("cloister_queries", "Governed queries", ["outcome", "cached"], registry=REGISTRY)
QUERY_SECONDS = Histogram(
    "cloister_query_seconds",
    "Governed query, asked to answered",
    ["cached"],
    buckets=(0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    registry=REGISTRY,
)
EGRESS_REQUESTS = Counter("cloister_egress_requests", "Requests to the egress proxy", ["outcome"], registry=REGISTRY)
EGRESS_BYTES = Counter("cloister_egress_bytes", "Bytes through the egress proxy", ["direction"], registry=REGISTRY)
ANOMALIES = Counter("cloister_anomalies", "What the anomaly rules found", ["rule"], registry=REGISTRY)
CONTROLLER_ERRORS = Counter("cloister_controller_errors", "Passes that failed", ["controller"], registry=REGISTRY)


def exposition() -> bytes:
    return generate_latest(REGISTRY)
