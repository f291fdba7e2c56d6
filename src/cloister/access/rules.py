"""The rules: for each action, who may. ``docs/access.md`` is made from this table."""

from dataclasses import dataclass
from enum import StrEnum

from cloister.core.actions import Action
from cloister.core.principal import Role


class Who(StrEnum):
    """Groups of people that are not roles."""

    ANYBODY = "anybody"
    SIGNED_IN = "signed in"
    OPERATORS = "operators"
    ROLES = "roles"


@dataclass(frozen=True)
class Rule:
    """Who may do one thing."""

    who: Who
    roles: frozenset[Role] = frozenset()
    operator: bool = False
    """Whether an operator may without a role in the space. They run the platform; they do not own its data."""
    own_team: bool = False
    """Members reach only what is their own team's."""
    suspended: bool = False
    """Allowed also while a signature is missing."""


OWNER, STEWARD, REVIEWER = Role.OWNER, Role.STEWARD, Role.REVIEWER
MEMBER, VIEWER = Role.MEMBER, Role.VIEWER


def _roles(*roles: Role, operator: bool = True, own_team: bool = False, suspended: bool = False) -> Rule:
    return Rule(Who.ROLES, frozenset(roles), operator, own_team, suspended)


RULES: dict[Action, Rule] = {
    Action.PUBLIC_READ: Rule(Who.ANYBODY),
    Action.SIGN_IN: Rule(Who.ANYBODY),
    Action.SELF_READ: Rule(Who.SIGNED_IN),
    Action.OPERATION_READ: Rule(Who.SIGNED_IN, operator=True),
    Action.SELF_WRITE: Rule(Who.SIGNED_IN),
    Action.PLATFORM_READ: Rule(Who.OPERATORS, operator=True),
    Action.PLATFORM_WRITE: Rule(Who.OPERATORS, operator=True),
    Action.AUDIT_READ_ALL: Rule(Who.OPERATORS, operator=True),
    Action.MODULE_READ: Rule(Who.SIGNED_IN),
    Action.MODULE_HOOK: Rule(Who.ANYBODY),
    Action.MODULE_WRITE: Rule(Who.SIGNED_IN),
    Action.SPACE_SEE: Rule(Who.ANYBODY),
    Action.SPACE_ENROL: Rule(Who.SIGNED_IN),
    Action.SPACE_READ: _roles(OWNER, STEWARD, REVIEWER, MEMBER, VIEWER, suspended=True),
    Action.SPACE_CONFIGURE: _roles(OWNER),
    Action.ENROLMENT_REVIEW: _roles(OWNER, STEWARD),
    Action.TEAM_READ: _roles(OWNER, STEWARD, REVIEWER, MEMBER, own_team=True, suspended=True),
    Action.TEAM_CREATE: _roles(MEMBER, operator=False),
    Action.TEAM_CHANGE: _roles(OWNER, MEMBER, own_team=True),
    Action.DATASET_READ: _roles(OWNER, STEWARD, REVIEWER, MEMBER, VIEWER),
    Action.DATASET_WRITE: _roles(OWNER, STEWARD),
    Action.GRANT_READ: _roles(OWNER, STEWARD),
    Action.GRANT_WRITE: _roles(STEWARD, operator=False),
    Action.QUERY_RUN: _roles(OWNER, STEWARD, MEMBER, operator=False, own_team=True),
    Action.DATASET_DOWNLOAD: _roles(OWNER, STEWARD, MEMBER, operator=False, own_team=True),
    Action.SANDBOX_READ: _roles(OWNER, STEWARD, MEMBER, own_team=True),
    Action.SANDBOX_RUN: _roles(OWNER, STEWARD, MEMBER, operator=False, own_team=True),
    Action.SANDBOX_OUTPUT: _roles(OWNER, STEWARD, MEMBER, operator=False, own_team=True),
    Action.SANDBOX_STOP: _roles(OWNER, STEWARD, MEMBER, own_team=True),
    Action.WORKSPACE_READ: _roles(OWNER, STEWARD, MEMBER, own_team=True),
    Action.WORKSPACE_USE: _roles(MEMBER, operator=False, own_team=True),
    Action.WORKSPACE_MANAGE: _roles(OWNER, STEWARD, MEMBER, own_team=True),
    Action.CAPACITY_DECIDE: _roles(OWNER, STEWARD),
    Action.EXPORT_READ: _roles(OWNER, STEWARD, REVIEWER, MEMBER, operator=False, own_team=True),
    Action.EXPORT_ASK: _roles(MEMBER, operator=False, own_team=True),
    Action.EXPORT_DECIDE: _roles(STEWARD, REVIEWER, operator=False),
    Action.DASHBOARD_READ: _roles(OWNER, STEWARD, MEMBER, operator=False, own_team=True),
    Action.DASHBOARD_WRITE: _roles(MEMBER, operator=False, own_team=True),
    Action.SPACE_AUDIT_READ: _roles(OWNER, STEWARD),
}


def table() -> str:
    """The rules as a Markdown table."""
    columns = (OWNER, STEWARD, REVIEWER, MEMBER, VIEWER)
    lines = [
        "| action | " + " | ".join(role.value for role in columns) + " | operator | signed in | anybody |",
        "| --- |" + " :-: |" * (len(columns) + 3),
    ]
    for action, rule in RULES.items():
        anybody = rule.who is Who.ANYBODY
        signed_in = anybody or rule.who is Who.SIGNED_IN
        cells = []
        for role in columns:
            allowed = signed_in or role in rule.roles
            cells.append(("own team" if rule.own_team and role is MEMBER else "yes") if allowed else "")
        cells += ["yes" if flag else "" for flag in (signed_in or rule.operator, signed_in, anybody)]
        lines.append(f"| `{action.value}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)
