"""Plain tracebacks in the log: the default ones of structlog take seconds and hold the event loop meanwhile."""

import pytest
import structlog


@pytest.fixture(autouse=True, scope="session")
def _plain_log():
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, renderer]
    )
    yield
    structlog.reset_defaults()
