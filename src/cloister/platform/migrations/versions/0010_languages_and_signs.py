"""the language of a person's letters, and what was seen in a workspace as a word and a figure"""

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('people', schema=None) as batch_op:
        batch_op.add_column(sa.Column('language', sa.String(), nullable=False, server_default='en'))
    with op.batch_alter_table('workspaces', schema=None) as batch_op:
        batch_op.add_column(sa.Column('busy_word', sa.String(), nullable=True))
        batch_op.add_column(sa.Column('busy_value', sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('workspaces', schema=None) as batch_op:
        batch_op.drop_column('busy_value')
        batch_op.drop_column('busy_word')
    with op.batch_alter_table('people', schema=None) as batch_op:
        batch_op.drop_column('language')
