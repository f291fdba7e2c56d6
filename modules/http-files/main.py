"""Reads dated text files per device and sensor from a web server, and merges them into one model."""

import base64
import datetime
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import cloister

BETWEEN = re.compile(r"\s*[;,\t]\s*|\s+(?=[-+.\d]+$)")
LONGEST = datetime.timedelta(days=366)


def names(text):
    return [part.strip() for part in text.split(",") if part.strip()]


def days(settings):
    """The days that are wanted, oldest first."""
    today = datetime.datetime.now(datetime.UTC).date()
    first = datetime.date.fromisoformat(settings["from"][:10]) if settings["from"] else today
    last = datetime.date.fromisoformat(settings["until"][:10]) if settings["until"] else today
    last = min(last, first + LONGEST)
    return [first + datetime.timedelta(days=n) for n in range((last - first).days + 1)]


def read(settings, path):
    """The text of a file; None when there is none.

    Raises:
        OSError: when the server does not answer.
    """
    request = urllib.request.Request(settings["url"].rstrip("/") + "/" + urllib.parse.quote(path))
    if settings["user"]:
        word = f"{settings['user']}:{settings['password']}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(word).decode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def values(text):
    """Pairs of a time and a number, of the lines that are such."""
    for line in text.splitlines():
        parts = BETWEEN.split(line.strip(), maxsplit=1)
        if len(parts) == 2:
            try:
                yield parts[0], float(parts[1])
            except ValueError:
                continue  # a heading, or a remark


def collect(settings, kept):
    """The model; ``kept`` has the files of days that are over."""
    rows, latest, missing, count = {}, {}, [], 0
    today = datetime.datetime.now(datetime.UTC).date()
    for device in names(settings["devices"]):
        for sensor in names(settings["sensors"]):
            for day in days(settings):
                path = settings["path"].format(device=device, sensor=sensor, date=day.isoformat())
                text = kept.get(path)
                if text is None:
                    text = read(settings, path)
                    if text is None:
                        missing.append(path)
                        continue
                    if day < today:
                        kept[path] = text
                count += 1
                for moment, value in values(text):
                    rows.setdefault(moment, {"time": moment})[f"{device}.{sensor}"] = value
                    latest.setdefault(device, {})[sensor] = value
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ordered = [rows[moment] for moment in sorted(rows)]
    return {"rows": ordered[-5000:], "latest": latest, "missing": missing, "files": count, "at": at}


def put_out(model):
    """Deliver a model; of rows that are too many to be sent at once every other, the newest among them."""
    while True:
        try:
            return cloister.output(model)
        except cloister.QueryError as error:
            if error.code != "too_large" or len(model["rows"]) < 2:
                raise
            model = {**model, "rows": model["rows"][::-2][::-1], "thinned": True}


def main():
    kept = {}
    while True:
        try:
            put_out(collect(cloister.MODEL, kept))
        except (OSError, KeyError, ValueError, cloister.QueryError) as error:
            print(f"could not read: {error}", file=sys.stderr, flush=True)
        time.sleep(float(cloister.MODEL["seconds"]))


main()
