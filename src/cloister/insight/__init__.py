"""What the record and the use of machines say when they are looked at together. Reads everything, owns nothing."""

from cloister.insight.anomalies import AnomalyController
from cloister.insight.rules import RULES, Engine, Found, Key, Rule, Seen, Sign, signs

__all__ = ["RULES", "AnomalyController", "Engine", "Found", "Key", "Rule", "Seen", "Sign", "signs"]
