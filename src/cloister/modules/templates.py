"""What a new module begins with: small, and running."""

_CONFIG = b'[\n  {"type": "slider", "name": "every", "label": "Seconds between values", "default": 1, "min": 1, "max": 60}\n]\n'
_NEEDS = b"""# What it may. What is not declared is not granted, and whoever adds it sees it first.
permissions:
  hosts: []  # such as [{host: api.example.org, ports: [443]}]
  datasets: false  # or [rain], or true for any that whoever adds it may ask
"""

TEMPLATES: dict[str, dict[str, bytes]] = {
    "python": {
        "config.json": _CONFIG,
        "README.md": b"# A new integration\n\nSays what time it is.\n",
        "module.yaml": _NEEDS,
        "main.py": b"""import time

import cloister

while True:
    cloister.output({"now": time.time()})
    time.sleep(cloister.MODEL["every"])
""",
    },
    "node": {
        "config.json": _CONFIG,
        "README.md": b"# A new integration\n\nSays what time it is.\n",
        "module.yaml": _NEEDS,
        "package.json": b'{"name": "module", "private": true}\n',
        "index.js": b"""const cloister = require("cloister");

setInterval(() => cloister.output({ now: Date.now() / 1000 }), cloister.MODEL.every * 1000);
""",
    },
    "go": {
        "config.json": _CONFIG,
        "README.md": b"# A new integration\n\nSays what time it is.\n",
        "module.yaml": _NEEDS,
        "go.mod": b"module clock\n\ngo 1.24\n",
        "main.go": b"""package main

import (
\t"time"

\t"cloister"
)

func main() {
\tevery := time.Duration(cloister.MODEL["every"].(float64) * float64(time.Second))
\tfor {
\t\tcloister.Output(map[string]any{"now": time.Now().Unix()})
\t\ttime.Sleep(every)
\t}
}
""",
    },
    "widget": {
        "config.json": b'[{"type": "color", "name": "color", "label": "Colour", "default": "#1d2733"}]\n',
        "README.md": b"# A new widget\n\nShows a value in large letters.\n",
        "index.html": b"""<!doctype html>
<title>Value</title>
<script src="/lib/cloister.js"></script>
<body style="font: 3rem system-ui; display: grid; place-items: center; height: 100vh; margin: 0"></body>
<script>
  const show = () => {
    document.body.textContent = JSON.stringify(cloister.data);
    document.body.style.color = cloister.config.color;
  };
  cloister.onDataChanged(show);
  cloister.onConfigChanged(show);
</script>
""",
    },
}
