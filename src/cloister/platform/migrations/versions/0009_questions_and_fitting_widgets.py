"""questions of agreements, and what widgets draw"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('agreement_versions', schema=None) as batch_op:
        batch_op.add_column(sa.Column('questions', sa.JSON(), nullable=False, server_default='[]'))
    with op.batch_alter_table('modules', schema=None) as batch_op:
        batch_op.add_column(sa.Column('accepts', sa.JSON(), nullable=False, server_default='["any"]'))


def downgrade() -> None:
    with op.batch_alter_table('agreement_versions', schema=None) as batch_op:
        batch_op.drop_column('questions')
    with op.batch_alter_table('modules', schema=None) as batch_op:
        batch_op.drop_column('accepts')
