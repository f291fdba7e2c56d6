"""branding"""

import sqlalchemy as sa
from alembic import op

import cloister.platform.database

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('branding',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('color', sa.String(), nullable=False),
    sa.Column('welcome', sa.String(), nullable=False),
    sa.Column('sign_in', sa.String(), nullable=False),
    sa.Column('links', sa.JSON(), nullable=False),
    sa.Column('logo', sa.LargeBinary(), nullable=True),
    sa.Column('logo_type', sa.String(), nullable=True),
    sa.Column('updated_at', cloister.platform.database.UtcDateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_branding'))
    )


def downgrade() -> None:
    op.drop_table('branding')
