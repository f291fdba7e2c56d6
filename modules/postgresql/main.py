"""Asks a PostgreSQL database a question, again and again."""

import datetime
import decimal
import sys
import time
import urllib.parse

import psycopg
from psycopg.rows import dict_row

import cloister

MOST = 5000


def plain(value):
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def ask(settings, server):
    # The name is checked against the certificate; the connection goes to the loopback end of the platform's way out.
    with psycopg.connect(
        host=server.hostname, hostaddr="127.0.0.1", port=cloister.forward(server.hostname, server.port or 5432),
        dbname=server.path.strip("/") or None, user=settings["user"] or None, password=settings["password"] or None,
        sslmode=settings["tls"], row_factory=dict_row, connect_timeout=20,
    ) as connection:  # fmt: skip
        connection.read_only = True
        cursor = connection.execute(settings["sql"])
        rows = [{name: plain(value) for name, value in row.items()} for row in cursor.fetchmany(MOST)]
        columns = [column.name for column in cursor.description or ()]
        return {"columns": columns, "rows": rows, "first": rows[0] if rows else None, "count": len(rows)}


def main():
    settings = cloister.MODEL
    server = urllib.parse.urlsplit(settings["server"])
    while True:
        try:
            cloister.output(ask(settings, server))
        except (psycopg.Error, OSError, cloister.QueryError) as error:
            print(f"no answer: {error}", file=sys.stderr, flush=True)
        time.sleep(float(settings["seconds"]))


main()
