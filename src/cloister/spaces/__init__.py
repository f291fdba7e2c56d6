"""Spaces, teams, enrolments and agreements: who is in, on what terms and for how long."""

from cloister.spaces.admission import AdmissionController
from cloister.spaces.declaration import (
    JUPYTERLAB,
    AppDeclaration,
    EgressRule,
    EnvironmentDeclaration,
    Policies,
    Size,
    SpaceDeclaration,
)
from cloister.spaces.declared import Declared, Moment, parse_bytes
from cloister.spaces.enrolment import Application, Enrolments
from cloister.spaces.errors import SpaceNotFound, TeamNotFound
from cloister.spaces.lifecycle import Spaces
from cloister.spaces.models import Enrolment, Space, Team
from cloister.spaces.store import active_space, declared, get_space, get_team, in_space, team_number
from cloister.spaces.teams import members

__all__ = [
    "JUPYTERLAB",
    "AdmissionController",
    "AppDeclaration",
    "Application",
    "Declared",
    "EgressRule",
    "Enrolment",
    "Enrolments",
    "EnvironmentDeclaration",
    "Moment",
    "Policies",
    "Size",
    "Space",
    "SpaceDeclaration",
    "SpaceNotFound",
    "Spaces",
    "Team",
    "TeamNotFound",
    "active_space",
    "declared",
    "get_space",
    "get_team",
    "in_space",
    "members",
    "parse_bytes",
    "team_number",
]
