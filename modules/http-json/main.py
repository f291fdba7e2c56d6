"""Asks a web address for JSON again and again; its answer is the model."""

import base64
import json
import sys
import time
import urllib.error
import urllib.request

import cloister


def ask(settings):
    """What the address answers."""
    request = urllib.request.Request(settings["url"], headers={"Accept": "application/json"})
    if settings["user"]:
        word = f"{settings['user']}:{settings['password']}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(word).decode())
    name, colon, value = settings["header"].partition(":")
    if colon:
        request.add_header(name.strip(), value.strip())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


while True:
    try:
        cloister.output(ask(cloister.MODEL))
    except (urllib.error.URLError, OSError, ValueError, cloister.QueryError) as error:
        print(f"no answer: {error}", file=sys.stderr, flush=True)
    time.sleep(float(cloister.MODEL["seconds"]))
