"""exports"""

import sqlalchemy as sa
from alembic import op

import cloister.platform.database

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('exports',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('space', sa.String(), nullable=False),
    sa.Column('team', sa.Integer(), nullable=False),
    sa.Column('person', sa.Integer(), nullable=False),
    sa.Column('insiders', sa.JSON(), nullable=False),
    sa.Column('why', sa.String(), nullable=False),
    sa.Column('files', sa.JSON(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('kept', sa.Boolean(), nullable=False),
    sa.Column('kept_until', cloister.platform.database.UtcDateTime(timezone=True), nullable=True),
    sa.Column('decided_by', sa.Integer(), nullable=True),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('asked_at', cloister.platform.database.UtcDateTime(timezone=True), nullable=False),
    sa.Column('decided_at', cloister.platform.database.UtcDateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['decided_by'], ['people.number'], name=op.f('fk_exports_decided_by')),
    sa.ForeignKeyConstraint(['person'], ['people.number'], name=op.f('fk_exports_person')),
    sa.ForeignKeyConstraint(['space'], ['spaces.space'], name=op.f('fk_exports_space')),
    sa.ForeignKeyConstraint(['team'], ['teams.team'], name=op.f('fk_exports_team')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_exports'))
    )
    with op.batch_alter_table('exports', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_exports_space'), ['space'], unique=False)
        batch_op.create_index(batch_op.f('ix_exports_state'), ['state'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('exports', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_exports_state'))
        batch_op.drop_index(batch_op.f('ix_exports_space'))

    op.drop_table('exports')
