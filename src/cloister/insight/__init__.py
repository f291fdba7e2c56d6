"""What the record and the use of machines say when they are looked at together. Reads everything, owns nothing."""

from cloister.insight.anomalies import AnomalyController
from cloister.insight.costs import by_day, by_hour_of_week
from cloister.insight.machine import Machines, declared_environments
from cloister.insight.rules import RULES, Engine, Found, Key, Rule, Seen, Sign, signs
from cloister.insight.uptime import UptimeController, incidents_of

__all__ = [
    "RULES",
    "AnomalyController",
    "Engine",
    "Found",
    "Key",
    "Machines",
    "Rule",
    "Seen",
    "Sign",
    "UptimeController",
    "by_day",
    "by_hour_of_week",
    "declared_environments",
    "incidents_of",
    "signs",
]
