// What integrations in Node use: MODEL, the configuration, and output(value), a new model for all widgets that draw it.
"use strict";
const fs = require("node:fs");
const http = require("node:http");

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
let model;
let next = null; // the newest value that waits; older ones are skipped
let busy = false;

function post(body) {
  const token = fs.readFileSync(process.env.CLOISTER_TOKEN_FILE || "/dev/shm/cloister-token", "utf8").trim();
  const options = {
    agent,
    socketPath: process.env.CLOISTER_INNER || "/run/cloister/inner.sock",
    path: "/v1/output",
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      let said = "";
      response.on("data", (chunk) => (said += chunk));
      response.on("end", () => (response.statusCode < 300 ? resolve() : reject(new Error(said || `status ${response.statusCode}`))));
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function drain() {
  busy = true;
  while (next !== null) {
    const { body, settle } = next;
    next = null;
    try {
      await post(body);
      settle.resolve();
    } catch (error) {
      console.error(`output: ${error.message}`);
      settle.resolve();
    }
  }
  busy = false;
}

exports.output = (value) => {
  const body = JSON.stringify(value === undefined ? null : value);
  return new Promise((resolve) => {
    if (next !== null) next.settle.resolve();
    next = { body, settle: { resolve } };
    if (!busy) drain();
  });
};

Object.defineProperty(exports, "MODEL", {
  enumerable: true,
  get() {
    if (model === undefined) model = JSON.parse(fs.readFileSync("/dev/shm/cloister-configuration", "utf8"));
    return model;
  },
});
