"""How Alembic runs here: on the connection and metadata that `cloister.bootstrap.migrations` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_name=context.config.attributes["include_name"],
)
with context.begin_transaction():
    context.run_migrations()
