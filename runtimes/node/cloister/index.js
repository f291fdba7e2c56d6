// What integrations in Node use: MODEL, the configuration, output(value), a new model for all widgets that draw it, and
// sql(query, params), which asks governed data.
"use strict";
const fs = require("node:fs");
const http = require("node:http");

const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
let model;
let next = null; // the newest value that waits; older ones are skipped
let busy = false;

function post(path, body) {
  const token = fs.readFileSync(process.env.CLOISTER_TOKEN_FILE || "/dev/shm/cloister-token", "utf8").trim();
  const options = {
    agent,
    socketPath: process.env.CLOISTER_INNER || "/run/cloister/inner.sock",
    path,
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, Accept: "application/json", "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      let said = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => (said += chunk));
      response.on("end", () => (response.statusCode < 300 ? resolve(said) : reject(failure(said, response.statusCode))));
    });
    request.on("error", reject);
    request.end(body);
  });
}

function failure(said, status) {
  let problem = {};
  try {
    problem = JSON.parse(said);
  } catch {
    // no answer of the platform's: then the status has to do
  }
  return Object.assign(new Error(problem.detail || `status ${status}`), { code: problem.code || "internal" });
}

async function drain() {
  busy = true;
  while (next !== null) {
    const { body, settle } = next;
    next = null;
    try {
      await post("/v1/output", body);
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

// Governed data, as far as whoever added the module may ask: an array of objects. Rejects with an Error that has a `code`.
exports.sql = async (query, params = null) => {
  const { columns, rows } = JSON.parse(await post("/v1/query", JSON.stringify({ sql: query, params })));
  return rows.map((row) => Object.fromEntries(row.map((value, place) => [columns[place].name, value])));
};

Object.defineProperty(exports, "MODEL", {
  enumerable: true,
  get() {
    if (model === undefined) model = JSON.parse(fs.readFileSync("/dev/shm/cloister-configuration", "utf8"));
    return model;
  },
});
