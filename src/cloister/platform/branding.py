"""What an installation is called and looks like: settings, and what an operator has changed of them in the browser."""

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform.database import Base

THE_ONE = 1


class Branding(Base):
    """One row, once an operator has changed something. It wins over the settings."""

    __tablename__ = "branding"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    color: Mapped[str]
    welcome: Mapped[str]
    sign_in: Mapped[str]
    links: Mapped[list[dict[str, str]]]
    logo: Mapped[bytes | None] = mapped_column(LargeBinary)
    logo_type: Mapped[str | None]
    updated_at: Mapped[datetime]
