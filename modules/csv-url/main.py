"""Reads a CSV file from a web address, again and again."""

import csv
import io
import itertools
import sys
import time
import urllib.request

import cloister


def plain(text):
    """A number where a text is one."""
    try:
        return int(text)
    except (TypeError, ValueError):
        pass
    try:
        number = float(text)
    except (TypeError, ValueError):
        return text
    return number if abs(number) < float("inf") else text


def read(settings):
    with urllib.request.urlopen(settings["url"], timeout=60) as answer:
        lines = csv.DictReader(io.TextIOWrapper(answer, "utf-8-sig"), delimiter=settings["separator"])
        wanted = itertools.islice(lines, int(settings["rows"]))
        rows = [{name: plain(value) for name, value in row.items() if name is not None} for row in wanted]
        return {"columns": list(lines.fieldnames or []), "rows": rows, "count": len(rows)}


while True:
    try:
        cloister.output(read(cloister.MODEL))
    except (OSError, ValueError, csv.Error, cloister.QueryError) as error:
        print(f"could not read: {error}", file=sys.stderr, flush=True)
    time.sleep(float(cloister.MODEL["seconds"]))
