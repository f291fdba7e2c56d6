"""Every table, imported so that the metadata is whole."""

import cloister.access.models
import cloister.airlock.models
import cloister.audit.models
import cloister.dashboards.models
import cloister.datasets.models
import cloister.gateway.models
import cloister.identity.models
import cloister.modules.models
import cloister.platform.branding
import cloister.platform.idempotency
import cloister.platform.mail
import cloister.platform.operations
import cloister.sandboxes.models
import cloister.spaces.models
import cloister.workspaces.models  # noqa: F401
from cloister.platform import Base

metadata = Base.metadata
