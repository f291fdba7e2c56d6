"""Everything anybody can ask to do. Each HTTP route declares exactly one; ``access`` says who may."""

from enum import StrEnum


class Action(StrEnum):
    """The vocabulary of decisions. ``domain.verb``."""

    # Anybody, signed in or not
    PUBLIC_READ = "public.read"
    SIGN_IN = "public.sign_in"
    # Anybody signed in, about themselves
    SELF_READ = "self.read"
    OPERATION_READ = "operation.read"
    SELF_WRITE = "self.write"
    # Operators, about the platform
    PLATFORM_READ = "platform.read"
    PLATFORM_WRITE = "platform.write"
    AUDIT_READ_ALL = "platform.audit.read"
    # Anybody signed in: modules belong to their authors, and to no space
    MODULE_READ = "module.read"
    MODULE_WRITE = "module.write"
    # Anybody who can sign it with the module's secret
    MODULE_HOOK = "module.hook"
    # Inside one space
    SPACE_SEE = "space.see"
    SPACE_ENROL = "space.enrol"
    SPACE_READ = "space.read"
    SPACE_CONFIGURE = "space.configure"
    ENROLMENT_REVIEW = "enrolment.review"
    TEAM_READ = "team.read"
    TEAM_CREATE = "team.create"
    TEAM_CHANGE = "team.change"
    DATASET_READ = "dataset.read"
    DATASET_WRITE = "dataset.write"
    GRANT_READ = "grant.read"
    GRANT_WRITE = "grant.write"
    QUERY_RUN = "query.run"
    DATASET_DOWNLOAD = "dataset.download"
    SANDBOX_READ = "sandbox.read"
    SANDBOX_RUN = "sandbox.run"
    SANDBOX_OUTPUT = "sandbox.output"
    SANDBOX_STOP = "sandbox.stop"
    WORKSPACE_READ = "workspace.read"
    WORKSPACE_USE = "workspace.use"
    WORKSPACE_MANAGE = "workspace.manage"
    CAPACITY_DECIDE = "capacity.decide"
    EXPORT_READ = "export.read"
    EXPORT_ASK = "export.ask"
    EXPORT_DECIDE = "export.decide"
    DASHBOARD_READ = "dashboard.read"
    DASHBOARD_WRITE = "dashboard.write"
    SPACE_AUDIT_READ = "space.audit.read"


def guard(action: Action, *, transaction: bool = True, writes: bool = False) -> dict[str, str | bool]:
    """What a route says of itself (as its ``openapi_extra``); the edge refuses to serve a route that says nothing.

    Args:
        action: what the route does, in the words that ``access`` decides by.
        transaction: False for routes that stream and open short transactions of their own.
        writes: True for a GET that changes something all the same (a browser that comes back from a sign-in).
    """
    return {"x-cloister-action": action.value, "x-cloister-transaction": transaction, "x-cloister-writes": writes}
