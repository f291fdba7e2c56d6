"""Asks the space's governed data a question, again and again."""

import sys
import time

import cloister

MOST = 5000


def model(table):
    rows = table.slice(0, MOST).to_pylist()
    return {"columns": table.column_names, "rows": rows, "first": rows[0] if rows else None, "count": table.num_rows}


while True:
    try:
        cloister.output(model(cloister.sql(cloister.MODEL["sql"])))
    except cloister.QueryError as error:
        print(f"{error} ({error.code})", file=sys.stderr, flush=True)
    time.sleep(float(cloister.MODEL["seconds"]))
